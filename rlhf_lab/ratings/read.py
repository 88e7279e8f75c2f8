"""Sentences from film reviews, each with every rating it was given (Hutto and Gilbert 2014).

Two files, tab separated, a row for each sentence and both in the same order: id, mean rating and
text; id, mean rating, standard deviation and the single ratings, such as [3, 2, -1], from -4
(extremely negative) to 4 (extremely positive).

Who gave a rating is not said. But the k-th ratings in successive rows go together: within 30 rows
those of one column are too high, or too low, in the same way, and across the next boundary they are
not. So sentences were handed out in sheets of 30, and on one sheet a column is one labeller.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_lab.errors import UserError
from rlhf_lab.ratings.fetch import VADER, cached

LOWEST, HIGHEST = -4, 4
SHEET = 30  # sentences that the same labellers were given
SENTENCES, RATINGS = 10_605, 198_810  # in the study's files


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


def read(folder: str | Path | None = None) -> list[Sentence]:
    """The sentences of the study, from the cache or from a folder with its two files.

    Raises UserError if they were not fetched, a row is not right, or their number is not.
    """
    folder = Path(folder) if folder else cached()
    if folder is None:
        raise UserError("the ratings are not in the cache: `rlhf-lab ratings fetch` fetches them "
                        "(2.5 MB, through pip)")  # fmt: skip
    texts, ratings = (folder / one.name for one in VADER.files[1:])
    sentences = parse(_lines(texts), _lines(ratings), texts.name, ratings.name)
    count = sum(len(one.ratings) for one in sentences)
    if (len(sentences), count) != (SENTENCES, RATINGS):
        raise UserError(f"{folder} has {len(sentences):,} sentences and {count:,} ratings, where "
                        f"there should be {SENTENCES:,} and {RATINGS:,}: fetch them again")
    return sentences


def parse(texts: Sequence[str], ratings: Sequence[str], texts_name: str = "texts",
          ratings_name: str = "ratings") -> list[Sentence]:
    """Sentences from the lines of the two files. Raises UserError, with file and line, for a row
    that is not right."""
    if len(texts) != len(ratings):
        raise UserError(f"{texts_name} has {len(texts):,} lines and {ratings_name} {len(ratings):,}"
                        ": they should have a line each for every sentence")  # fmt: skip
    sentences = []
    for number, (text_line, ratings_line) in enumerate(zip(texts, ratings), 1):
        id, mean, text = _fields(text_line, 3, f"{texts_name}, line {number}")
        where = f"{ratings_name}, line {number}"
        other, _, _, listed = _fields(ratings_line, 4, where)
        if not id == other == str(number):
            raise UserError(f"{where}: sentence {other} beside sentence {id} of {texts_name}: both "
                            f"should be {number}")  # fmt: skip
        values = _ratings(listed, where)
        sentence = Sentence(number, text.strip(), values, (number - 1) // SHEET)
        if not text.strip():
            raise UserError(f"{texts_name}, line {number}: the sentence is empty")
        if not _agrees(sentence.mean, mean):
            raise UserError(f"{where}: the ratings have mean {sentence.mean:.3f}, but {texts_name} "
                            f"says {mean}")  # fmt: skip
        sentences.append(sentence)
    return sentences


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}: fetch the ratings again") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} is not UTF-8: fetch it again") from error


def _fields(line: str, count: int, where: str) -> list[str]:
    fields = line.split("\t")
    if len(fields) != count:
        raise UserError(f"{where}: {len(fields)} columns, where there should be {count}")
    return fields


def _ratings(listed: str, where: str) -> tuple[int, ...]:
    try:
        values = json.loads(listed)
    except ValueError:
        values = None
    if not isinstance(values, list) or not values:
        raise UserError(f"{where}: {listed[:40]!r} is no list of ratings")
    for value in values:
        if type(value) is not int or not LOWEST <= value <= HIGHEST:
            raise UserError(f"{where}: {value!r} is no rating: they are whole numbers from "
                            f"{LOWEST} to {HIGHEST}")  # fmt: skip
    return tuple(values)


def _agrees(mean: float, said: str) -> bool:
    try:
        return abs(mean - float(said)) < 1e-3
    except ValueError:
        return False
