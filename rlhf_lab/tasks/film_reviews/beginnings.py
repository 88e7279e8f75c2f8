"""The rated sentences as a task of one's own: go on with the beginning of a line about a film.

The first words of a sentence are a prompt, the rest is a response to it. Sentences that begin with
the same words answer the same prompt, and their ratings rank them: K of them at a time, each by one
single rating. So prompts, demonstrations and rankings are all real people's, none is made up. But
the ranked responses are critics', not a model's, and nobody was asked how well one goes on from
the beginning: what is preferred is what was meant more kindly.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from rlhf_lab.disk.files import write_demonstrations, write_prompts, write_rankings
from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError
from rlhf_lab.records import Demonstration, Prompt, Ranking
from rlhf_lab.tasks.film_reviews.draw import K
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence
from rlhf_lab.tasks.film_reviews.split_half import deal
from rlhf_lab.tasks.folder import SETTINGS

WORDS = 2  # of a beginning
MORE = 3  # words at least that follow it
LABELLER = "raters of the study"
TASK = '''\
# Lines about films, and what people thought of them: docs/your-own-task.md
name = "film lines"
prompts = "prompts.jsonl"
demonstrations = "demonstrations.jsonl"
longest_response = 64
guidelines = """
Each response goes on with a line about a film. The kinder a line is to its film, the better.
"""
'''


def write_task(
    folder: str | Path, sentences: Sequence[Sentence], ratings: int = 4, seed: int = 0
) -> dict[str, int]:
    """Write a task (`tasks.folder`) and rankings.jsonl, to be taken into its store; returns how
    many of each there are. ratings: how many single ratings of each sentence the rankings use.

    Raises UserError, and writes nothing, if the folder holds anything, or for no rating at all.
    """
    if ratings < 1:
        raise UserError(f"{ratings} ratings of each sentence rank nothing: take 1 or more")
    folder = Path(folder)
    check_place(folder, folder=True)
    shown = demonstrations(sentences)
    ranked = rankings(sentences, ratings, seed)
    prompts = list(dict.fromkeys(d.prompt.text for d in shown))
    write_prompts(folder / "prompts.jsonl", [_prompt(first) for first in prompts])
    write_demonstrations(folder / "demonstrations.jsonl", shown)
    write_rankings(folder / "rankings.jsonl", ranked)
    write_whole(folder / SETTINGS, TASK)
    return {"prompts": len(prompts), "demonstrations": len(shown), "rankings": len(ranked)}


def demonstrations(sentences: Sequence[Sentence]) -> list[Demonstration]:
    """Every sentence that is long enough, as a beginning and how it went on."""
    parts = [(one, *beginning(one.text)) for one in sentences]
    return [
        Demonstration(Prompt(f"review-{one.id}", first), rest) for one, first, rest in parts if rest
    ]


def rankings(sentences: Sequence[Sentence], ratings: int, seed: int = 0) -> list[Ranking]:
    """In so many rounds, sentences with the same beginning are put into groups of at most K at
    random, and ranked by their next single rating; one alone in its group is left out.

    Raises UserError if a sentence has too few ratings.
    """
    dealt, _ = deal(sentences, ratings, seed, left=0)
    groups: dict[str, list[Sentence]] = {}
    for one in dealt:
        if beginning(one.text)[1]:
            groups.setdefault(beginning(one.text)[0], []).append(one)
    drawn = []
    for turn in range(ratings):
        for first, group in groups.items():
            order = list(group)
            random.Random(f"ratings/beginnings/{seed}/{turn}/{first}").shuffle(order)
            drawn += [
                _ranking(first, order[start : start + K], turn)
                for start in range(0, len(order) - 1, K)
            ]
    return [ranking for ranking in drawn if ranking]


def beginning(text: str) -> tuple[str, str]:
    """The first words of a sentence and the rest; ("", "") if too few follow."""
    words = text.split()
    if len(words) < WORDS + MORE:
        return "", ""
    return " ".join(words[:WORDS]), " ".join(words[WORDS:])


def _ranking(first: str, group: Sequence[Sentence], turn: int) -> Ranking | None:
    rated = {beginning(one.text)[1]: one.ratings[turn] for one in group}
    if len(rated) < 2:
        return None  # alone, or the same sentence twice
    ranks = tuple(1 + sum(other > rating for other in rated.values()) for rating in rated.values())
    return Ranking(_prompt(first), tuple(rated), ranks, LABELLER)


def _prompt(first: str) -> Prompt:
    return Prompt(f"beginning: {first}", first)
