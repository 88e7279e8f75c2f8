"""The main job, small: everything a run promises is in its folder, and a stopped run goes on."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_lab.cli import main
from rlhf_lab.disk.data import base_model
from rlhf_lab.disk.run_folder import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the shipped model, small, stopped once in the middle of PPO."""
    out = tmp_path_factory.mktemp("runs") / "smoke"
    patch = pytest.MonkeyPatch()
    import rlhf_lab.ppo as ppo

    real = ppo.collect

    def stopped(*arguments):
        if arguments[-1] == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    patch.setattr(ppo, "collect", stopped)
    assert main(["demo", "--smoke", "--device", "cpu", "--out", str(out)]) == 130
    patch.undo()
    assert not (out / "summary.json").exists() and (out / "reward_model").is_dir()
    assert main(["demo", "--smoke", "--device", "cpu", "--out", str(out)]) == 0
    return RunFolder.view(out)


def test_every_stage_left_its_model_and_its_metrics(run):
    for folder in (run.sft, run.policy):
        assert AutoModelForCausalLM.from_pretrained(folder).config.n_embd == 256
    assert (
        AutoModelForSequenceClassification.from_pretrained(run.reward_model).config.num_labels == 1
    )
    for stage in ("sft", "reward", "ppo"):
        records = run.metrics(stage)
        assert [r["update"] for r in records] == list(range(1, records[0]["updates"] + 1))


def test_summary_has_the_four_rows_and_their_parts(run):
    summary = run.read_summary()
    assert list(summary["models"]) == ["base", "sft", "best_of_n", "policy"]
    for row in summary["models"].values():
        mark, low, high = row["mark"]
        assert 0 <= low <= mark <= high <= 10
        assert set(row["rubric"]) == {"helpful", "accurate", "polite", "honest", "concise"}
        assert 0 <= row["flaws"]["invented promises"][0] <= 1
        assert set(row["mark_by_set"]) == {"held-out", "apart"}
    assert summary["models"]["policy"]["kl"][0] >= 0
    assert {"all", "clear", "correctness", "style"} <= set(summary["reward_model"])
    assert {"sft", "rankings", "reward", "ppo", "evaluate"} <= set(summary["seconds"])


def test_settings_versions_and_samples_are_kept(run):
    assert run.config["settings"]["ppo"]["updates"] == 3 and run.config["versions"]["torch"]
    rows = [json.loads(line) for line in run.samples.read_text(encoding="utf-8").splitlines()]
    assert {row["model"] for row in rows} == {"base", "sft", "best_of_n", "policy"}
    assert all(row["reasons"] or row["mark"] > 9.9 for row in rows)


def test_report_is_one_file_that_needs_nothing_else(run):
    page = run.report.read_text(encoding="utf-8")
    assert "<script" not in page and 'src="http' not in page and 'href="http' not in page


def test_running_it_again_changes_nothing(run):
    before = run.summary.read_text()
    weights = (run.policy / "model.safetensors").read_bytes()
    assert main(["demo", "--smoke", "--device", "cpu", "--out", str(run.path)]) == 0
    assert (run.policy / "model.safetensors").read_bytes() == weights
    after = json.loads(run.summary.read_text())
    assert after["models"] == json.loads(before)["models"]


def test_base_model_is_compact_and_stored_in_half_precision():
    from safetensors import safe_open

    with safe_open(base_model() / "model.safetensors", "pt") as file:
        tensors = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118  no mapping
    assert all(str(t.dtype) == "torch.float16" for t in tensors)
    assert 2e6 < sum(t.numel() for t in tensors) < 4e6
