"""Sentences from film reviews, each with every rating it was given (Hutto and Gilbert 2014).

Two files, tab separated, a row for each sentence and both in the same order: id, mean rating and
text; id, mean rating, standard deviation and the single ratings, such as [3, 2, -1], from -4
(extremely negative) to 4 (extremely positive).

Who gave a rating is not said. But the k-th ratings in successive rows go together: within 30 rows
those of one column are too high, or too low, in the same way, and across the next boundary they are
not. So sentences were handed out in sheets of 30, and on one sheet a column is one labeller.
"""

import json
from dataclasses import dataclass

from rlhf_lab.errors import UserError
from rlhf_lab.ratings.fetch import VADER, cached

LOWEST, HIGHEST = -4, 4
SHEET = 30  # sentences that the same labellers were given


@dataclass(frozen=True)
class Sentence:
    """A sentence and its single ratings, each by another labeller. id: as in the study, from 1.
    sheet: which sentences had the same labellers; a rating's place says which of them gave it."""

    id: int
    text: str
    ratings: tuple[int, ...]
    sheet: int

    @property
    def mean(self) -> float:
        return sum(self.ratings) / len(self.ratings)


def read() -> list[Sentence]:
    """The sentences of the study, from the cache. Raises UserError if they were not fetched."""
    folder = cached()
    if folder is None:
        raise UserError("the ratings are not in the cache: `rlhf-lab ratings fetch` fetches them "
                        "(2.5 MB, through pip)")  # fmt: skip
    return parse(*((folder / one.name).read_text(encoding="utf-8") for one in VADER.files[1:]))


def parse(texts: str, ratings: str) -> list[Sentence]:
    """Sentences from what is in the two files. They are checked by their sha256, so not here."""
    said = [row.split("\t")[2].strip() for row in texts.strip("\n").split("\n")]
    given = [tuple(json.loads(row.split("\t")[3])) for row in ratings.strip("\n").split("\n")]
    return [Sentence(number, text, values, (number - 1) // SHEET)
            for number, (text, values) in enumerate(zip(said, given, strict=True), 1)]  # fmt: skip
