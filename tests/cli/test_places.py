"""No command writes over what it did not make, and says so before it computes anything."""

import importlib
import json
import os
import pkgutil
import shutil
from pathlib import Path

import pytest
from helpers import refusal

import rlhf_lab.cli
from rlhf_lab.cli import COMMANDS, main
from rlhf_lab.disk import pretrained
from rlhf_lab.disk.jsonl import write_whole
from rlhf_lab.disk.packages import place_of
from rlhf_lab.disk.places import check_place
from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.models import load_policy, load_tokenizer, save_policy
from rlhf_lab.records import Prompt, Sample
from rlhf_lab.runs.report import check_report, write_report
from rlhf_lab.tasks import TASKS
from rlhf_lab.tasks.film_reviews.ratings_file import VADER

PRECIOUS = "years of work"
LONG = "x" * 300
STAGE = "--model model --data rows.jsonl --device cpu --out"
JUDGED = "--task support_desk --device cpu"
# Every command that writes, and the place that stands where PLACE is.
ANYWHERE = {
    "demo": "demo --device cpu --out PLACE",
    "pretrain": "pretrain --device cpu --out PLACE",
    "sft": f"sft {STAGE} PLACE",
    "reward": f"reward {STAGE} PLACE",
    "ppo": f"ppo --reward-model model {STAGE} PLACE",
    "sample": "sample --model model --prompt ask: --device cpu --out PLACE",
    "compare, table": f"compare model {JUDGED} --out PLACE",
    "compare, page": f"compare model {JUDGED} --html PLACE",
    "blind": f"blind model model {JUDGED} --store PLACE",
    "task": "task new PLACE",
    "rank": "rank PLACE --labeller me --samples samples.jsonl",
    "feedback merge": "feedback merge PLACE store.sqlite3",
    "feedback export": "feedback export store.sqlite3 PLACE",
    "feedback export pairs": "feedback export store.sqlite3 PLACE --pairs",
    "feedback import": "feedback import PLACE rows.jsonl --labeller me",
    "ratings task": "ratings task PLACE",
    "study": "study rounds --out PLACE",
    "course": "course student PLACE a.ipynb",
    "course slides": "course slides PLACE",
}
# Those that write to a place with a name of its own.
NAMED = {
    "compare, blind pairs": (
        f"compare model model {JUDGED} --blind 1 --out t.json",
        "t.pairs.json",
    ),
    "course": ("course student class a.ipynb", "class/a.ipynb"),
    "report": ("report run", "run/report.html"),
    "demo's report": ("demo --device cpu --out run", "run/report.html"),
    "sft's model": (f"sft {STAGE} run", "run/sft"),
    "reward's model": (f"reward {STAGE} run", "run/reward_model"),
    "ppo's model": (f"ppo --reward-model model {STAGE} run", "run/policy"),
    "pretrain's checkpoint": ("pretrain --device cpu --out new", "new.checkpoint"),
    "fetch": ("fetch smollm2", f"cache/{pretrained.NAME}"),
    "ratings fetch": ("ratings fetch", f"cache/{place_of(VADER).name}"),
}
WORK = (
    "load_policy load_tokenizer load_judged train_tokenizer respond compare read read_data page "
    "write_task Ground pip_download"
).split()


def never(*_, **__):
    raise AssertionError("it began to work")


@pytest.fixture(scope="module")
def laid(tmp_path_factory, make_gpt2, tokenizer) -> Path:
    """A folder with what the commands read."""
    folder = tmp_path_factory.mktemp("laid")
    save_policy(make_gpt2(tokenizer, n_positions=256), tokenizer, folder / "model")
    row = {"prompt": "ask:", "responses": ["a", "b"], "model": "m", "settings": {}}
    (folder / "samples.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "rows.jsonl").write_text('{"prompt": "ask:", "chosen": "a", "rejected": "b"}\n')
    cells = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "a.ipynb").write_text(json.dumps(cells))
    FeedbackStore(folder / "store.sqlite3").add(Prompt("p", "ask:"), [Sample("a", "m")])
    RunFolder.open(folder / "run", {}).close()
    return folder


@pytest.fixture
def desk(laid, tmp_path, monkeypatch) -> Path:
    """A copy of it to work in; the commands' work, if they begin it, fails."""
    shutil.copytree(laid, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    monkeypatch.setenv("RLHF_LAB_CACHE", str(tmp_path / "desk" / "cache"))
    for info in pkgutil.iter_modules(rlhf_lab.cli.__path__):
        module = importlib.import_module(f"rlhf_lab.cli.{info.name}")
        for name in WORK:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, never)
    monkeypatch.setattr("rlhf_lab.disk.packages.pip_download", never)
    monkeypatch.setattr("rlhf_lab.runs.report.page", never)
    return tmp_path / "desk"


def contents(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder: bytes of files, targets of links, "folder" for folders."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if path.name in (".lock", "store.sqlite3-wal", "store.sqlite3-shm"):
            continue
        content = path.read_bytes() if path.is_file() else "folder"
        found[str(path)] = os.readlink(path) if path.is_symlink() else content
    return found


def a_file(place: Path) -> None:
    place.write_text(PRECIOUS)


def a_folder(place: Path) -> None:
    place.mkdir()
    (place / "thesis.txt").write_text(PRECIOUS)


def a_link_to_a_file(place: Path) -> None:
    Path("thesis.txt").write_text(PRECIOUS)
    place.symlink_to(Path("thesis.txt").absolute())


def a_link_to_a_folder(place: Path) -> None:
    a_folder(Path("theses"))
    place.symlink_to(Path("theses").absolute())


def a_link_to_nothing(place: Path) -> None:
    place.symlink_to(Path("nothing").absolute())


def a_device(place: Path) -> None:
    os.mkfifo(place)


OBSTACLES = (a_file, a_folder, a_link_to_a_file, a_link_to_a_folder, a_link_to_nothing, a_device)


def refused(desk, capsys, command: str, named: str) -> str:
    """The one line with which a command refuses a place; everything is as it was."""
    before = contents(desk)
    assert main(command.split()) == 1
    error = capsys.readouterr().err
    assert error.startswith("rlhf-lab: ") and error.count("\n") == 1 and named in error
    assert contents(desk) == before
    return error


def test_every_command_is_tried():
    tried = {name.split(",")[0].split()[0].removesuffix("'s") for name in (*ANYWHERE, *NAMED)}
    assert tried == set(COMMANDS)


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("name", ANYWHERE)
def test_what_is_there_stays(desk, capsys, name, obstacle):
    place = Path("out.jsonl")
    obstacle(place)
    if name == "course" and place.is_dir():
        return  # a folder is where notebooks go
    refused(desk, capsys, ANYWHERE[name].replace("PLACE", "out.jsonl"), "out.jsonl")


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("name", NAMED)
def test_what_is_in_a_place_that_a_command_names_itself_stays(desk, capsys, name, obstacle):
    command, place = NAMED[name]
    Path(place).parent.mkdir(exist_ok=True)
    obstacle(Path(place))
    refused(desk, capsys, command, place)


@pytest.mark.parametrize("place", ["rows.jsonl/out", f"{LONG}.jsonl", f"{LONG}/out", "x" * 250])
@pytest.mark.parametrize("name", ANYWHERE)
def test_where_nothing_can_be_nothing_begins(desk, capsys, name, place):
    if name == "course" and len(place) == 250:
        return  # it writes into that folder, and nothing with a longer name beside it
    refused(desk, capsys, ANYWHERE[name].replace("PLACE", place), place)


@pytest.mark.parametrize("name", ["fetch", "ratings fetch"])
@pytest.mark.parametrize("place", ["rows.jsonl/cache", LONG])
def test_where_no_cache_can_be_nothing_begins(desk, capsys, monkeypatch, name, place):
    monkeypatch.setenv("RLHF_LAB_CACHE", str(desk / place))
    error = refused(desk, capsys, NAMED[name][0], place)
    assert "RLHF_LAB_CACHE" in error


@pytest.mark.parametrize("name", ANYWHERE)
def test_rankings_models_and_runs_of_others_stay(desk, capsys, name):
    for place in ("store.sqlite3", "model", "run", "samples.jsonl", "rows.jsonl", "a.ipynb"):
        takes = {
            "store.sqlite3": ("blind", "rank", "feedback merge", "feedback import"),
            "run": ("demo", "sft", "reward", "ppo", "course"),
            "model": ("course",),
            "samples.jsonl": ("sample",),
        }
        if name not in takes.get(place, ()):
            refused(desk, capsys, ANYWHERE[name].replace("PLACE", place), place)


def test_what_a_command_reads_is_not_written_over(desk, capsys):
    sample = "sample --model model --data samples.jsonl --device cpu --out"
    os.link("samples.jsonl", "same.jsonl")
    for place in ("samples.jsonl", "model/../samples.jsonl", "same.jsonl"):
        assert "--data reads" in refused(desk, capsys, f"{sample} {place}", place)
    compare = "compare model --reward-model model --device cpu --data new.json"
    error = refused(desk, capsys, f"{compare} --out new.json", "new.json")
    assert "is what --data reads" in error
    compare = f"compare model {JUDGED} --out t.json --html t.json"
    assert "is what --out reads" in refused(desk, capsys, compare, "t.json")


# ---- what a command made itself -----------------------------------------------------------------


def test_pages_and_tables_take_the_place_of_pages_and_tables(desk, monkeypatch, capsys):
    monkeypatch.undo()
    monkeypatch.chdir(desk)
    run = RunFolder.view("run")
    for _ in range(2):
        write_report(run)
    check_report(run)
    command = "compare model --task support_desk --prompts 2 --samples 1 --max-new-tokens 2"
    command += " --device cpu --out table.json --html page.html"
    for _ in range(2):
        assert main(command.split()) == 0
    capsys.readouterr()
    swapped = command.replace("table.json", "x").replace("page.html", "table.json")
    assert main(swapped.replace("--out x", "--out page.html").split()) == 1
    assert "table.json is not a page titled 'Comparison'" in capsys.readouterr().err
    assert main(command.replace("page.html", "run/report.html").split()) == 1
    assert "report.html is not a page" in capsys.readouterr().err
    shutil.copy("page.html", "run/report.html")
    assert "report.html is not a page" in refusal(write_report, run)


def test_a_course_may_grow_where_its_pages_are_as_they_were(desk, capsys):
    cells = json.loads(Path("a.ipynb").read_text())
    text = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["[x](../Makefile)"]}
    for name in "ab":
        Path(f"{name}.ipynb").write_text(json.dumps(cells | {"cells": [text]}))
    assert main("course student class a.ipynb".split()) == 0
    page = Path("class/linked/Makefile")
    assert page.is_file() and main("course student class b.ipynb".split()) == 0
    Path("class/b.ipynb").unlink()
    page.write_text("my notes")
    assert main("course student class b.ipynb".split()) == 1
    assert "Makefile is there already" in capsys.readouterr().err
    assert page.read_text() == "my notes" and not Path("class/b.ipynb").exists()


def test_a_store_or_a_run_may_be_named_by_a_link_to_it(desk):
    Path("link.sqlite3").symlink_to("store.sqlite3")
    assert len(FeedbackStore("link.sqlite3").prompts()) == 1
    Path("linked").symlink_to("run")
    RunFolder.open("linked", {}).close()
    assert Path("linked").is_symlink() and Path("link.sqlite3").is_symlink()


def test_an_empty_file_or_folder_is_nothing_to_lose(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    check_place(tmp_path / "file")
    check_place(tmp_path / "folder", folder=True)
    assert "is a folder, not a file" in refusal(check_place, tmp_path / "folder")
    assert "is a file, not a folder" in refusal(check_place, tmp_path / "file", folder=True)


def test_who_may_not_write_is_told_so(tmp_path, monkeypatch):
    for name in ("run", "lab/run"):
        RunFolder.open(tmp_path / name, {}).close()
    (tmp_path / "file").write_text(PRECIOUS)
    locked = {tmp_path, tmp_path / "file"}  # whoever runs as root may write everywhere
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) not in locked)
    says = f"cannot be created (check the permissions of {tmp_path})"
    for place in ("new", "new/run", "file"):
        assert says in refusal(check_place, tmp_path / place, lambda _: "")
    check_place(tmp_path / "lab/file")
    locked.remove(tmp_path)
    assert "(check its permissions)" in refusal(check_place, tmp_path / "file", lambda _: "")
    locked.add(tmp_path)
    RunFolder.open(tmp_path / "run", {}).close()  # one's own folder, in a place of others
    locked.add(tmp_path / "run")
    assert "check the permissions of" in refusal(RunFolder.open, tmp_path / "run", {})


def test_the_longest_name_that_is_taken_can_be_written(tmp_path):
    def fits(length):
        try:
            check_place(tmp_path / ("x" * length))
        except rlhf_lab.cli.UserError:
            return False
        return True

    longest = max(length for length in range(150, 256) if fits(length))
    assert 200 < longest < 250
    write_whole(tmp_path / ("x" * longest), PRECIOUS)
    assert (tmp_path / ("x" * longest)).read_text() == PRECIOUS


def test_the_folder_one_works_in_is_not_replaced(desk, capsys):
    shutil.copytree("model", "inner/model")
    os.chdir("inner/model")
    for place in (".", "..", "../model", str(desk / "inner")):
        assert main(["pretrain", "--device", "cpu", "--out", place]) == 1
        assert "is the current folder" in capsys.readouterr().err
    assert sorted(os.listdir(".")) == sorted(os.listdir(desk / "model"))
    os.mkdir(desk / "empty")
    os.chdir(desk / "empty")
    for place in (".", "../empty"):
        assert main(["pretrain", "--device", "cpu", "--out", place]) == 1
        assert "is the current folder" in capsys.readouterr().err
    assert os.listdir(".") == []


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_a_slash_behind_the_name_of_a_new_base_model_does_no_harm(
    tmp_path, monkeypatch, capsys, slash
):
    monkeypatch.chdir(tmp_path)
    command = "pretrain --layers 1 --width 8 --heads 2 --context 512 --vocabulary 300 --updates 2"
    command += f" --tokenizer-documents 5 --batch-size 2 --device cpu --out new{slash}"
    assert main(command.split()) == 0
    assert load_policy("new").config.n_embd == 8 and len(load_tokenizer("new")) <= 300
    assert os.listdir() == ["new"]
    assert main(command.split()) == 1  # a finished model may be anybody's
    assert "new already holds a model" in capsys.readouterr().err


def test_a_base_model_can_read_several_tasks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = "pretrain --layers 1 --width 8 --heads 2 --context 512 --vocabulary 400 --updates 2"
    command += " --tokenizer-documents 6 --batch-size 2 --device cpu"
    assert main([*command.split(), "--out", "new", "--task", *TASKS]) == 0
    assert os.listdir() == ["new"]
    assert main([*command.split(), "--out", "other", "--task", "support_desk", "chess"]) == 1
    assert "no task called 'chess'" in capsys.readouterr().err
