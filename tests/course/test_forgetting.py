"""One person is removed everywhere that their name leads to, and nobody else loses anything."""

import gzip
import json
import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from rlhf_lab.cli import main
from rlhf_lab.course.forgetting import survey
from rlhf_lab.course.grading import CONFIG
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.exchange import export_jsonl, export_pairs
from rlhf_lab.feedback.store import Entry, FeedbackStore, Sample
from rlhf_lab.records import Prompt

FOLDERS = ("submitted", "autograded", "feedback", "released", "editions")


def rank(store, name, times=2):
    prompt = Prompt("p", "Customer: Where is it?\nAgent:", {})
    store.add(prompt, [Sample("Here.", "m", {}), Sample("There.", "m", {})])
    store.add_labeller(name)
    for _ in range(times):
        store.write(Entry("", "ranking", name, prompt, ("Here.", "There."), (1, 2), (0, 1), 3.0))


@pytest.fixture(scope="module")
def gradebook(tmp_path_factory):
    """A gradebook with ada and ben; to make one takes seconds."""
    file = tmp_path_factory.mktemp("book") / "gradebook.db"
    with pytest.MonkeyPatch.context() as patch:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        patch.setenv("PATH", path)  # a new gradebook needs the program alembic
        with Gradebook(f"sqlite:///{file}") as book:
            book.add_assignment("course")
            for name in ("ada", "ben"):
                book.add_student(name, last_name=f"surname of {name}")
                book.add_submission("course", name)
    return file


@pytest.fixture
def term(tmp_path, gradebook):
    """A class of two, ada and ben, with a store, exports and notes."""
    folder = tmp_path / "autumn"
    for kind in FOLDERS:
        for name in ("ada", "ben"):
            own = folder / kind / name / "course"
            own.mkdir(parents=True)
            (own / "01.ipynb").write_text("{}")
            (own / "predictions.json").write_text('{"x": {"text": "rises"}}')
    (folder / CONFIG).touch()
    (folder / "students.csv").write_text("student,variant,hidden\r\nada,a1,f\r\nben,b2,e\r\n")
    (folder / "marks.csv").write_text("student,notebook,points,of\r\nada,01,2,2\r\nben,01,1,2\r\n")
    shutil.copy(gradebook, folder)
    store = FeedbackStore(folder / "class.sqlite3")
    rank(store, "ada")
    rank(store, "ben")
    export_jsonl(store, folder / "export.jsonl")
    export_jsonl(store, folder / "export.jsonl.gz")
    export_pairs(store, folder / "pairs.jsonl")
    store.note_use(str(folder / "pairs.jsonl"), ["ada", "ben"])
    (folder / "notes.txt").write_text("ada was ill; adage and adam were not")
    (folder / "others.txt").write_text("adage, adam")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def test_a_dry_run_lists_everything_and_changes_nothing(term, capsys):
    before = contents(term)
    assert main(["course", "forget", "ada", str(term)]) == 0
    said = capsys.readouterr().out
    assert contents(term) == before
    for kind in FOLDERS:
        assert (
            f"would be removed: {term / kind / 'ada'}: the person's folder with 2 files, 1 of"
            in said
        )
    assert f"would be removed: {term / 'class.sqlite3'}: a feedback store with 2 entries" in said
    assert f"would be removed: {term / 'export.jsonl'}: 3 lines of" in said
    assert f"would be removed: {term / 'export.jsonl.gz'}: 3 lines of" in said
    for name in ("gradebook.db", "students.csv", "marks.csv"):
        assert f"would be removed: {term / name}" in said
    assert f"look at: {term / 'notes.txt'}: contains the name" in said and "others.txt" not in said
    assert f"look at: {term / 'pairs.jsonl'}: was made from rankings" in said
    assert "add --delete" in said and "Not reached: models that were trained" in said


def test_one_person_goes_and_the_other_keeps_everything(term, capsys):
    before = contents(term)
    assert main(["course", "forget", "ada", str(term), "--delete"]) == 0
    said = capsys.readouterr().out
    assert "would be removed" not in said and f"look at: {term / 'pairs.jsonl'}" in said
    after = contents(term)
    assert {name for name in before if name not in after} == {
        f"{kind}/ada/course/{file}" for kind in FOLDERS for file in ("01.ipynb", "predictions.json")
    }
    assert [name for name in after if b"ada" in after[name].replace(b"adage, adam", b"")] == [
        "notes.txt"
    ]
    assert after["students.csv"] == b"student,variant,hidden\r\nben,b2,e\r\n"
    assert after["marks.csv"] == b"student,notebook,points,of\r\nben,01,1,2\r\n"
    store = FeedbackStore(term / "class.sqlite3")
    assert store.labellers() == ["ben"] and len(store.entries()) == 2
    for text in (after["export.jsonl"], gzip.decompress(after["export.jsonl.gz"])):
        rows = [json.loads(line) for line in text.splitlines()]
        assert [row["labeller"] for row in rows if "labeller" in row] == ["ben"] * 3
    with closing(sqlite3.connect(term / "gradebook.db")) as book:
        assert book.execute("SELECT id FROM student").fetchall() == [("ben",)]
        assert book.execute("SELECT count(*) FROM submitted_assignment").fetchone() == (1,)
    assert [each for each in survey("ada", [term]) if each.remove] == []


def test_who_was_forgotten_does_not_come_back_with_an_old_export(term):
    old = (term / "export.jsonl").read_bytes()
    assert main(["course", "forget", "ada", str(term), "--delete"]) == 0
    (term / "old.jsonl").write_bytes(old)
    store = str(term / "class.sqlite3")
    assert main(["feedback", "import", store, str(term / "old.jsonl")]) == 0
    assert FeedbackStore(store).labellers() == ["ben"]


def test_what_cannot_be_removed_is_said_and_the_rest_goes(term, capsys, monkeypatch):
    def fails(*_):
        raise OSError("the disk is read-only")

    monkeypatch.setattr("rlhf_lab.course.forgetting._leave_gradebook", fails)
    assert main(["course", "forget", "ada", str(term), "--delete"]) == 1
    said = capsys.readouterr()
    assert f"NOT removed (the disk is read-only): {term / 'gradebook.db'}" in said.out
    assert "1 thing could not be removed" in said.err
    assert FeedbackStore(term / "class.sqlite3").labellers() == ["ben"]


def test_links_and_unreadable_files_are_said_and_not_followed(tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    (away / "a.txt").write_text("ada")
    (tmp_path / "here").mkdir()
    (tmp_path / "here/link").symlink_to(away)
    (tmp_path / "here/bad.jsonl.gz").write_bytes(b"no gzip")
    said = {each.place.name: each.what for each in survey("ada", [tmp_path / "here"])}
    assert "a link" in said["link"] and "cannot be read" in said["bad.jsonl.gz"]


def test_packed_and_escaped_names_are_found_and_a_survey_makes_no_file(gradebook, tmp_path):
    folder = tmp_path / "Kurs #2 %41"
    folder.mkdir()
    shutil.copy(gradebook, folder)
    (folder / "marks.csv.gz").write_bytes(gzip.compress(b"student\nada\n"))
    (folder / "notes.jsonl.gz").write_bytes(gzip.compress(b'{"about": "ada"}\n'))
    (folder / "more.json").write_text(json.dumps(["Zo\u00eb"]))
    before = sorted(tmp_path.rglob("*"))
    found = {each.place.name: each for each in survey("ada", [folder])}
    assert set(found) == {"gradebook.db", "marks.csv.gz", "notes.jsonl.gz"}
    assert found["gradebook.db"].remove and not found["marks.csv.gz"].remove
    assert [each.place.name for each in survey("Zo\u00eb", [folder])] == ["more.json"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../autumn"])
def test_a_name_that_is_a_path_deletes_no_folder(term, name):
    assert [each for each in survey(name, [term]) if each.remove] == []


def test_nobody_and_nowhere_are_told(term, capsys):
    assert main(["course", "forget", "zoe", str(term)]) == 0
    assert "nothing of zoe was found" in capsys.readouterr().out
    assert main(["course", "forget", "zoe", str(term / "none")]) == 1
    assert "there is no" in capsys.readouterr().err
    with pytest.raises(UserError, match="who should"):
        survey("  ", [term])
