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

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rlhf_lab.errors import UserError
from rlhf_lab.feedback import network, rows
from rlhf_lab.feedback.database import check_file, prepare, reading, reading_other, wipe, writing
from rlhf_lab.feedback.entry import PICKS, Contents, Entry, Taken, refuse
from rlhf_lab.feedback.merging import renamed, taking_in
from rlhf_lab.records import Prompt, Ranking, Sample

__all__ = ["Contents", "Entry", "FeedbackStore", "Sample", "Taken"]


class FeedbackStore:
    """A store in the file `path`, which is made if there is none.

    Each call opens the file anew, so that threads and processes may share a store freely. On a
    network file system it works in a local copy, `file`, and copies that back after every change
    (`network.py`). A new file can be read and written by its owner, and read by the group as far as
    the umask allows; what `chmod` says afterwards holds.

    Every method raises UserError if the file cannot be read or written; the constructor also if it
    is not a store, or was written by a newer rlhf-lab.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.file = network.working_file(self.path)
        prepare(self.path, self.file)
        if self.file != self.path:
            network.take_up(self.file, self.path, self._take_up)

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
        with reading(self.file) as connection:
            return list(rows.read_prompts(connection).values())

    def samples(self, prompt: Prompt) -> list[Sample]:
        """The samples of a prompt in the order they were added; equal texts of different models are
        samples of their own."""
        with reading(self.file) as connection:
            return rows.read_samples(connection, prompt)

    def add_labeller(self, name: str, simulated: bool = False) -> None:
        """Put in a labeller, if the name is new; simulated: it is a program, whose rankings count
        only where one asks for them.

        Raises UserError unless the name is one line of 1 to 60 characters that are not all blank,
        and if it is a person's who has ranked already, where a program is to be added.
        """
        with self._writing() as connection:
            rows.add_labeller(connection, name)
            if simulated and name not in rows.read_simulated(connection):
                if rows.read_entries(connection, name):
                    raise UserError(
                        f"{name!r} is a person with rankings in {self.path}: give the simulated "
                        "labeller another name; or, if an earlier version stored these rankings "
                        f"for it, mark them: `rlhf-lab feedback simulated {self.path} {name}`"
                    )
                rows.mark_simulated(connection, name)

    def mark_simulated(self, name: str, simulated: bool = True) -> None:
        """Say of a labeller, with all they have ranked, whether they are a program. Raises
        UserError for a name that is not in the store."""
        _known("labeller", [name], self.labellers(simulated=True), self.path)
        with self._writing() as connection:
            rows.mark_simulated(connection, name, simulated)

    def labellers(self, simulated: bool = False) -> list[str]:
        """The names of the people, in the order they were added; with `simulated`, of the simulated
        labellers too."""
        with reading(self.file) as connection:
            programs = set() if simulated else rows.read_simulated(connection)
            return [name for name in rows.read_labellers(connection) if name not in programs]

    def write(self, entry: Entry) -> Entry:
        """Add an entry to history; once this returns, neither a kill nor a power cut loses it.

        Returns the entry as it now stands, with id and time. Raises UserError if its fields do not
        fit together, if its prompt, responses, labeller or the entry it undoes are not in the
        store, or if its id is taken.
        """
        if entry.responses and not entry.shown:
            refuse(entry, "shown is empty: say where each response stood on the screen")
        with self._writing() as connection:
            written = rows.add_entry(connection, entry)
        if written is None:
            refuse(entry, "its id is taken: leave it empty to get a new one")
        return written

    def undo(self, labeller: str) -> Entry | None:
        """Take back the labeller's newest entry that stands, by a new row, and return what was
        taken back; None if there is nothing."""
        with self._writing() as connection:
            standing = _standing(rows.read_entries(connection, labeller))
            if not standing:
                return None
            last = standing[-1]
            rows.add_entry(connection, Entry("", "undo", labeller, last.prompt, undoes=last.id))
            return last

    def entries(
        self, labeller: str | None = None, undone: bool = False, simulated: bool = False
    ) -> list[Entry]:
        """The entries that stand, of one labeller or of all people, oldest first; with `undone` all
        rows of history, also those taken back and those that do so; with `simulated` those of the
        simulated labellers too."""
        with reading(self.file) as connection:
            history = rows.read_entries(connection, labeller)
            programs = set() if simulated or labeller else rows.read_simulated(connection)
        history = [entry for entry in history if entry.labeller not in programs]
        return history if undone else _standing(history)

    def rankings(
        self,
        labellers: Sequence[str] | None = None,
        picks: Sequence[str] | None = None,
        simulated: bool = False,
    ) -> list[Ranking]:
        """The rankings that stand, oldest first: of these labellers, None for all people; and of
        prompts picked in these ways ("random", "common", "active", "repeat"), None for all.

        simulated: with labellers None, those of the simulated labellers too. Raises UserError for a
        labeller who is not in the store, and for a pick there is not.
        """
        _known("labeller", labellers, self.labellers(simulated=True), self.path)
        _known("pick", picks, PICKS, self.path)
        with reading(self.file) as connection:
            cut = rows.read_cut_off(connection)
        return [
            Ranking(
                entry.prompt,
                entry.responses,
                entry.ranks,
                entry.labeller,
                tuple((entry.prompt.text, text) not in cut for text in entry.responses),
            )
            for entry in self.entries(simulated=simulated or labellers is not None)
            if entry.kind == "ranking"
            and (labellers is None or entry.labeller in labellers)
            and (picks is None or entry.pick in picks)
        ]

    def forget(self, labeller: str) -> int:
        """Delete a labeller: the name and all of their rows, down to the bytes of the file.

        Prompts and samples stay. A slow, salted hash of the name is kept with the time: nothing of
        theirs from before comes back by merging or importing, and a store that takes this one in
        deletes it too. What they rank afterwards is kept as anybody's. Returns how many rows of
        history went, 0 for a name that is not there.

        Raises UserError if another program keeps traces from being wiped: then do it again.
        """
        with self._writing() as connection:
            deleted = rows.delete_labeller(connection, labeller)
        self._wipe()
        return deleted

    def note_use(self, place: str, labellers: Iterable[str]) -> None:
        """Note that a run, or a file, was made from the rankings of these labellers: `uses` says so
        when one of them asks to be forgotten."""
        with self._writing() as connection:
            for name in {*labellers} & {*rows.read_labellers(connection)}:
                rows.add_use(connection, name, place)

    def uses(self, labeller: str) -> list[str]:
        """The runs and files that were made from a labeller's rankings, oldest first, as far as
        `note_use` was told: training and exporting by command do so."""
        with reading(self.file) as connection:
            return rows.read_uses(connection, labeller)

    def merge(self, other: str | Path, rename: Mapping[str, str] | None = None) -> Taken:
        """Take in all that another store's file holds, and leave that file as it is; see `take_in`.

        rename: labellers of the other store who get another name here. Raises UserError if it is
        not a store, was written by a newer rlhf-lab, or cannot be read; if the same name is a
        person's in one store and a simulated labeller's in the other; and if both hold rankings of
        their own by DEFAULT_NAME, who would become one person.
        """
        contents = contents_of_store(other)
        if rename:
            contents = renamed(contents, rename)
        with _of_a_store(other):
            try:
                return self._take_in(contents, one_person=False)
            except UserError as error:
                raise UserError(f"{other}: {error}") from error

    def contents(self) -> Contents:
        """Everything in the store, at one moment."""
        with reading(self.file) as connection:
            return rows.read_contents(connection)

    def take_in(self, contents: Contents) -> Taken:
        """Add what is new in these contents, all of it or, after an error, nothing.

        Skips what is there already, and what a forgotten labeller did before being forgotten.
        Labellers that the contents list as forgotten are forgotten here too. The result counts all
        of this. Raises UserError for contents that `add`, `add_labeller` or `write` would refuse,
        and if a name belongs to a person here and to a simulated labeller there, or the reverse.
        """
        return self._take_in(contents)

    def _take_in(self, contents: Contents, one_person: bool = True) -> Taken:
        with self._writing() as connection:
            taken = taking_in(connection, contents, one_person)
        if taken.deleted:
            self._wipe()
        return taken

    # ---- a store on a network file system works in a local copy ----------------------------------

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with writing(self.file) as connection:
            yield connection
        self._copy_back()

    def _wipe(self) -> None:
        wipe(self.file)
        self._copy_back()

    def _copy_back(self) -> None:
        if self.file != self.path:
            network.copy_back(self.file, self.path, self._take_up)

    def _take_up(self) -> None:
        """Take in what the copy at `path` holds, which another machine may have written."""
        contents = contents_of_store(self.path)
        with writing(self.file) as connection:
            taking_in(connection, contents)


def by_people(store: FeedbackStore, labellers: Sequence[str] | None = None) -> list[Ranking]:
    """The rankings of these labellers, None for all people. Raises UserError if there are none."""
    rankings = store.rankings(labellers)
    if not rankings:
        programs = [*dict.fromkeys(r.labeller for r in store.rankings(simulated=True))]
        if labellers or not programs:
            raise UserError(f"no rankings in {store.path}: rank a few prompts first")
        raise UserError(
            f"all rankings in {store.path} are by simulated labellers, which are left out unless "
            f"you name them: {', '.join(programs)}"
        )
    return rankings


def check_store(path: Path) -> None:
    """Raise UserError unless a store is in this file or may be made there; nothing is written."""
    check_file(path, local=network.working_file(path) == path)


@contextmanager
def copied(path: str | Path) -> Iterator[FeedbackStore]:
    """A copy of a store, for as long as the block lasts, to read where nothing may be written; the
    file stays as it is. Raises UserError as `contents_of_store` does."""
    path = Path(path)
    with (
        _of_a_store(path),
        reading_other(path, not network.network(path)) as connection,
        tempfile.TemporaryDirectory() as folder,
    ):
        file = Path(folder).resolve() / path.name
        with closing(sqlite3.connect(file)) as copy:
            connection.backup(copy)
        yield FeedbackStore(file)


def contents_of_store(path: str | Path) -> Contents:
    """Everything in a store's file, which stays as it is and need not be writable.

    Raises UserError if it is not a store, was written by a newer rlhf-lab, or cannot be read.
    """
    path = Path(path)
    with _of_a_store(path), reading_other(path, not network.network(path)) as connection:
        return rows.read_contents(connection)


@contextmanager
def _of_a_store(path: str | Path) -> Iterator[None]:
    """Raise UserError where what a file holds is not what a store writes."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} holds what a store does not write ({error!r}): nothing of it was taken in; "
            "ask for another copy"
        ) from error


def _standing(history: list[Entry]) -> list[Entry]:
    undone = {entry.undoes for entry in history}
    return [entry for entry in history if entry.kind != "undo" and entry.id not in undone]


def _known(what: str, names: Sequence[str] | None, known: Sequence[str], path: Path) -> None:
    for name in names or ():
        if name not in known:
            raise UserError(f"no {what} {name!r} in {path}: there are {', '.join(known) or 'none'}")
