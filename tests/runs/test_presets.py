"""Presets, and what comes before them on the command line."""

import json
from dataclasses import FrozenInstanceError, asdict, replace

import pytest
from helpers import refusal

from rlhf_lab import cli
from rlhf_lab.cli.options import read_config
from rlhf_lab.disk import storage
from rlhf_lab.models import save_policy
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.reward import RewardConfig
from rlhf_lab.runs.pipeline import PipelineConfig
from rlhf_lab.runs.presets import PRESETS
from rlhf_lab.sft import SFTConfig

CONFIGS = {"sft": SFTConfig, "reward": RewardConfig, "ppo": PPOConfig}
NEEDED = {"sft": (), "reward": ("--model", "m"), "ppo": ("--model", "m", "--reward-model", "r")}


def options_of(command, *arguments):
    given = [command, *arguments]
    return cli.with_defaults(given, cli.build_parser(command).parse_args(given))


def config_of(stage, *arguments):
    given = options_of(stage, "--data", "d", "--out", "o", *NEEDED[stage], *arguments)
    return read_config(given, CONFIGS[stage])


def test_there_are_three_and_they_cannot_be_changed():
    assert list(PRESETS) == ["compact", "gpt2", "gpt2-medium"]
    with pytest.raises(FrozenInstanceError):
        PRESETS["gpt2"].model = "other"


@pytest.mark.parametrize("stage", CONFIGS)
def test_compact_is_what_there_was_before(stage):
    assert getattr(PRESETS["compact"], stage) == CONFIGS[stage]()
    assert config_of(stage) == config_of(stage, "--preset", "compact") == CONFIGS[stage]()


def test_compact_samples_as_the_pipeline_does():
    assert PRESETS["compact"].sampling == PipelineConfig("base").sampling


@pytest.mark.parametrize("stage", CONFIGS)
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_every_option_and_a_given_one_comes_first(stage, name):
    whole = getattr(PRESETS[name], stage)
    assert config_of(stage, "--preset", name) == whole
    some = config_of(stage, "--preset", name, "--learning-rate", "0.5", "--max-tokens", "77")
    assert some == replace(whole, learning_rate=0.5, max_tokens=77)
    default = str(CONFIGS[stage]().batch_size)  # given explicitly, though it is the usual default
    assert config_of(stage, "--batch-size", default, "--preset", name).batch_size == int(default)


def test_published_figures():
    small = PRESETS["gpt2"]
    gpt1 = dict(learning_rate=6.25e-5, batch_size=32, epochs=3)
    assert gpt1.items() <= asdict(small.sft).items()
    assert (small.reward.learning_rate, small.reward.batch_size, small.reward.epochs) == (
        5e-5,
        32,
        1,
    )
    ziegler = dict(
        learning_rate=1e-5,
        batch_size=512,
        beta=0.15,
        target_kl=6.0,
        horizon=10_000,
        epochs=4,
        minibatches=1,
        temperature=0.7,
        lam=0.95,
        gamma=1.0,
        epsilon=0.2,
        value_epsilon=0.2,
        value_coefficient=0.1,
    )
    assert ziegler.items() <= asdict(small.ppo).items()
    for stage in CONFIGS:  # between the 124M model's and the 3e-6 of 1B parameters and more
        rates = [getattr(PRESETS[n], stage).learning_rate for n in ("gpt2", "gpt2-medium")]
        assert rates[0] > rates[1] > 3e-6


def test_a_preset_names_the_model_where_a_run_begins():
    start = ("--data", "d", "--out", "o")
    assert options_of("sft", *start, "--preset", "gpt2").model == "gpt2"
    assert options_of("sft", *start, "--preset", "gpt2", "--model", "mine").model == "mine"
    assert options_of("sft", *start, "--preset", "compact").model.endswith("base")
    assert options_of("sft", *start).model is None
    with pytest.raises(SystemExit):
        options_of("ppo", *start, "--preset", "gpt2", "--reward-model", "r")


def test_without_a_model_one_line_says_so(capsys):
    assert cli.main(["sft", "--data", "d", "--out", "o"]) == 1
    assert "--model" in capsys.readouterr().err


def test_a_task_of_ones_own_comes_before_a_preset(tmp_path):
    assert cli.main(["task", "new", str(tmp_path / "t")]) == 0
    settings = tmp_path / "t" / "task.toml"
    lines = [
        "longest_response = 17" if line.startswith("longest_response") else line
        for line in settings.read_text().splitlines()
    ]
    settings.write_text("\n".join(lines) + "\n")
    given = options_of(
        "ppo", "--task", str(tmp_path / "t"), "--out", "o", "--preset", "gpt2", *NEEDED["ppo"]
    )
    assert given.max_new_tokens == 17 and given.learning_rate == PRESETS["gpt2"].ppo.learning_rate


def test_demo_runs_with_the_presets_settings(monkeypatch, tmp_path):
    seen = []

    class Stop(Exception):
        pass

    def pipeline_of(task, config, run, watch):
        seen.append(config)
        raise Stop

    monkeypatch.setattr("rlhf_lab.cli.demo.Pipeline", pipeline_of)
    gpt2 = ("--preset", "gpt2")
    for arguments in ((), gpt2, (*gpt2, "--beta", "0.5", "--updates", "3")):
        with pytest.raises(Stop):
            cli.main(
                ["demo", "--out", str(tmp_path / str(len(seen))), "--device", "cpu", *arguments]
            )
    usual, small, given = seen
    assert replace(usual, device="auto") == PipelineConfig(base=usual.base)
    assert (small.base, small.sft, small.ppo) == ("gpt2", PRESETS["gpt2"].sft, PRESETS["gpt2"].ppo)
    assert (small.sampling.temperature, small.sampling.max_new_tokens) == (0.7, 53)
    assert given.ppo == replace(PRESETS["gpt2"].ppo, beta=0.5, updates=3)


def no_network(*_):
    raise OSError("name or service not known")


@pytest.mark.parametrize(
    "offline, resolve, words",
    [
        (True, no_network, ["HF_HUB_OFFLINE", "unset"]),
        (False, no_network, ["cannot be reached", "hf download nobody-has-this"]),
        (False, lambda *_: [], ["hub id", "hf download nobody-has-this"]),
    ],
)
def test_a_model_that_is_not_there_says_how_to_get_it(offline, resolve, words, monkeypatch, capfd):
    monkeypatch.setattr(storage, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(storage, "getproxies", dict)
    monkeypatch.setattr(storage.socket, "getaddrinfo", resolve)
    for read in (storage.read_context, storage.read_tokenizer):
        message = refusal(read, "nobody-has-this")
        assert "nobody-has-this" in message and "save_pretrained" in message
        assert all(word in message for word in words)
    assert capfd.readouterr().err == ""


@pytest.fixture
def folder(gpt2, tokenizer, tmp_path):
    save_policy(gpt2, tokenizer, tmp_path / "model")
    rows = [{"prompt": f"ask {i}:", "response": "an answer"} for i in range(6)]
    (tmp_path / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def sft(folder, *more):
    return cli.main(
        [
            "sft",
            "--model",
            str(folder / "model"),
            "--data",
            str(folder / "shown.jsonl"),
            "--out",
            str(folder / "run"),
            "--device",
            "cpu",
            "--epochs",
            "1",
            *more,
        ]
    )


def test_an_estimate_alone_writes_nothing(folder, capsys):
    assert sft(folder, "--estimate") == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 2 and "parameters; memory" in out and "for 1 update, " in out
    assert not (folder / "run").exists()


def test_an_estimate_that_fails_stops_no_run(folder, capsys, monkeypatch):
    def fails(*_):
        raise AttributeError("a config without layers")

    monkeypatch.setattr("rlhf_lab.cli.sft.estimate_sft", fails)
    assert sft(folder) == 0
    assert "a config without layers" in capsys.readouterr().err
    assert sft(folder, "--estimate") == 1
    assert "no estimate" in capsys.readouterr().err


def test_one_precision_a_process():
    from rlhf_lab.training import make_accelerator

    make_accelerator("cpu")
    assert "already uses cpu and float32" in refusal(make_accelerator, "cpu", "bf16")


def test_a_gpu_without_bf16_is_told_from_another_precision(monkeypatch):
    from rlhf_lab.training import make_accelerator

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: False)
    assert "no bf16: use --precision float32" in refusal(make_accelerator, "cuda", "bf16")


def test_settings_note_what_saves_memory_only_where_it_is_used(folder):
    assert sft(folder) == 0
    settings = json.loads((folder / "run/config.json").read_text())["settings"]
    assert not {"lora", "lora_alpha", "gradient_checkpointing", "precision", "preset"} & set(
        settings
    )
    assert sft(folder, "--lora", "2") == 1  # another run


def test_a_stopped_run_with_adapters_goes_on(folder, monkeypatch):
    from rlhf_lab.disk.checkpoint import Checkpoint
    from rlhf_lab.training import Optimiser

    step, steps = Optimiser.step, []

    def interrupted(self):
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Optimiser, "step", interrupted)
    monkeypatch.setattr(Checkpoint, "due", lambda self, update, updates: True)
    lean = ("--lora", "2", "--gradient-checkpointing", "--batch-size", "2")
    assert sft(folder, *lean) == 130
    assert sft(folder, *lean) == 0
    logged = [json.loads(x) for x in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [r["update"] for r in logged] == [1, 2, 3]
    assert (folder / "run/sft/adapter/adapter_model.safetensors").exists()
