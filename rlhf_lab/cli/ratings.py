"""`rlhf-lab ratings`: fetch real people's ratings, and show how accurate a model can be on them."""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from rlhf_lab.disk.packages import place_of
from rlhf_lab.disk.places import check_place
from rlhf_lab.errors import UserError
from rlhf_lab.intervals import Interval
from rlhf_lab.tasks.film_reviews.beginnings import write_task
from rlhf_lab.tasks.film_reviews.rated_pairs import (
    VALUES,
    Ceiling,
    Pairs,
    accuracy,
    ceiling,
    share_of_ceiling,
    ties,
)
from rlhf_lab.tasks.film_reviews.ratings_file import (
    VADER,
    Sentence,
    cached,
    fetch,
    lexicon_scores,
    read,
)
from rlhf_lab.tasks.film_reviews.split_half import spearman_brown, split_half, worth

SHOWN = (1, 2, 4, 7, 8, 14)  # numbers of ratings per sentence; every sentence has 15 or more


def add_options(sub: argparse.ArgumentParser) -> None:
    """The options of `rlhf-lab ratings`: an action and its arguments."""
    actions = sub.add_subparsers(title="actions", metavar="ACTION", required=True)
    chosen = {}
    for action, text in (
        (
            fetch_,
            "download the ratings with pip (2.5 MB) into the cache folder; RLHF_LAB_CACHE can "
            "name another one",
        ),
        (
            show,
            "show counts, agreement between labellers, and the ceiling that it sets for accuracy; "
            "half a minute",
        ),
        (task, "write the ratings as a task of your own: prompts, demonstrations and rankings"),
    ):
        name = action.__name__.rstrip("_")
        chosen[name] = actions.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + "."
        )
        chosen[name].set_defaults(action=action)
    chosen["task"].add_argument("folder", help="a new folder")
    chosen["task"].add_argument(
        "--ratings",
        type=int,
        default=4,
        help="how many ratings of each sentence to use (default: %(default)s)",
    )
    chosen["fetch"].add_argument(
        "--archive",
        help="read the ratings from this file: the source "
        "distribution of vaderSentiment 3.3.2, downloaded elsewhere",
    )


def run(options: argparse.Namespace) -> None:
    """Run the chosen action. Raises UserError if it fails."""
    options.action(options)


def fetch_(options: argparse.Namespace) -> None:
    if cached():
        print(f"already there: {place_of(VADER)}")
        return
    print(
        f"reading {options.archive}" if options.archive else "fetching 2.5 MB through pip ...",
        flush=True,
    )
    print(
        f"wrote {fetch(archive=options.archive)}\nThe ratings are those of Hutto and Gilbert "
        "(2014), MIT licence."
    )


def show(options: argparse.Namespace) -> None:
    for line in lines(read()):
        print(line, flush=True)


def task(options: argparse.Namespace) -> None:
    check_place(options.folder, folder=True)
    written = write_task(options.folder, read(), options.ratings)
    found = ", ".join(f"{count:,} {what}" for what, count in written.items())
    print(
        f"wrote {options.folder}: {found}; to import the rankings: rlhf-lab feedback import "
        f"{options.folder}/rankings.sqlite3 {options.folder}/rankings.jsonl --labeller raters"
    )


def lines(sentences: Sequence[Sentence]) -> Iterator[str]:
    """The lines that `show` prints; later ones take longer to compute."""
    yield from described(sentences)
    best = ceiling(sentences)
    yield ""
    yield "comparisons of one rating each of two sentences on different sheets, ties counted half"
    yield "alike: both sheets positive, or both negative; 95 % intervals, by bootstrap over sheets"
    yield f"{'':26s}{'all':24s}alike"
    tied = ties(sentences)
    for name, table in (
        ("ties", tied),
        ("ceiling, low estimate", best.low),
        ("ceiling, high estimate", best.high),
        ("ceiling, the middle", best.middle),
    ):
        yield _row(name, table)
    yield ""
    yield f"{'scored by':16s}{'accuracy':16s}{'way to the ceiling':48s}reliability"
    yield f"{'':16s}{'all':7s}{'alike':9s}{'all':24s}{'alike':24s}found  S.-B."
    single = split_half(sentences, 1)
    for k in SHOWN:
        found = worth(sentences, k)
        half = f"{split_half(sentences, k):.3f}" if k <= 7 else "    -"
        yield (
            _opinion(f"{k} rating" + "s" * (k > 1), found, best)
            + f"  {half}  {spearman_brown(single, k):.3f}"
        )
    try:
        found = accuracy(lexicon_scores(one.text for one in sentences), sentences)
        yield _opinion("VADER's lexicon", found, best)
    except UserError as error:
        yield str(error)


def described(sentences: Sequence[Sentence]) -> Iterator[str]:
    """Lines with counts, distribution and spread of the ratings."""
    given = np.concatenate([one.ratings for one in sentences])
    each = [len(one.ratings) for one in sentences]
    within = float(np.mean([np.var(one.ratings, ddof=1) for one in sentences]))
    chance = np.mean([np.var(one.ratings, ddof=1) / len(one.ratings) for one in sentences])
    between = float(np.var([one.mean for one in sentences], ddof=1) - chance)
    sheets = len({one.sheet for one in sentences})
    yield (
        f"{len(sentences):,} sentences on {sheets} sheets, {len(given):,} ratings, {min(each)} "
        f"to {max(each)} a sentence (mean {np.mean(each):.1f}, median {np.median(each):.0f})"
    )
    counts = Counter(given.tolist())
    yield "rating     " + "".join(f"{value:8d}" for value in VALUES)
    yield "share in % " + "".join(f"{100 * counts[int(v)] / len(given):8.1f}" for v in VALUES)
    yield (
        f"mean {given.mean():.2f}; standard deviation {within**0.5:.2f} among the ratings of a "
        f"sentence, {between**0.5:.2f} among the sentences"
    )


def _row(name: str, table: Pairs) -> str:
    return f"{name:26s}{_interval(table.interval)}  {_interval(table.alike.interval)}"


def _opinion(name: str, found: Pairs, best: Ceiling) -> str:
    all_, alike = share_of_ceiling(found, best), share_of_ceiling(found.alike, best.alike)
    return (
        f"{name:16s}{found.accuracy:.3f}  {found.alike.accuracy:.3f}    "
        f"{_interval(all_)}  {_interval(alike)}"
    )


def _interval(found: Interval) -> str:
    value, low, high = found
    return f"{value:.3f} ({low:.3f} to {high:.3f})"
