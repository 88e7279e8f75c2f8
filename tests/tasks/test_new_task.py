"""A task beside the shipped one: a folder and its name are enough, and nothing speaks of another's
world."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
import tiny_task
from helpers import refusal

import rlhf_lab
from rlhf_lab import tasks
from rlhf_lab.cli import main
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.models import save_policy
from rlhf_lab.tasks import load_task
from rlhf_lab.tasks.folder import read_folder
from rlhf_lab.tasks.labellers import GENERAL

PACKAGE = Path(rlhf_lab.__file__).parent
WORDS = re.compile(r"customer|support.?desk|\bagents?\b|\bshops?\b|promis", re.IGNORECASE)
THERE = {  # where words of the support desk stand in the package, and why
    "tasks/support_desk/": "its own folder",
    "tasks/assistant/": "a world of its own, with shops and promises in it",
    "tasks/code/": "likewise",
    "tasks/stories/": "likewise",
    "tasks/__init__.py": "every task's name, and which one is shipped",
    "studies/": "experiments on the support desk",
    "constitution/checkers.py": "one check looks into the support desk's manual",
    "course/": "the notebooks' exercises, whose examples are the support desk's",
}


@pytest.fixture
def colours(tmp_path, monkeypatch):
    """The tiny task as a folder beside the others, under a name of its own."""
    place = tmp_path / "more" / "colours"
    place.mkdir(parents=True)
    source = Path(tiny_task.__file__).read_text(encoding="utf-8")
    own = source.replace(
        "guidelines = GENERAL", 'guidelines = Guidelines("colours", "True first.")'
    )
    own = own.replace("import GENERAL, Labeller", "import Guidelines, Labeller")
    (place / "__init__.py").write_text(own, encoding="utf-8")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(place.parent)])
    monkeypatch.setitem(tasks.TASKS, "colours", "ColourTask")
    yield load_task("colours")
    del sys.modules["rlhf_lab.tasks.colours"], tasks.colours


def run(tmp_path, line: str) -> None:
    assert main(line.replace("@", f"{tmp_path}/").split()) == 0


def typed(monkeypatch, *lines: str) -> None:
    """Let these lines be typed when the terminal asks."""
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_a_new_task_goes_through_every_command_in_its_own_words(
    colours, make_gpt2, tokenizer, tmp_path, monkeypatch, capsys
):
    small = make_gpt2(tokenizer, n_positions=512, n_layer=1)
    save_policy(small, tokenizer, tmp_path / "base")
    short = "--device cpu --max-new-tokens 6"
    run(tmp_path, "demo --smoke --task colours --model @base --device cpu --out @run")
    run(tmp_path, "report @run")
    run(tmp_path, f"compare @run/sft @run --prompts 5 --samples 2 --html @page.html {short}")
    run(
        tmp_path,
        f"sample --task colours --message Why? --responses 3 --model @base --out @s.jsonl {short}",
    )
    [row] = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert row["prompt"] == "Why?\n"
    typed(monkeypatch, "a", "q")
    run(tmp_path, "rank @ranked.sqlite3 --task colours --labeller ann --samples @s.jsonl")
    [entry] = FeedbackStore(tmp_path / "ranked.sqlite3").entries()
    assert entry.guidelines == colours.guidelines.version
    typed(monkeypatch, "q")
    run(tmp_path, f"blind @run/sft @run --count 2 {short}")
    screen = "".join(capsys.readouterr())
    assert "wrong colours" in screen and screen.count("True first.") == 2
    pages = [(tmp_path / name).read_text("utf-8") for name in ("run/report.html", "page.html")]
    assert all("wrong colours" in page for page in pages)
    for text in (screen, *pages):
        said = re.sub(r"data:image/[\w;/,+=]*", "", text)  # letters of a picture are no words
        assert not WORDS.findall(said)


def test_right_and_wrong_are_told_apart_from_manner_by_the_tasks_own_items(
    colours, make_gpt2, tokenizer
):
    """Two right answers that differ in length alone, and one that is wrong and long."""
    import torch

    from rlhf_lab.evaluate import Responses, reward_accuracy

    prompt = colours.held_out()["held-out"][0]
    texts = ["It is red.", "I think that it is red.", "I think that it is blue."]
    marks = [[colours.judge(prompt, text) for text in texts]]
    answers = Responses([prompt], [texts], None, torch.ones(1, 3), marks)
    scores = torch.tensor([[3.0, 1.0, 2.0]])
    found = reward_accuracy(answers, scores, colours.truth, colours.manner)
    assert (found["style"]["pairs"], found["style"]["accuracy"]) == (1, 1.0)
    assert (found["correctness"]["pairs"], found["correctness"]["accuracy"]) == (1, 0.0)


def test_words_of_the_support_desk_stand_where_they_are_meant_alone():
    found = set()
    for file in sorted(PACKAGE.rglob("*")):
        if file.suffix in (".py", ".js", ".css", ".html", ".toml"):
            place = file.relative_to(PACKAGE).as_posix()
            said = WORDS.findall(file.read_text(encoding="utf-8"))
            known = [there for there in THERE if place.startswith(there)]
            assert known or not said, f"{place} says {said}"
            found |= set(known) if said else set()
    assert found == set(THERE)  # the list holds no place that needs none


@pytest.mark.parametrize(
    "name",
    [
        "chess",
        "",
        ".",
        "..",
        "film_reviews",
        "labellers",
        "folder",
        "__init__",
        "support_desk.judge",
        "support_desk/",
        "../support_desk",
        "rlhf_lab.tasks.support_desk",
        "os",
        "\0",
        "x" * 5000,
    ],
)
def test_what_is_no_task_is_refused_and_not_imported(name):
    before = set(sys.modules)
    assert f"no task called '{name}': use 'support_desk'" in refusal(load_task, name)
    assert set(sys.modules) == before


def test_the_support_desks_guidelines_are_the_ones_that_rankings_name():
    guidelines = load_task("support_desk").guidelines
    assert guidelines.version == "support desk e2fd2477"
    assert 6 <= len([line for line in guidelines.text.splitlines() if line]) <= 8


def test_a_folder_says_how_a_message_becomes_a_prompt_and_may_have_guidelines(tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why?"}\n')
    toml = 'name = "tea"\nprompts = "prompts.jsonl"\nend = "\\nAnswer:"\n'
    (tmp_path / "task.toml").write_text(toml)
    task = read_folder(tmp_path)
    assert (
        task.prompt_of("Why {not}?")
        == "Why {not}?\nAnswer:"
        == task.prompt_of("Why {not}?\nAnswer:")
    )
    assert task.guidelines == GENERAL
    (tmp_path / "task.toml").write_text(toml + 'guidelines = "Green before black. "\n')
    own = load_task(str(tmp_path)).guidelines
    assert (own.name, own.text) == ("tea", "Green before black.")
