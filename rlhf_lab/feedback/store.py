"""The feedback store: one SQLite file in which people's rankings are safe.

A submit is on the disk before `write` returns, many people can write at once, and history is never
rewritten: taking something back is a new row, and only `forget` deletes. Files of several people
are merged by `merge`, as often as one likes.

    store = FeedbackStore("feedback.sqlite")
    store.add(prompt, [Sample("Try the fuse.", "sft"), Sample("Go away.", "sft")])
    store.add_labeller("ann")
    store.write(Entry("", "ranking", "ann", prompt, ("Try the fuse.", "Go away."), (1, 2), (1, 0)))
    store.rankings()

What is kept is the order a person gave to the responses, in the order in which the entry names
them; `shown` alone says where each one stood on the screen.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rlhf_lab.errors import UserError
from rlhf_lab.feedback import rows
from rlhf_lab.feedback.database import prepare, reading, reading_other, wipe, writing
from rlhf_lab.feedback.entry import KINDS, PICKS, Contents, Entry, refuse
from rlhf_lab.records import Prompt, Ranking, Sample

__all__ = ["Contents", "Entry", "FeedbackStore", "Sample"]


class FeedbackStore:
    """A store in the file `path`, which is made if there is none.

    Each call opens the file anew, so that threads and processes may share a store freely. Every
    method raises UserError if the file cannot be read or written; the constructor also if it is not
    a store, was written by a newer rlhf-lab, or is on a network file system.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        prepare(self.path)

    def add(self, prompt: Prompt, samples: Sequence[Sample]) -> None:
        """Put in a prompt and samples of it; what is there already is passed over.

        A prompt is known by its text, and keeps the id and facts it first came with; a sample is
        known by its text, model and settings. Raises UserError if the prompt is blank, a text holds
        half a character, or facts or settings hold what JSON cannot.
        """
        self.add_all([(prompt, samples)])

    def add_all(self, prompts: Iterable[tuple[Prompt, Sequence[Sample]]]) -> None:
        """Many prompts, each with its samples, as by `add` but all at once: far faster."""
        self.take_in(Contents(list(prompts)))

    def prompts(self) -> list[Prompt]:
        """The prompts, in the order they were added."""
        with reading(self.path) as connection:
            return list(rows.read_prompts(connection).values())

    def samples(self, prompt: Prompt) -> list[Sample]:
        """The samples of a prompt in the order they were added; equal texts of different models are
        samples of their own."""
        with reading(self.path) as connection:
            return rows.read_samples(connection, prompt)

    def add_labeller(self, name: str) -> None:
        """Put in a labeller, if the name is new. Raises UserError unless it is one line of 1 to 60
        characters that are not all blank."""
        with writing(self.path) as connection:
            rows.add_labeller(connection, name)

    def labellers(self) -> list[str]:
        """The names of the labellers, in the order they were added."""
        with reading(self.path) as connection:
            return rows.read_labellers(connection)

    def write(self, entry: Entry) -> Entry:
        """Add an entry to history; once this returns, neither a kill nor a power cut loses it.

        Returns the entry as it now stands, with id and time. Raises UserError if its fields do not
        fit together, if its prompt, responses, labeller or the entry it undoes are not in the
        store, or if its id is taken.
        """
        if entry.responses and not entry.shown:
            refuse(entry, "shown is empty: say where each response stood on the screen")
        with writing(self.path) as connection:
            written = rows.add_entry(connection, entry)
        if written is None:
            refuse(entry, "its id is taken: leave it empty to get a new one")
        return written

    def undo(self, labeller: str) -> Entry | None:
        """Take back the labeller's newest entry that stands, by a new row, and return what was
        taken back; None if there is nothing."""
        with writing(self.path) as connection:
            standing = _standing(rows.read_entries(connection, labeller))
            if not standing:
                return None
            last = standing[-1]
            rows.add_entry(connection, Entry("", "undo", labeller, last.prompt, undoes=last.id))
            return last

    def entries(self, labeller: str | None = None, undone: bool = False) -> list[Entry]:
        """The entries that stand, of one labeller or all, oldest first; with `undone` all rows of
        history, also those taken back and those that do so."""
        with reading(self.path) as connection:
            history = rows.read_entries(connection, labeller)
        return history if undone else _standing(history)

    def rankings(
        self, labellers: Sequence[str] | None = None, picks: Sequence[str] | None = None
    ) -> list[Ranking]:
        """The rankings that stand, oldest first: of these labellers, and of prompts picked in these
        ways ("random", "common", "active", "repeat"); None is all.

        Raises UserError for a labeller who is not in the store, and for a pick there is not.
        """
        _known("labeller", labellers, self.labellers(), self.path)
        _known("pick", picks, PICKS, self.path)
        with reading(self.path) as connection:
            cut = rows.read_cut_off(connection)
        return [
            Ranking(
                entry.prompt,
                entry.responses,
                entry.ranks,
                entry.labeller,
                tuple((entry.prompt.text, text) not in cut for text in entry.responses),
            )
            for entry in self.entries()
            if entry.kind == "ranking"
            and (labellers is None or entry.labeller in labellers)
            and (picks is None or entry.pick in picks)
        ]

    def forget(self, labeller: str) -> int:
        """Delete a labeller: the name and all of their rows, down to the bytes of the file.

        This is the only thing that deletes. Prompts and samples stay. A slow, salted hash of the
        name is kept, so that neither merging an old copy nor importing brings the rows back; who
        wants to rank again does so through `add_labeller`. Returns how many rows of history went,
        0 for a name that is not there.

        Raises UserError if another program keeps traces from being wiped: then do it again.
        """
        with writing(self.path) as connection:
            deleted = rows.delete_labeller(connection, labeller)
        wipe(self.path)
        return deleted

    def merge(self, other: str | Path) -> dict[str, int]:
        """Take in all that another store's file holds, and leave that file as it is; see `take_in`.

        Raises UserError if it is not a store, was written by a newer rlhf-lab, or cannot be read.
        """
        try:
            with reading_other(Path(other)) as connection:
                return self.take_in(rows.read_contents(connection))
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{other} holds what a store does not write ({error!r}): nothing of it "
                "was taken in; ask for another copy"
            ) from error

    def contents(self) -> Contents:
        """Everything in the store, at one moment."""
        with reading(self.path) as connection:
            return rows.read_contents(connection)

    def take_in(self, contents: Contents) -> dict[str, int]:
        """Add what is new in these contents, all of it or, after an error, nothing.

        What is there already is passed over. So is a forgotten labeller; of one who came back, what
        was made before. Returns how many prompts, samples, labellers and entries of each kind were
        new. Raises UserError for contents that `add`, `add_labeller` or `write` would refuse.
        """
        new = dict.fromkeys(("prompts", "samples", "labellers", *KINDS), 0)
        with writing(self.path) as connection:
            for prompt, samples in contents.prompts:
                new["prompts"] += rows.add_prompt(connection, prompt)
                for sample in samples:
                    new["samples"] += rows.add_sample(connection, prompt, sample)
            until = rows.forgotten_until(connection, contents.labellers)
            for name in contents.labellers:
                if name not in until:
                    new["labellers"] += rows.add_labeller(connection, name)
            for entry in _welcome(contents.entries, until):
                written = rows.add_entry(connection, entry)
                new[entry.kind] += written is not None
        return new


def _welcome(entries: Sequence[Entry], until: dict[str, str]) -> list[Entry]:
    """The entries that may come in, each before the one that takes it back: of forgotten labellers
    only what was made after this time."""
    kept = [
        entry
        for entry in entries
        if entry.labeller not in until or entry.made > until[entry.labeller]
    ]
    missing = {entry.id for entry in entries} - {entry.id for entry in kept}
    return sorted(
        (entry for entry in kept if not entry.undoes or entry.undoes not in missing),
        key=lambda entry: entry.kind == "undo",
    )


def _standing(history: list[Entry]) -> list[Entry]:
    undone = {entry.undoes for entry in history}
    return [entry for entry in history if entry.kind != "undo" and entry.id not in undone]


def _known(what: str, names: Sequence[str] | None, known: Sequence[str], path: Path) -> None:
    for name in names or ():
        if name not in known:
            raise UserError(f"no {what} {name!r} in {path}: there are {', '.join(known) or 'none'}")
