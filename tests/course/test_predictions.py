"""Predictions: what is written stays, whatever else happens to the file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlhf_lab.course.predictions import FILE, keep_prediction, predict, your_prediction
from rlhf_lab.errors import UserError

ASKED = "What does a baseline change?"
HOSTILE = '<script>alert(1)</script> \u202etxt.exe \x1b[31m\x00 "quoted" \\ end\nsecond line'


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stored(folder: Path) -> dict:
    return json.loads((folder / FILE).read_text("utf-8"))


def test_what_is_typed_is_kept_and_shown_again(folder):
    predict("04 baseline", ASKED).box.value = "It shakes less."
    entry = stored(folder)["04 baseline"]
    assert (entry["question"], entry["text"]) == (ASKED, "It shakes less.")
    assert entry["time"]
    shown = your_prediction("04 baseline")
    assert ASKED in repr(shown) and "You wrote: It shakes less." in repr(shown)
    assert ASKED in shown._repr_html_() and "It shakes less." in shown._repr_html_()


def test_running_the_cell_again_shows_the_text_and_changes_nothing(folder):
    predict("04 baseline", ASKED).box.value = "It shakes less."
    before = (folder / FILE).read_bytes()
    again = predict("04 baseline", ASKED)
    assert again.box.value == "It shakes less." and "It shakes less." in repr(again)
    assert (folder / FILE).read_bytes() == before


def test_nothing_written_leaves_no_file_and_says_so(folder):
    box = predict("04 baseline", ASKED)
    assert repr(your_prediction("04 baseline")) == "You wrote no prediction for this."
    assert "text/html" in box._repr_mimebundle_() and list(folder.iterdir()) == []


def test_without_widgets_the_text_is_an_argument(folder):
    assert "less" in repr(predict("04 baseline", ASKED, "It shakes less."))
    assert stored(folder)["04 baseline"]["text"] == "It shakes less."
    refused = predict("04 baseline", ASKED, "other words")
    assert refused.box.value == "It shakes less." and "replace=True" in repr(refused)
    assert stored(folder)["04 baseline"]["text"] == "It shakes less."
    predict("04 baseline", ASKED, "other words", replace=True)
    assert stored(folder)["04 baseline"]["text"] == "other words"


def test_two_notebooks_at_once_keep_each_others_predictions(folder):
    """Both boxes exist before either is written in; then three processes write at once."""
    one, other = predict("04 baseline", ASKED), predict("05 fork", "About one nat each?")
    one.box.value, other.box.value = "first", "second"
    one.box.value = "first, longer"
    assert {name: entry["text"] for name, entry in stored(folder).items()} == {
        "04 baseline": "first, longer",
        "05 fork": "second",
    }
    code = (
        "import sys; from rlhf_lab.course.predictions import predict\n"
        "for i in range(10): predict(f'{sys.argv[1]} {i}', 'Why?').box.value = f'because {i}'"
    )
    surroundings = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    writers = [
        subprocess.Popen([sys.executable, "-c", code, f"{number:02d}"], env=surroundings)
        for number in range(3)
    ]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    texts = {name: entry["text"] for name, entry in stored(folder).items()}
    wanted = {f"{n:02d} {i}": f"because {i}" for n in range(3) for i in range(10)}
    assert wanted.items() <= texts.items() and texts["05 fork"] == "second"


def test_the_same_prediction_in_two_windows_is_not_overwritten(folder):
    first, second = predict("04 baseline", ASKED), predict("04 baseline", ASKED)
    first.box.value = "mine"
    second.box.value = "theirs"
    assert stored(folder)["04 baseline"]["text"] == "mine"
    assert "Not saved" in second.said and "another window" in second.said


def test_hostile_text_is_kept_as_it_is_and_shown_escaped(folder):
    predict(HOSTILE, HOSTILE).box.value = HOSTILE
    assert stored(folder)[HOSTILE]["text"] == HOSTILE
    shown = your_prediction(HOSTILE)
    pages = [shown._repr_html_(), predict(HOSTILE, HOSTILE)._repr_mimebundle_()["text/html"]]
    for page in pages:
        assert "<script" not in page and "&lt;script" in page
    for text in [repr(shown), repr(predict(HOSTILE, HOSTILE)), *pages]:
        assert not {"\x1b", "\x00", "\u202e"} & set(text)


def test_half_a_character_does_not_stop_the_saving(folder):
    predict("04 baseline", ASKED).box.value = "a \ud83d b"
    assert stored(folder)["04 baseline"]["text"] == "a ? b"


FOREIGN = ["", "not JSON", "[]", "{}x", '{"a": 1}', '{"a": {"text": "no question"}}', "\x00\xff"]


@pytest.mark.parametrize("content", [*FOREIGN, '{"a": {"question": "", "text": 3, "time": ""}}'])
def test_a_file_of_something_else_stays_as_it_is(folder, content):
    (folder / FILE).write_bytes(content.encode("latin-1"))
    box = predict("04 baseline", ASKED, "some words")
    box.box.value = "more words"
    assert "Not saved" in box.said and FILE in box.said and box.box.disabled
    assert FILE in repr(your_prediction("04 baseline"))
    assert (folder / FILE).read_bytes() == content.encode("latin-1")


def test_what_cannot_be_written_says_so_and_loses_nothing(folder):
    lock = folder / f".{FILE}.lock"
    lock.mkdir()
    with pytest.raises(UserError, match="cannot write in"):
        keep_prediction(folder / FILE, "04 baseline", ASKED, "words", before="")
    lock.rmdir()
    predict("04 baseline", ASKED, "words")
    with pytest.raises(UserError, match="shorten"):
        keep_prediction(folder / FILE, "04 baseline", ASKED, "x" * 5_000_000, before="words")
    assert stored(folder)["04 baseline"]["text"] == "words"
