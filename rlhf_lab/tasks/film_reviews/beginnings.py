"""The rated sentences as a task in a folder: continue the beginning of a line about a film.

The first words of a sentence are a prompt, and the rest is a response to it. Sentences that begin
with the same words answer the same prompt, and their ratings rank them: K at a time, each by a
single rating. So prompts, demonstrations and rankings all come from real people. But the ranked
responses were written by critics, not by a model, and nobody was asked how well a response
continues its beginning: the preferred response is the one that is kinder to its film.
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
MORE = 3  # fewest words that follow it
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
    """Write a task (`tasks.folder`) and rankings.jsonl, to be imported into its store; returns
    how many of each there are. ratings: how many single ratings of each sentence the rankings use.

    Raises UserError, and writes nothing, if the folder is not empty, or if ratings is below 1.
    """
    if ratings < 1:
        raise UserError(f"{ratings} ratings of each sentence are too few: take 1 or more")
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
    """Every sentence that is long enough, split into a beginning and its continuation."""
    parts = [(one, *beginning(one.text)) for one in sentences]
    return [
        Demonstration(Prompt(f"review-{one.id}", first), rest) for one, first, rest in parts if rest
    ]


def rankings(sentences: Sequence[Sentence], ratings: int, seed: int = 0) -> list[Ranking]:
    """In each of `ratings` rounds, put sentences with the same beginning into random groups of at
    most K, and rank each group by the next single rating. A sentence alone in a group is left out.

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
