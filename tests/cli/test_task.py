"""A task of one's own: the folder and its parts, and the whole way from the template to the
evaluation with a random tiny model, on the command line."""

import io
import json
import re
from pathlib import Path
from shutil import copytree

import pytest
import torch
from helpers import refusal

from rlhf_lab.cli import main
from rlhf_lab.compare.contestants import contestants_of
from rlhf_lab.compare.standing import standing_of
from rlhf_lab.disk.files import fingerprint, read_rankings, read_samples
from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.disk.storage import fingerprint as weights
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import ranking_accuracy
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.models import ScalarModel, load_tokenizer, save_policy
from rlhf_lab.records import Prompt, Ranking
from rlhf_lab.reward import score_texts
from rlhf_lab.tasks import SHIPPED, TASKS, check_base, load_task
from rlhf_lab.tasks.film_reviews.beginnings import beginning, write_task
from rlhf_lab.tasks.film_reviews.beginnings import rankings as ranked_beginnings
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence
from rlhf_lab.tasks.folder import read_folder
from rlhf_lab.tasks.parts import PARTS, Shares

TOML = 'name = "tea"\nprompts = "prompts.jsonl"\n'


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    """folder(toml, prompts, demonstrations): a task's folder with these."""

    def write(toml=TOML, prompts=tuple(f"ask {i}" for i in range(60)), demonstrations=None):
        place = tmp_path / "tea"
        place.mkdir(exist_ok=True)
        (place / "task.toml").write_text(toml, encoding="utf-8")
        (place / "prompts.jsonl").write_text(lines({"prompt": p} for p in prompts), "utf-8")
        if demonstrations is not None:
            (place / "demonstrations.jsonl").write_text(
                lines({"prompt": p, "response": r} for p, r in demonstrations), "utf-8"
            )
        return place

    return write


# ---- the parts -----------------------------------------------------------------------------------


def test_every_prompt_is_in_one_part_and_the_shares_are_as_asked():
    shares = Shares(second=0.2, held_out=0.3)
    found = [shares.part_of(f"prompt number {i}") for i in range(8000)]
    assert set(found) == set(PARTS)
    for part, share in zip(PARTS, (0.5, 0.2, 0.3)):  # four standard errors
        assert abs(found.count(part) / 8000 - share) < 4 * (share * (1 - share) / 8000) ** 0.5


def test_prompts_added_later_move_none(folder):
    first = [f"why {i}?" for i in range(80)]
    before = {
        p.text: read_folder(folder(prompts=first)).part_of(p)
        for p in read_folder(folder(prompts=first)).prompts()
    }
    later = [f"new {i}" for i in range(200)] + first[::-1]
    task = read_folder(folder(prompts=later))
    parts = {part: {p.text for p in task.prompts(part)} for part in PARTS}
    assert {text: part for part in PARTS for text in parts[part] if text in before} == before
    assert sum(map(len, parts.values())) == 280 == len(set().union(*parts.values()))


def test_a_larger_share_takes_over_and_gives_nothing_back():
    texts = [f"prompt {i}" for i in range(500)]
    few, many = Shares(held_out=0.1), Shares(held_out=0.3)
    held = [{t for t in texts if shares.part_of(t) == "held-out"} for shares in (few, many)]
    assert held[0] < held[1]


@pytest.mark.parametrize("copy", ["WHERE is my tea", "Where is my tea?", " Where  is\nmy tea ..."])
def test_copies_that_differ_in_case_and_punctuation_share_a_part(copy):
    for second, held_out in ((i / 23, j / 23) for i in range(1, 22) for j in range(1, 22 - i)):
        shares = Shares(second, held_out)
        assert shares.part_of(copy) == shares.part_of("Where is my tea")


def test_texts_without_a_word_are_told_apart():
    found = {Shares().part_of("+" * count) for count in range(1, 40)}
    assert found == set(PARTS)


# ---- the folder ----------------------------------------------------------------------------------


def test_the_end_is_added_once_and_does_not_change_the_part(folder):
    toml = TOML + 'end = "\\nAnswer:"\n'
    texts = [f"ask {i}" for i in range(40)]
    task = read_folder(folder(toml, texts[:20] + [t + "\nAnswer:" for t in texts]))
    assert [p.text for p in task.prompts()] == [t + "\nAnswer:" for t in texts]
    for text in texts:
        bare, whole = Prompt("", text), Prompt("", text + "\nAnswer:")
        assert task.part_of(bare) == task.part_of(whole)
    ranked = [Ranking(Prompt("", text), ("a", "b"), (1, 2)) for text in texts]
    for part in PARTS:
        assert {r.prompt.text for r in task.rankings(ranked, part)} == {
            p.text for p in task.prompts(part)
        }


def test_demonstrations_to_learn_from_are_of_the_train_part_alone(folder):
    shown = [(f"ask {i}", f"so {i}") for i in range(60)]
    toml = TOML + 'demonstrations = "demonstrations.jsonl"\n'
    task = read_folder(folder(toml, demonstrations=shown))
    for part in PARTS:
        assert {d.prompt.text for d in task.demonstrations(part)} == {
            p.text for p in task.prompts(part)
        }


def test_any_layout_and_a_prompt_twice(folder):
    place = folder(TOML.replace("prompts.jsonl", "asked.csv"))
    rows = "".join(f"q{i},yes,no\n" for i in range(40))
    (place / "asked.csv").write_text("prompt,chosen,rejected\n" + 2 * rows)
    assert [p.text for p in read_folder(place).prompts()] == [f"q{i}" for i in range(40)]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_without_prompts_is_refused_with_the_file_and_what_to_do(folder, part):
    others = [p for p in (f"ask {i}" for i in range(40)) if Shares().part_of(p) != part]
    message = refusal(read_folder(folder(prompts=others)).prompts, part)
    share = "0.5" if part == "train" else "0.25"
    assert f"tea/prompts.jsonl: none of its prompts ({len(others)})" in message
    assert f"'{part}'" in message and share in message and "add prompts (" in message


def test_parts_without_rankings_and_without_demonstrations_are_refused(folder):
    held = [f"ask {i}" for i in range(40) if Shares().part_of(f"ask {i}") == "held-out"]
    toml = TOML + 'demonstrations = "demonstrations.jsonl"\n'
    task = read_folder(folder(toml, demonstrations=[(p, "so") for p in held]))
    assert "demonstrations.jsonl: none of its" in refusal(task.demonstrations)
    ranked = [Ranking(Prompt("", held[0]), ("a", "b"), (1, 2))]
    message = refusal(task.rankings, ranked, "second")
    assert (
        "rankings.sqlite3: none of its rankings (1)" in message and "rank more prompts" in message
    )
    assert "names no demonstrations" in refusal(read_folder(folder()).demonstrations)


@pytest.mark.parametrize(
    "toml, said",
    [
        ('prompts = "prompts.jsonl"', "field 'name': is missing"),
        ('name = " "\nprompts = "prompts.jsonl"', "field 'name': is empty"),
        ('name = "tea"', "field 'prompts': is missing"),
        ('name = "tea"\nprompts = ["a"]', "field 'prompts': is a list"),
        ('name = "tea"\nprompts = "promts.jsonl"', "field 'prompts': there is no file"),
        (TOML + 'demonstrations = "d.jsonl"', "field 'demonstrations': there is no file"),
        (TOML + "end = 3", "field 'end': is a number"),
        (TOML + "longest_response = 0", "field 'longest_response': is 0"),
        (TOML + "longest_response = true", "field 'longest_response': is true"),
        (TOML + "longest_response = 2.5", "field 'longest_response': is a number"),
        (TOML + "guidelines = 2026-11-24", "field 'guidelines': is a date"),
        (TOML + 'guideline = "x"', "field 'guideline': is not known: did you mean 'guidelines'"),
        (TOML + "shares = 3", "field 'shares': is a number"),
        (TOML + "[shares]\nsecond = 0", "[shares], field 'second': is 0"),
        (TOML + "[shares]\nheld_out = true", "[shares], field 'held_out': is True"),
        (TOML + "[shares]\nheldout = 0.2", "[shares], field 'heldout': is not known"),
        (
            TOML + "[shares]\nsecond = 0.5\nheld_out = 0.5",
            "field 'shares': second and held_out add up to 1",
        ),
        ("name = tea", "not valid TOML"),
    ],
)
def test_a_malformed_task_is_named_by_file_and_field(folder, toml, said):
    message = refusal(read_folder, folder(toml))
    assert "tea/task.toml" in message and said in message


def test_no_task_in_the_folder(tmp_path):
    assert "rlhf-lab task new" in refusal(read_folder, tmp_path)
    assert "no task called" in refusal(load_task, str(tmp_path / "nowhere"))


# ---- the command ---------------------------------------------------------------------------------


def test_new_writes_nothing_over_what_is_there(tmp_path, capsys):
    place = tmp_path / "mine"
    place.mkdir()
    (place / "prompts.jsonl").write_text("mine\n")
    assert main(["task", "new", str(place)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert [p.read_text() for p in place.iterdir()] == ["mine\n"]
    assert main(["task", "new", str(place / "prompts.jsonl")]) == 1
    assert (place / "prompts.jsonl").read_text() == "mine\n"


@pytest.mark.parametrize("name", TASKS)
def test_new_starts_like_any_task_of_the_lab(tmp_path, name):
    assert main(["task", "new", str(tmp_path / "mine"), "--like", name]) == 0
    mine, like = read_folder(tmp_path / "mine"), load_task(name)
    known = {p.text for p in like.prompts(0, 800)}
    assert len(mine.prompts()) > 300 and {p.text for p in mine.prompts()} <= known
    assert mine.demonstrations()[0].response.strip()
    assert mine.longest_response == like.longest_response
    if name != SHIPPED:  # the template has general ones
        assert mine.guidelines.text == like.guidelines.text.strip()


@pytest.fixture
def mine(tmp_path, gpt2_of, monkeypatch):
    """A new task cut down to 60 prompts, and a tiny random model; here is where they are."""
    monkeypatch.chdir(tmp_path)
    assert main(["task", "new", "mine"]) == 0
    for name, count in (("prompts", 60), ("demonstrations", 24)):
        file = tmp_path / f"mine/{name}.jsonl"
        file.write_text("".join(file.read_text("utf-8").splitlines(True)[:count]), "utf-8")
    gpt2_of(tmp_path / "model")
    return tmp_path


@pytest.fixture
def gpt2_of(make_gpt2, tokenizer):
    return lambda place: save_policy(make_gpt2(tokenizer, n_positions=512), tokenizer, place)


def run(command: str, capsys=None) -> int:
    assert main(command.split()) == 0, capsys and capsys.readouterr().err


def typed(monkeypatch, *lines: str) -> None:
    """Let these lines be typed when the terminal asks."""
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def blocks(heading: str) -> list[str]:
    """What stands in the code blocks of a section of the page."""
    page = Path(__file__).parents[2].joinpath("docs/your-own-task.md").read_text("utf-8")
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```\w*\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


SMALL = {  # what makes the page's commands take a second each
    "sft": "--epochs 1 --device cpu",
    "sample": "--max-new-tokens 6",
    "rank": "--goal 30",
    "reward": "--epochs 1 --device cpu",
    "task": "",
    "ppo": "--updates 2 --batch-size 4 --max-new-tokens 6 --device cpu",
    "compare": "--samples 2 --blind 3 --out table.json --max-new-tokens 6 --device cpu",
    "blind": "--max-new-tokens 6 --device cpu",
}


def test_the_pages_commands_lead_from_the_template_to_the_evaluation(mine, monkeypatch, capsys):
    said = {}
    for line in blocks("The way")[0].splitlines():
        typed(monkeypatch, *"ab" * 20)
        command = re.sub(" +", " ", line.removeprefix("rlhf-lab ")).replace("mytask", "mine")
        run(f"{command.replace('data/base', 'model')} {SMALL[command.split()[0]]}")
        said[command.split()[0]] = capsys.readouterr()
    assert "give the one made by" not in said["compare"].err and "orders" in said["compare"].err
    assert re.search("After [1-9]", said["blind"].out)
    runs = {name: f"runs/{name}" for name in ("sft", "first", "second", "ppo")}
    task = read_folder("mine")
    parts = {part: task.prompts(part) for part in PARTS}
    rankings = FeedbackStore(task.store).rankings()
    assert len(rankings) > 20 and rankings[0].prompt.text.endswith("\nAgent:")
    sampled = [prompt.text for prompt, _ in read_samples("samples.jsonl")]
    assert sampled == [p.text for p in task.prompts("train", "second")]
    learned = {
        "sft": task.demonstrations(),
        "ppo": parts["train"],
        "first": task.rankings(rankings, "train"),
        "second": task.rankings(rankings, "second"),
    }
    for name, data in learned.items():  # what each run learned from, and nothing else
        config = RunFolder.view(runs[name]).config
        assert config["data"]["data"] == fingerprint(data) and config["settings"]["task"] == "mine"
    table = json.loads((mine / "table.json").read_text())
    assert [row["model"] for row in table["rows"]] == ["SFT", "policy"]
    value, low, high = table["rows"][1]["difference"]
    assert low < value < high and len(table["key"]) == 3
    pairs = json.loads((mine / "table.pairs.json").read_text())
    assert {pair["prompt"] for pair in pairs} <= {p.text for p in parts["held-out"]}
    assert len(parts["held-out"]) == int(
        re.search(r"held-out, (\d+) prompts", (mine / "comparison.html").read_text())[1]
    )


def test_the_pages_python_does_the_same(mine, monkeypatch, capsys):
    page = blocks("The same in Python")
    first, widget, rest = (block.replace("mytask", "mine") for block in page)
    monkeypatch.setattr("rlhf_lab.disk.data.base_model", lambda: mine / "model")
    toml = mine / "mine/task.toml"
    toml.write_text(toml.read_text().replace("longest_response = 64", "longest_response = 6"))
    names = {}
    exec(first, names)
    exec(widget.replace("RankingWidget(", "shown = RankingWidget("), names)
    assert names["shown"].state["guidelines"]["text"] == names["task"].guidelines.text
    session = names["shown"].session
    while session.current:
        session.submit(range(1, 1 + len(session.current.responses)))
    exec(rest.replace("PPOConfig(", "PPOConfig(updates=2, batch_size=4, "), names)
    task, (before, after) = names["task"], names["found"].rows
    assert after["rival"] == before["model"] == "models/sft"
    assert len(names["held_out"]) == len(task.prompts("held-out"))
    with torch.no_grad():  # what PPO optimised and what judges are two models
        heads = [model.head.weight for model in names["reward_models"].values()]
    assert not torch.equal(*heads)


def test_each_reward_model_is_tested_on_the_others_rankings(mine, capsys):
    task = read_folder("mine")
    store = FeedbackStore(task.store)
    rows = [
        {"prompt": p.text, "responses": ["good", "bad"], "ranking": [1, 2]} for p in task.prompts()
    ]
    (mine / "ranked.jsonl").write_text(lines(rows))
    run("feedback import mine/rankings.sqlite3 ranked.jsonl --labeller ben")
    for part, other in (("train", "second"), ("second", "train")):
        run(f"reward --model model --task mine --part {part} --out {part} --epochs 1 --device cpu")
        model = ScalarModel.load(f"{part}/reward_model")
        apart = [p.text for p in task.prompts(other)]
        good, bad = (
            score_texts(model, load_tokenizer("model"), [(text, word) for text in apart])
            for word in ("good", "bad")
        )
        right = float((good > bad).float().mean())
        logged = RunFolder.view(part).metrics("reward")[-1]["reward/held_out_accuracy"]
        assert logged == pytest.approx(right)
        said = re.search(r"orders (\d+) %.*interval (\d+) to (\d+)", capsys.readouterr().out)
        found, low, high = ranking_accuracy(
            model, load_tokenizer("model"), task.rankings(store.rankings(), other)
        )
        assert [int(n) for n in said.groups()] == [round(100 * n) for n in (right, low, high)]
        assert found == pytest.approx(right)
        settings = RunFolder.view(part).config["settings"]
        assert settings["seed"] == (part == "second")  # or both would begin with the same head
    assert len(store.rankings()) == 60
    assert store.uses("ben") == ["train", "second"]
    run("feedback forget mine/rankings.sqlite3 ben")  # says what learned from the rankings
    assert capsys.readouterr().out.splitlines()[-1].endswith(": train, second")
    run("feedback import mine/rankings.sqlite3 ranked.jsonl --labeller ada")
    for part in PARTS:
        assert len(task.rankings(store.rankings(), part)) == len(task.prompts(part))


def test_tested_counts_ties_and_unranked_as_people_said(gpt2, tokenizer, monkeypatch):
    scores = {"a": 3.0, "b": 2.0, "c": 2.0, "d": 1.0}
    monkeypatch.setattr(
        "rlhf_lab.evaluate.score_texts",
        lambda model, tokenizer, pairs: torch.tensor([scores[text] for _, text, _ in pairs]),
    )
    one = Ranking(Prompt("", "p"), ("a", "b", "c"), (1, 2, 1))  # a > b right, c > b half; a = c
    two = Ranking(Prompt("", "q"), ("a", "d", "b"), (None, 1, None))  # d > a and d > b both wrong
    assert ranking_accuracy(gpt2, tokenizer, [one])[0] == pytest.approx(1.5 / 2)
    found, low, high = ranking_accuracy(gpt2, tokenizer, [one, two])
    assert found == pytest.approx(1.5 / 4) and low < found < high


def test_show_counts_and_says_what_to_do(mine, capsys):
    capsys.readouterr()
    run("task show mine")
    shown = capsys.readouterr().out
    task = read_folder("mine")
    counts = [len(task.prompts(part)) for part in PARTS]
    assert re.search(r"prompts\s+" + r"\s+".join(map(str, counts)), shown)
    assert "Nothing is ranked yet" in shown and not task.store.exists()
    held = task.prompts("held-out")[0]
    (mine / "one.jsonl").write_text(lines([{"prompt": held.text, "chosen": "a", "rejected": "b"}]))
    run("feedback import mine/rankings.sqlite3 one.jsonl --labeller ben")
    run("task show mine")
    shown = capsys.readouterr().out
    assert "'train'" in shown and "'second'" in shown
    assert "held-out prompts: 1." in shown and "are not in" not in shown
    toml = mine / "mine/task.toml"
    toml.write_text(toml.read_text().replace(r'end = "\nAgent:"', r'end = "\nA:"'))
    run("task show mine")
    assert "are not in mine/prompts.jsonl: 1. If `end`" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["mine", "mine/rankings.sqlite3"])
def test_labellers_see_the_tasks_guidelines_and_rankings_name_them(
    mine, monkeypatch, capsys, place
):
    run("sample --model model --task mine --rows 4 --responses 2 --max-new-tokens 4 --out s.jsonl")
    typed(monkeypatch, "?", "a", "q")
    run(f"rank {place} --labeller ada --k 2 --samples s.jsonl")
    assert "what fits the question, and is right" in capsys.readouterr().out
    [entry] = FeedbackStore(read_folder("mine").store).entries()
    assert entry.guidelines.startswith("mine ")


@pytest.mark.parametrize(
    "named, asked",
    [
        ("", "Customer: Why {me}?\nAgent:"),
        ("--task support_desk", "Customer: Why {me}?\nAgent:"),
        ("--data mine/prompts.jsonl --rows 2 --task support_desk", "Customer: Why {me}?\nAgent:"),
        ("--task mine --rows 2", "Why {me}?\nTea:"),
    ],
)
def test_a_message_gets_the_form_of_the_tasks_prompts(mine, named, asked):
    toml = mine / "mine/task.toml"
    toml.write_text(toml.read_text().replace(r'end = "\nAgent:"', r'end = "\nTea:"'))
    options = f"sample --model model --max-new-tokens 2 --out s.jsonl {named}".split()
    assert main([*options, "--message", "Why {me}?"]) == 0
    prompts = [prompt.text for prompt, _ in read_samples("s.jsonl")]
    assert prompts[-1] == asked and len(prompts) == (3 if "rows" in named else 1)


def test_the_tasks_length_holds_unless_another_is_given(mine):
    toml = mine / "mine/task.toml"
    toml.write_text(toml.read_text().replace("longest_response = 64", "longest_response = 7"))
    for given, tokens in (("", 7), (" --max-new-tokens 64", 64), (" --max-new-tokens 5", 5)):
        run(f"sample --model model --task mine --rows 2 --out s.jsonl{given}")
        row = json.loads((mine / "s.jsonl").read_text().splitlines()[0])
        assert row["settings"]["max_new_tokens"] == tokens


@pytest.mark.parametrize(
    "command, said",
    [
        ("sft --model model --out o", "give --data FILE, or --task FOLDER"),
        (
            "sft --model model --out o --task mine --data mine/prompts.jsonl",
            "give only one of them",
        ),
        ("sft --model model --out o --task support_desk", "no task in support_desk"),
        (
            "sft --model model --out o --task mine --layout messages",
            "--layout works only with --data",
        ),
        ("reward --model model --out o --task mine", "no rankings in mine yet"),
        (
            "reward --model model --out o --data x.jsonl --part second",
            "--part and --labellers need",
        ),
        ("sample --model model --task mine --max-new-tokens 500", "mine/prompts.jsonl: the prompt"),
        ("sample --model model --task support_desk", "no task in support_desk"),
        ("sample --model model --task chess --message hi", "no task called 'chess'"),
        ("rank mine --task support_desk --labeller ada", "mine belongs to a task's folder"),
        ("rank x.sqlite3 --task chess --labeller ada", "no task called 'chess'"),
        ("demo --task mine --out o", "has no judge"),
        ("compare model --task mine", "mine has no judge: give --reward-model"),
        ("compare model --task mine --set apart", "no set 'apart'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(mine, capsys, command, said):
    assert main(command.split()) == 1
    message = capsys.readouterr().err.strip()
    assert said in message.splitlines()[-1] and not (mine / "o").exists()


@pytest.mark.parametrize(
    "command",
    [
        "sft --model model --out o",
        "sample --model model --rows 1",
        "compare model --reward-model model",
    ],
)
def test_a_prompt_that_is_too_long_is_found_by_the_first_command_whatever_its_part(
    mine, capsys, command
):
    task = read_folder("mine")
    long = next(
        text
        for i in range(99)
        if task.shares.part_of((text := f"Held {i}: " + "tea, " * 200) + task.end) == "held-out"
    )
    with open(mine / "mine/prompts.jsonl", "a") as file:
        file.write(json.dumps({"prompt": long}) + "\n")
    assert main([*command.split(), "--task", "mine"]) == 1
    assert "mine/prompts.jsonl: the prompt 'Held" in capsys.readouterr().err
    assert not (mine / "o").exists()


def test_the_reward_model_that_ppo_optimises_is_no_judge(mine, capsys):
    rows = [
        {"prompt": p.text, "chosen": "yes", "rejected": "no"} for p in read_folder("mine").prompts()
    ]
    (mine / "ranked.jsonl").write_text(lines(rows))
    run("feedback import mine/rankings.sqlite3 ranked.jsonl --labeller ben")
    run("reward --model model --task mine --out first --epochs 1 --device cpu")
    run(
        "compare model --task mine --reward-model first/reward_model --samples 1 --prompts 3 "
        "--max-new-tokens 4 --device cpu"
    )
    assert "no evidence; give the one made by" in capsys.readouterr().err


def test_a_reward_model_that_ppo_optimised_is_named_with_the_policy_wherever_it_lies(tmp_path):
    said = "PPO optimised mine"
    inside = tmp_path / "whole"  # a run of all stages holds its reward model
    with RunFolder.open(inside, {"seed": 0}):
        pass
    for name in ("policy", "reward_model", "sft"):
        (inside / name).mkdir()
        (inside / name / "model.safetensors").write_bytes(name.encode())
    stage = tmp_path / "stage"  # a run of PPO alone notes which one it was
    with RunFolder.open(stage, {}, data={"reward model": weights(inside / "reward_model")}):
        pass
    (stage / "policy").mkdir()
    moved = tmp_path / "copy/reward_model"
    moved.parent.mkdir()
    copytree(inside / "reward_model", moved)
    for run_of, judged in ((inside, True), (stage, True), (inside / "sft", False)):
        known = standing_of(moved, contestants_of([f"mine={run_of}"]))
        assert [said in text for text in known] == [True] * judged
    (moved / "model.safetensors").write_bytes(b"another")
    assert standing_of(moved, contestants_of([f"mine={inside}", f"other={stage}"])) == []


def test_what_learned_the_same_as_the_reward_model_of_ppo_is_no_judge_whichever_part(tmp_path):
    def learned(name, part, weight):
        with RunFolder.open(tmp_path / name, {"part": part}):
            pass
        place = tmp_path / name / "reward_model"
        place.mkdir()
        (place / "model.safetensors").write_bytes(weight)
        return place

    first, second = learned("first", "train", b"1"), learned("second", "second", b"2")
    again = learned("again", "second", b"3")
    with RunFolder.open(tmp_path / "ppo", {"reward_model": str(second)}):
        pass
    (tmp_path / "ppo/policy").mkdir()
    models = contestants_of([f"mine={tmp_path / 'ppo'}"])
    [told] = standing_of(second, models)
    assert "PPO optimised mine" not in told  # this run did not note whose weights they were
    for judge, better in ((second, "without --part second"), (again, "without --part second")):
        [told] = standing_of(judge, models)
        assert "was trained on the same rankings as PPO's" in told and better in told
    assert standing_of(first, models) == [] != standing_of(first)
    assert standing_of(second) == []


def test_ppo_against_the_reward_model_that_is_to_judge_is_warned_of(mine, capsys):
    rows = [
        {"prompt": p.text, "chosen": "yes", "rejected": "no"} for p in read_folder("mine").prompts()
    ]
    (mine / "ranked.jsonl").write_text(lines(rows))
    run("feedback import mine/rankings.sqlite3 ranked.jsonl --labeller ben")
    for part, warned in (("second", True), ("train", False)):
        run(f"reward --model model --task mine --part {part} --out {part} --epochs 1 --device cpu")
        capsys.readouterr()
        run(
            f"ppo --model model --task mine --reward-model {part}/reward_model --out ppo_{part} "
            "--updates 1 --batch-size 4 --max-new-tokens 4 --device cpu"
        )
        assert ("it cannot judge" in capsys.readouterr().err) == warned


def test_a_reward_model_not_distinguishable_from_chance_is_named(tmp_path):
    model = tmp_path / "reward_model"
    for numbers, said in (
        ([0.52, 0.49, 0.54], "not distinguishable from chance"),
        ([0.7, 0.6, 0.8], "60 to 80 %)"),
    ):
        (tmp_path / "tested.json").write_text(json.dumps(numbers))
        [text] = standing_of(model)
        assert said in text and ("chance" in text) == (numbers[1] <= 0.5)
    (tmp_path / "tested.json").write_text("[null, null, null]")
    assert standing_of(model) == standing_of(None) == standing_of(tmp_path / "no/model") == []


# ---- the film lines ------------------------------------------------------------------------------


def test_beginnings_keep_the_words_and_leave_short_sentences_out():
    assert beginning("It's a  fine film, truly.") == ("It's a", "fine film, truly.")
    assert beginning("A fine little film") == ("", "")


def test_sentences_with_one_beginning_are_ranked_by_single_ratings():
    texts = [
        "It's a joy to see",
        "It's a bore all through",
        "It's a film for nobody",
        "The end comes too late",
    ]
    values = [(3, 3), (-2, -2), (-2, -2), (1, 1)]
    sentences = [Sentence(i, t, v, 0) for i, (t, v) in enumerate(zip(texts, values), 1)]
    drawn = ranked_beginnings(sentences, ratings=2)
    assert [r.prompt.text for r in drawn] == ["It's a", "It's a"]  # the other is alone
    for r in drawn:
        assert dict(zip(r.responses, r.ranks)) == {
            "joy to see": 1,
            "bore all through": 2,
            "film for nobody": 2,
        }


def test_the_film_task_reads_back_and_overwrites_nothing(tmp_path):
    starts = [f"Line {i}" for i in range(60)]
    sentences = [
        Sentence(n, f"{start} goes on {word} here", (n % 5, 1), 0)
        for n, (start, word) in enumerate((s, w) for s in starts for w in "abcde")
    ]
    place = tmp_path / "films"
    assert "0 ratings" in refusal(write_task, place, sentences, ratings=0) and not place.exists()
    assert write_task(place, sentences, ratings=1) == {
        "prompts": 60,
        "demonstrations": 300,
        "rankings": 60,
    }
    task = load_task(str(place))
    assert [p.text for p in task.prompts()] == starts
    ranked = read_rankings(place / "rankings.jsonl")
    assert sum(len(task.rankings(ranked, part)) for part in PARTS) == 60
    with pytest.raises(UserError, match="not empty"):
        write_task(place, sentences)


def test_a_task_without_a_base_model_says_how_to_make_one(tmp_path, monkeypatch, capsys):
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("RLHF_LAB_DATA", str(tmp_path / "data"))
    assert main(["demo", "--task", "assistant", "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "rlhf-lab pretrain --task assistant code stories --out worlds" in said
    assert not (tmp_path / "run").exists()
    assert "no base model" in refusal(check_base, load_task("assistant"))
