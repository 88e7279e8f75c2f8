"""Sentences from film reviews, each with every rating it was given (Hutto and Gilbert 2014).

Two files, tab separated, a row for each sentence and both in the same order: id, mean rating and
text; id, mean rating, standard deviation and the single ratings, such as [3, 2, -1], from -4
(extremely negative) to 4 (extremely positive).

The files do not say who gave a rating. But the k-th ratings of successive rows are correlated:
within blocks of 30 rows, one column is too high, or too low, throughout, and this stops where the
block ends. So sentences were handed out in sheets of 30, and on one sheet a column is one labeller.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlhf_lab.disk import packages
from rlhf_lab.disk.packages import Source, Wanted
from rlhf_lab.errors import UserError

LOWEST, HIGHEST = -4, 4
SHEET = 30  # sentences that the same labellers were given


@dataclass(frozen=True)
class Sentence:
    """A sentence and its single ratings, each by a different labeller. id: as in the study, from 1.
    sheet: sentences on one sheet had the same labellers; a rating's place says which labeller."""

    id: int
    text: str
    ratings: tuple[int, ...]
    sheet: int

    @property
    def mean(self) -> float:
        return sum(self.ratings) / len(self.ratings)


def read() -> list[Sentence]:
    """The sentences of the study, from the cache. Raises UserError if they are not there yet."""
    folder = cached()
    if folder is None:
        raise UserError(
            "the ratings are not in the cache: fetch them with `rlhf-lab ratings fetch` "
            "(2.5 MB, through pip)"
        )
    return parse(*((folder / one.name).read_text(encoding="utf-8") for one in VADER.files[1:]))


def parse(texts: str, ratings: str) -> list[Sentence]:
    """Sentences from the contents of the two files, which are not checked: their sha256 was."""
    said = [row.split("\t")[2].strip() for row in texts.strip("\n").split("\n")]
    given = [tuple(json.loads(row.split("\t")[3])) for row in ratings.strip("\n").split("\n")]
    return [
        Sentence(number, text, values, (number - 1) // SHEET)
        for number, (text, values) in enumerate(zip(said, given, strict=True), 1)
    ]


_WITHIN = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"


VADER = Source(
    "vaderSentiment",
    "3.3.2",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    (
        Wanted(
            ("vaderSentiment-3.3.2/LICENSE.txt",),
            "74cfe41cdbf7f6925aeb4c18c148ec8db042540edb6739fd81069aa4e3c8b118",
        ),
        Wanted(
            (_WITHIN, "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"),
            "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
        ),
        Wanted(
            (_WITHIN, "hutto_ICWSM_2014/movieReviewSnippets_anonDataRatings.txt"),
            "658a086bc7239b98b750baa232cab80e6447789020f96a6c847cc1248d7c82f4",
        ),
    ),
)


def cached() -> Path | None:
    """The folder with the files, if they are all in the cache and as they should be."""
    return packages.cached(VADER)


def fetch(archive: str | Path | None = None) -> Path:
    """The folder with the files, fetched if they are not in the cache yet (`packages.fetch`).

    archive: a source distribution downloaded elsewhere, to take them from. Raises UserError if they
    cannot be fetched.
    """
    return packages.fetch(VADER, archive)


def lexicon_scores(texts: Iterable[str]) -> np.ndarray:
    """VADER's compound score of each text, from -1 (blame) to 1 (praise), (B,).

    Raises UserError if the package vaderSentiment is not installed.
    """
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise UserError(
            "lexicon scores need the package vaderSentiment: pip install 'rlhf-lab[ratings]'"
        ) from error
    analyser = SentimentIntensityAnalyzer()
    return np.array([analyser.polarity_scores(text)["compound"] for text in texts])
