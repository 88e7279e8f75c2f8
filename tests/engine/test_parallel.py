"""Two processes, started by `accelerate launch`, against one with the same global batch.

Everything is float32, so what is compared may differ by rounding: sums over rows are made in
another order. That moves a gradient by some 1e-6 of its largest entry (seen: up to 2.3e-6) and,
after Adam, which divides by the gradient's size, a weight by a small part of a step of up to 1e-3
(seen: up to 4.3e-6).
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import parallel_stages as stages
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from helpers import refusal
from safetensors.torch import load_file

from rlhf_lab import training
from rlhf_lab.cli import main
from rlhf_lab.disk.checkpoint import Checkpoint
from rlhf_lab.engine import parallel
from rlhf_lab.models import load_policy, save_policy
from rlhf_lab.training import make_accelerator

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "docs" / "accelerate"
LAUNCH = [
    "-m",
    "accelerate.commands.launch",
    "--config_file",
    str(SETTINGS / "two_cpu_processes.yaml"),
    "--main_process_port",
    "0",
]
SECONDS = 300  # far more than it takes; a hanging process must not hang the tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_gpt2, tokenizer):
    """A folder in which two processes have done their work, which one process had prepared."""
    place = tmp_path_factory.mktemp("parallel")
    save_policy(make_gpt2(tokenizer), tokenizer, place / "model")
    rows = {
        "sft": [{"prompt": d.prompt.text, "response": d.response} for d in stages.SHOWN],
        "reward": [
            {"prompt": r.prompt.text, "responses": r.responses, "ranking": r.ranks}
            for r in stages.RANKED
        ],
        "ppo": [{"prompt": p.text} for p in stages.PROMPTS],
    }
    for name, lines in rows.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for stage in stages.RESUMED:
        stages.run(stage, place, Checkpoint(place / f"one-{stage}", 1), stop_after=1)
    return place


@pytest.fixture(scope="module")
def launched(folder):
    """What the launch said, and with which status it ended."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    own = {"OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "home"), "PYTHONPATH": path}
    if sys.platform == "linux":
        own["GLOO_SOCKET_IFNAME"] = "lo"
    with subprocess.Popen(
        [sys.executable, *LAUNCH, stages.__file__, str(folder)],
        text=True,
        env=os.environ | own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as job:
        try:
            out, err = job.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            job.send_signal(signal.SIGTERM)  # on which the launcher ends its processes
            out, err = job.communicate()
            pytest.fail(f"the processes hang:\n{out}\n{err}")
    assert "all done" in out, err
    return {"out": out, "err": err, "status": job.returncode}


@pytest.fixture(scope="module")
def alone(folder):
    """What one process makes of each stage."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {stage: stages.run(stage, folder) for stage in stages.STAGES}
    torch.set_num_threads(threads)


def of_process(folder, number, name):
    place = folder / f"process-{number}" / name
    return {
        "records": json.loads(place.with_suffix(".json").read_text()),
        "tensors": load_file(place.with_suffix(".safetensors")),
    }


def report(folder, number):
    return json.loads((folder / f"process-{number}" / "report.json").read_text())


def part(outcome, kind):
    return {n: x for n, x in outcome["tensors"].items() if n.startswith(kind + "/")}


def assert_like(first, second, within):
    """The same names, and no entry further apart than `within` times the largest of its tensor, or
    than rounding of the largest of all, where a gradient is 0 but for rounding."""
    assert first.keys() == second.keys() and first
    largest = {name: float(x.abs().max()) if x.numel() else 0.0 for name, x in second.items()}
    rounding = 1e-7 * max(largest.values())
    for name, x in first.items():
        torch.testing.assert_close(
            x,
            second[name],
            atol=within * largest[name] + rounding,
            rtol=0,
            msg=lambda m, name=name: f"{name}: {m}",
        )


def assert_same_weights(first, second):
    """But for the biases of keys, and of scores, which move no loss: there Adam follows
    rounding."""
    assert first.keys() == second.keys()
    for name in first:
        a, b = first[name].clone(), second[name].clone()
        if name.endswith("c_attn.bias"):
            a[32:64] = b[32:64] = 0
        if not name.endswith("head.bias"):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=0)


def assert_same_records(first, second):
    assert len(first) == len(second) > 0
    for a, b in zip(first, second):
        assert a.pop("stage") == b["stage"]
        numbers = {name: x for name, x in b.items() if name != "stage"}
        if b["stage"] == "dpo" and b["update"] == 1:  # no two scores differ by more than rounding
            assert a.pop("dpo/margin") == pytest.approx(0, abs=1e-6)
            del a["dpo/accuracy"], numbers["dpo/accuracy"], numbers["dpo/margin"]
        assert a == pytest.approx(numbers, rel=1e-4, abs=2e-5, nan_ok=True)


# ------------------------------------------------------------------------------ the stages


@pytest.mark.parametrize("stage", stages.STAGES)
def test_gradients_of_the_first_update_are_those_of_one_process(stage, folder, launched, alone):
    """Of the global batch: not halved, as a mean would be, and not weighed by the shares."""
    two, one = part(of_process(folder, 0, stage), "gradients/0"), part(alone[stage], "gradients/0")
    assert max(g.abs().max() for g in one.values()) > 1e-2  # and not all of it rounding
    assert_like(two, one, 1e-5)


@pytest.mark.parametrize("stage", stages.STAGES)
def test_a_run_has_the_gradients_metrics_and_weights_of_one_process(stage, folder, launched, alone):
    two = of_process(folder, 0, stage)
    assert_like(part(two, "gradients"), part(alone[stage], "gradients"), 1e-4)
    assert_same_records(two["records"], alone[stage]["records"])
    assert_same_weights(part(two, "weights"), part(alone[stage], "weights"))


@pytest.mark.parametrize("stage", ["ppo", "rloo", "grpo"])
def test_samples_are_the_same_and_so_is_what_is_made_of_them(stage, folder, launched, alone):
    """Advantages are whitened over the batch: with the mean and variance of all its tokens."""
    two, one = of_process(folder, 0, stage), alone[stage]
    for name, tokens in part(one, "sampled").items():
        assert torch.equal(two["tensors"][name], tokens)
    assert_like(part(two, "rollout"), part(one, "rollout"), 1e-4)
    if stage == "ppo":
        mask = two["tensors"]["sampled/0/mask"]
        advantages = two["tensors"]["rollout/0/advantages"][mask]
        assert advantages.mean() == pytest.approx(0, abs=1e-5)
        assert advantages.var(correction=0) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("stage", stages.STAGES)
def test_the_processes_agree_to_the_last_bit(stage, folder, launched):
    first, second = of_process(folder, 0, stage), of_process(folder, 1, stage)
    assert json.dumps(first["records"]) == json.dumps(second["records"])
    assert first["tensors"].keys() == second["tensors"].keys()
    for name, x in first["tensors"].items():
        assert torch.equal(x, second["tensors"][name]), name


def test_answers_and_scores_are_those_of_one_process(folder, launched):
    alone = stages.answers_of(folder)
    for number in (0, 1):
        found = report(folder, number)["answers"]
        for name, given in found.items():
            assert given["texts"] == alone[name]["texts"]
            assert given["scores"] == [
                pytest.approx(row, abs=1e-5) for row in alone[name]["scores"]
            ]


# ------------------------------------------------------------------------------ saving


@pytest.mark.parametrize("stage", stages.RESUMED)
def test_a_run_of_one_process_goes_on_with_two(stage, folder, launched, alone):
    two = of_process(folder, 1, f"resumed-{stage}")
    assert_same_records(two["records"], alone[stage]["records"][1:])
    assert_same_weights(part(two, "weights"), part(alone[stage], "weights"))


@pytest.mark.parametrize("stage", stages.RESUMED)
def test_a_run_of_two_processes_goes_on_with_one(stage, folder, launched, alone):
    one = stages.run(stage, folder, Checkpoint(folder / f"two-{stage}", 1))
    assert_same_records(one["records"], alone[stage]["records"][1:])
    assert_same_weights(part(one, "weights"), part(alone[stage], "weights"))


def test_only_the_main_process_saves(folder, launched):
    assert report(folder, 0)["saved"] > 0
    assert report(folder, 1)["saved"] == 0


# ------------------------------------------------------------------------------ the command line


def test_the_commands_run_in_both_processes_and_speak_with_one_voice(folder, launched):
    assert [report(folder, n)["cli"] for n in (0, 1)] == [[0, 0, 0]] * 2
    for name, model in (("sft", "sft"), ("reward", "reward_model"), ("ppo", "policy")):
        place = folder / "cli" / name
        records = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
        assert [r["update"] for r in records] == list(range(1, records[0]["updates"] + 1))
        assert launched["out"].count(f"wrote {place / model}") == 1
    assert load_policy(folder / "cli/ppo/policy").config.n_embd == 32
    assert launched["err"].count("2 processes share the work") == 3


def test_when_one_process_fails_the_launch_ends(folder, launched):
    assert [report(folder, n)["processes"] for n in (0, 1)] == [2, 2]
    assert "this process fails" in launched["err"] and launched["status"] != 0


@pytest.mark.parametrize(
    ("name", "kind", "processes"),
    [
        ("one_gpu", "NO", 1),
        ("several_gpus", "MULTI_GPU", 4),
        ("two_cpu_processes", "MULTI_GPU", 2),
        ("fsdp_with_trl", "FSDP", 4),
    ],
)
def test_accelerate_takes_the_examples_of_its_settings(name, kind, processes):
    found = load_config_from_file(str(SETTINGS / f"{name}.yaml"))
    assert (found.distributed_type, found.num_processes) == (kind, processes)


# ------------------------------------------------------------------------------ refusals


def test_processes_that_differ_say_so_before_they_start(folder, launched):
    for number in (0, 1):
        found = report(folder, number)["refusals"]
        assert "the processes differ in the weights" in found["weights"]
        assert re.search("checkpoint .*own-.* all machines share", found["checkpoint"])
        assert "a minibatch of 1 cannot be shared by 2 processes" in found["rows"]


@pytest.mark.parametrize("values", [[1, 2, 3], [2, 2, 3], [2, 2, 2]])
def test_where_one_of_three_differs_all_three_say_so(monkeypatch, values):
    monkeypatch.setattr(parallel, "count", lambda: 3)
    monkeypatch.setattr(parallel, "total", lambda _: torch.tensor(values))
    for number, value in enumerate(values):
        monkeypatch.setattr(parallel, "number", lambda number=number: number)
        if values == [2, 2, 2]:
            parallel.check_same("the folder", value)
        else:
            assert "the processes differ in the folder" in refusal(
                parallel.check_same, "the folder", value
            )


def test_the_smallest_minibatch_is_that_of_the_split(monkeypatch):
    for rows in range(1, 12):
        for parts in range(1, rows + 1):
            smallest = min(map(len, torch.arange(rows).tensor_split(parts)))
            monkeypatch.setattr(parallel, "count", lambda n=smallest: n)
            parallel.check_minibatches(rows, parts)
            monkeypatch.setattr(parallel, "count", lambda n=smallest: n + 1)
            assert f"a minibatch of {smallest} " in refusal(parallel.check_minibatches, rows, parts)


def test_commands_that_are_no_stage_are_not_done_twice(monkeypatch, capsys, folder):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["sample", "--model", str(folder / "model"), "--prompt", "a"]) == 1
    assert "sample runs in one process" in capsys.readouterr().err


def test_models_in_pieces_are_refused(monkeypatch):
    class Sharding:
        distributed_type, device = training.DistributedType.FSDP, torch.device("cpu")

    monkeypatch.setattr(training, "Accelerator", lambda **settings: Sharding)
    assert "FSDP cuts models in pieces" in refusal(make_accelerator, "cpu")
