"""What version 0.1.0 wrote opens, goes on and gives the same numbers (data/v0_1_0/README.md says
how it was made); what a later version writes is refused by its version."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from helpers import refusal
from safetensors.torch import load_file, save_file

from rlhf_lab.cli import main
from rlhf_lab.disk import checkpoint, provenance, run_folder
from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.feedback.exchange import contents_of, export_jsonl, take_in
from rlhf_lab.feedback.store import Contents, Entry, FeedbackStore
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer
from rlhf_lab.reward import score_texts
from rlhf_lab.runs.pipeline import Pipeline, PipelineConfig, smoke
from rlhf_lab.tasks import load_task
from rlhf_lab.training import Optimiser

OLD = Path(__file__).parent / "data" / "v0_1_0"
EXPECTED = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
TEXTS, STAGES = EXPECTED["texts"], EXPECTED["stages"]
MODELS = {"sft": "sft", "adapters": "sft", "reward": "reward_model", "ppo": "policy"}
GONE = {"val/ratio_first"}  # 0.3.0 logs others in its place
STEPS = {"sft": 2, "adapters": 2, "reward": 2, "ppo": 4}  # left from update 10 to 12


@pytest.fixture(autouse=True)
def old(tmp_path, monkeypatch):
    """A copy of what 0.1.0 wrote, to work in."""
    shutil.copytree(OLD, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def steps(monkeypatch):
    """A list that grows with every step of an optimiser."""
    made, step = [], Optimiser.step
    monkeypatch.setattr(Optimiser, "step", lambda self: (made.append(1), step(self))[1])
    return made


def go_on(name, *more):
    return main([*EXPECTED["commands"][name].split(), name, *more])


def outcome(folder, reward=False):
    """Of a policy the mean log-probability of each text; of a reward model its scores."""
    if reward:
        return score_texts(ScalarModel.load(folder), load_tokenizer(folder), TEXTS).tolist()
    tokenizer, policy, found = load_tokenizer(folder), load_policy(folder), []
    for text in map("".join, TEXTS):
        tokens = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            logits = policy(tokens).logits[0, :-1].log_softmax(-1)
        found.append(logits.gather(-1, tokens[0, 1:, None]).mean().item())
    return found


def assert_same(record, wanted):
    """Equal, numbers as far as processors agree. Later versions may log more."""
    for key, value in wanted.items():
        close = pytest.approx(value, abs=1e-4) if isinstance(value, float) else value
        assert record[key] == close, key


def edit(file, change):
    """Change a JSON file by `change(its content)`."""
    content = json.loads(Path(file).read_text(encoding="utf-8"))
    change(content)
    Path(file).write_text(json.dumps(content), encoding="utf-8")


# ---- stores -------------------------------------------------------------------------------------


def test_a_store_gives_its_rankings_and_exports_the_same():
    store = FeedbackStore("feedback.sqlite3")
    found = [[r.labeller, r.prompt.id, list(r.responses), list(r.ranks)] for r in store.rankings()]
    assert found == EXPECTED["rankings"]
    assert found[0] == [
        "ann",
        "p0",
        ["Unplug it.", "Buy another.", "Grüße! 🙂", " \n"],
        [1, 2, 2, 4],
    ]
    assert None in found[1][3] and store.labellers() == ["ann", "böb"]
    kinds = [entry.kind for entry in store.entries(undone=True)]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "ranking": 6,
        "skip": 1,
        "flag": 1,
        "undo": 1,
    }
    export_jsonl(store, "again.jsonl")
    *lines, forgotten = Path("again.jsonl").read_bytes().splitlines(keepends=True)
    assert b"".join(lines) == Path("feedback.jsonl").read_bytes()
    assert json.loads(forgotten)["kind"] == "forgotten"  # which 0.1.0 did not export


def test_a_store_and_its_export_are_taken_in_by_a_new_one():
    before = Path("feedback.sqlite3").read_bytes()
    merged, imported = FeedbackStore("merged.sqlite3"), FeedbackStore("imported.sqlite3")
    new = merged.merge("feedback.sqlite3")
    assert Path("feedback.sqlite3").read_bytes() == before
    assert new == take_in(imported, "feedback.jsonl", contents_of("feedback.jsonl"))
    assert new.new["prompts"] == 4 and new.new["samples"] == 20 and new.new["ranking"] == 6
    opened = FeedbackStore("feedback.sqlite3")
    assert merged.contents() == opened.contents()
    assert imported.contents() == replace(opened.contents(), forgotten=[])
    assert sum(opened.merge("merged.sqlite3").new.values()) == 0


def test_a_store_still_knows_whom_it_forgot():
    store = FeedbackStore("feedback.sqlite3")
    prompt = store.prompts()[0]
    made = "2020-01-01T00:00:00.000000+00:00"
    back = [
        Entry("0" * 32, "skip", "cat", prompt, made=made),
        Entry("1" * 32, "skip", "dan", prompt, made=made),
    ]
    store.take_in(Contents(labellers=["cat", "dan"], entries=back))
    assert store.labellers() == ["ann", "böb", "dan"] and not store.entries("cat")


# ---- models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED["models"])
def test_a_model_gives_the_same_numbers(name):
    found = outcome(name, name == "reward_model")
    assert found == pytest.approx(EXPECTED["models"][name], abs=1e-4)


def test_adapters_load_beside_the_model_they_were_trained_on():
    peft = pytest.importorskip("peft")
    model = peft.PeftModel.from_pretrained(load_policy("model"), "policy/adapter").eval()
    tokens = torch.tensor([load_tokenizer("model")("".join(TEXTS[0]))["input_ids"]])
    with torch.no_grad():
        found, wanted = model(tokens).logits, load_policy("policy")(tokens).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


# ---- runs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STAGES)
def test_a_stopped_stage_goes_on_to_where_it_would_have_come(name, steps):
    if name == "adapters":
        pytest.importorskip("peft")
    run = RunFolder.view(name)
    assert run.config["settings"]["model"] == "model"
    assert [record["update"] for record in run.metrics()] == list(range(1, 12))
    assert go_on(name) == 0
    assert len(steps) == STEPS[name]  # and not those of all 12 updates
    assert [record["update"] for record in run.metrics()] == list(range(1, 13))
    for record, wanted in zip(run.metrics()[-2:], STAGES[name]["records"], strict=True):
        if name == "ppo":  # since 0.3.0 it draws other responses from the same seeds
            assert record.keys() >= wanted.keys() - GONE and record["lr"] == wanted["lr"]
        else:
            assert_same(record, wanted)
    if name == "ppo":
        return
    found = outcome(run.path / MODELS[name], name == "reward")
    assert found == pytest.approx(STAGES[name]["outcome"], abs=1e-4)


def test_a_stopped_pretraining_goes_on_to_where_it_would_have_come(steps):
    shutil.rmtree("base")
    assert main(EXPECTED["commands"]["pretrain"].split()) == 0
    assert len(steps) == 5  # from update 100 to 105
    assert outcome("base") == pytest.approx(EXPECTED["models"]["base"], abs=1e-4)


def test_a_finished_run_goes_on_where_nothing_is_left_to_train(steps):
    config = replace(
        smoke(PipelineConfig("base", device="cpu")),
        demonstrations=40,
        ranked_prompts=20,
        ppo_prompts=20,
        held_out=3,
    )
    settings = asdict(config) | {"task": "support_desk"}
    del settings["device"]
    before = RunFolder.view("demo").read_summary()
    with RunFolder.open("demo", settings, defaults=asdict(PipelineConfig("base"))) as run:
        summary = Pipeline(load_task("support_desk"), config, run).run_all()
    assert steps == []
    assert summary.keys() >= before.keys() and summary["seed"] == before["seed"]
    for name, row in before["models"].items():
        assert summary["models"][name].keys() >= row.keys()


def test_a_finished_run_is_reported_and_compared(capsys):
    assert main(["report", "demo"]) == 0
    mark = RunFolder.view("demo").read_summary()["models"]["policy"]["mark"][0]
    assert f"{mark:.2f}" in Path("demo/report.html").read_text(encoding="utf-8")
    few = ["--prompts", "2", "--samples", "1", "--max-new-tokens", "4", "--device", "cpu"]
    assert main(["compare", "demo/sft", "demo", *few, "--out", "table.json"]) == 0
    rows = json.loads(Path("table.json").read_text(encoding="utf-8"))
    assert "demo" in json.dumps(rows) and "demo/sft" in capsys.readouterr().out


# ---- settings and versions that are not those of then -------------------------------------------


@pytest.mark.parametrize("name", ["sft", "pretrain"])
def test_a_setting_that_is_newer_than_the_run_is_taken_to_have_had_its_default(name, capsys):
    if name == "sft":
        edit("sft/config.json", lambda config: config["settings"].pop("warmup"))
        again = EXPECTED["commands"]["sft"].split() + ["sft"]
        said = "warmup was 10, now 3"
    else:
        edit("base.checkpoint/state.json", lambda state: state["settings"].pop("late_from"))
        again = EXPECTED["commands"]["pretrain"].split()
        said = "late_from was 1600, now 3"
    other = ["--warmup" if name == "sft" else "--late-from", "3"]
    assert main([*again, *other]) == 1
    assert said in capsys.readouterr().err
    assert main(again) == 0


def test_a_setting_that_is_no_more_names_the_version_that_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(provenance, "__version__", "9.0.0")
    edit("sft/config.json", lambda config: config["settings"].update(knob=3))
    assert go_on("sft") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "knob was 3, now unset" in error
    assert error.endswith("or resume it with rlhf-lab 0.1.0, which began it")


def test_going_on_with_other_versions_is_said_in_one_line(old, monkeypatch, capsys):
    now = provenance.surroundings()["versions"]
    edit("sft/config.json", lambda config: config["versions"].update(now))
    monkeypatch.setattr(run_folder, "FORMAT", 1)
    assert go_on("sft") == 0 and "other versions" not in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.chdir(old)
    monkeypatch.setattr(provenance, "__version__", "9.0.0")
    assert go_on("sft") == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "other versions" in x]
    assert line.startswith('sft resumes with other versions than it began with (rlhf-lab was "')
    assert 'now "9.0.0"; run format was 1, now 2)' in line and line.count("was") == 2


def test_a_pretraining_that_goes_on_with_another_format_says_so(capsys):
    shutil.rmtree("base")
    assert main(EXPECTED["commands"]["pretrain"].split()) == 0
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "other versions" in x]
    assert line.startswith("base.checkpoint resumes with other versions than it began with ")
    assert "(checkpoint format was 1, now 2)" in line


# ---- what a later version wrote -----------------------------------------------------------------


def test_a_run_of_a_newer_format_is_refused_by_its_version(capsys):
    number = run_folder.FORMAT + 1

    def later(config):
        config["rlhf_lab_run"] = number
        config["versions"]["rlhf-lab"] = "9.0.0"

    edit("ppo/config.json", later)
    edit("demo/config.json", later)
    before = {file: file.read_bytes() for file in Path("ppo").rglob("*") if file.is_file()}
    says = (
        f"the run in ppo was written by rlhf-lab 9.0.0 (format {number}, this one reads up to "
        f"{number - 1}): update rlhf-lab; no file was changed"
    )
    assert refusal(RunFolder.view, "ppo") == refusal(RunFolder.open, "ppo", {}) == says
    assert go_on("ppo") == 1 and says in capsys.readouterr().err
    assert before == {file: file.read_bytes() for file in Path("ppo").rglob("*") if file.is_file()}
    for command in (["report", "demo"], ["compare", "demo", "--task", "support_desk"]):
        assert main(command) == 1
        assert "the run in demo was written by rlhf-lab 9.0.0" in capsys.readouterr().err


def test_a_checkpoint_of_a_newer_format_is_refused(capsys):
    state, number = "reward/checkpoints/stage/state.json", checkpoint.FORMAT + 1
    assert "format" not in json.loads(Path(state).read_text())
    edit(state, lambda content: content.update(format=number))
    assert go_on("reward") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("rlhf-lab: the checkpoint in ") and "stage was written by a " in error
    assert f"newer rlhf-lab (format {number}, this one reads up to {number - 1}): update" in error


def test_a_checkpoint_that_lacks_weights_of_the_model_is_refused(capsys):
    file = Path("sft/checkpoints/stage/policy.safetensors")
    weights = load_file(file)
    weights["transformer.h.0.renamed"] = weights.pop("transformer.h.0.ln_1.weight")
    save_file(weights, file)
    assert go_on("sft") == 1
    assert (
        "does not fit the policy (it lacks 'transformer.h.0.ln_1.weight')"
        in capsys.readouterr().err
    )
