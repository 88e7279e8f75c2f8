"""The command line, run as a user would: each stage alone on files of one's own, and bad input."""

import json
import os
import shutil
import subprocess
import sys
from unittest import mock

import nbformat
import pytest
import torch
import tqdm
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from rlhf_lab.cli import demo, main, progress, sample, sft
from rlhf_lab.disk.data import base_model
from rlhf_lab.disk.files import read_samples
from rlhf_lab.feedback.store import FeedbackStore
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy

FEW = ("--max-new-tokens", 5, "--device", "cpu")


@pytest.fixture
def folder(gpt2, tokenizer, tmp_path):
    """A model and one small file for each stage."""
    save_policy(gpt2, tokenizer, tmp_path / "model")
    rows = {
        "shown": [{"prompt": f"ask {i}:", "response": "an answer"} for i in range(6)],
        "ranked": [
            {"prompt": f"ask {i}:", "responses": ["a", "b", "c"], "ranking": [1, 2, None]}
            for i in range(4)
        ]
        + [{"prompt": "ask:", "chosen": "good", "rejected": "bad"}],
        "asked": [{"prompt": f"ask {i}:"} for i in range(5)],
    }
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def run(folder, command, *arguments):
    return main([command, *(str(a).replace("@", str(folder) + "/") for a in arguments)])


def stage(folder, command, data, *more, out=None):
    return run(
        folder,
        command,
        "--model",
        "@model",
        "--data",
        f"@{data}.jsonl",
        "--device",
        "cpu",
        "--out",
        f"@{out or command}",
        *more,
    )


def test_the_three_stages_alone_leave_models_that_plain_transformers_loads(folder, capsys):
    assert stage(folder, "sft", "shown", "--epochs", 1) == 0
    assert stage(folder, "reward", "ranked", "--epochs", 1) == 0
    assert (
        stage(
            folder,
            "ppo",
            "asked",
            "--updates",
            2,
            "--batch-size",
            4,
            "--max-new-tokens",
            5,
            "--reward-model",
            "@reward/reward_model",
        )
        == 0
    )
    for place in ("sft/sft", "ppo/policy"):
        assert AutoModelForCausalLM.from_pretrained(folder / place).config.n_embd == 32
    model = AutoModelForSequenceClassification.from_pretrained(folder / "reward/reward_model")
    assert model.config.num_labels == 1
    stages = {
        json.loads(line)["stage"]
        for line in (folder / "ppo/metrics.jsonl").read_text().splitlines()
    }
    assert stages == {"ppo"}


def test_a_run_of_ppo_is_one_of_its_models(folder, capsys):
    ask = ("--updates", 1, "--batch-size", 4, "--max-new-tokens", 4, "--reward-model")
    for seed in (0, 1):
        assert stage(folder, "reward", "ranked", "--epochs", 1, "--seed", seed, out=f"r{seed}") == 0
    assert stage(folder, "ppo", "asked", *ask, "@r0/reward_model") == 0
    assert stage(folder, "ppo", "asked", *ask, "@r0/reward_model") == 0  # it is there already
    capsys.readouterr()
    assert stage(folder, "ppo", "asked", *ask, "@r1/reward_model") == 1
    assert "reward_model was" in capsys.readouterr().err
    shutil.rmtree(folder / "r0" / "reward_model")
    shutil.copytree(folder / "r1" / "reward_model", folder / "r0" / "reward_model")
    assert stage(folder, "ppo", "asked", *ask, "@r0/reward_model") == 1
    assert "its reward model changed since the run began" in capsys.readouterr().err


def test_a_run_that_was_stopped_goes_on_and_logs_every_update_once(folder, monkeypatch, capsys):
    import rlhf_lab.ppo as ppo

    arguments = (
        "--updates",
        4,
        "--batch-size",
        4,
        "--max-new-tokens",
        4,
        "--reward-model",
        "@reward/reward_model",
    )
    assert stage(folder, "reward", "ranked", "--epochs", 1) == 0
    real, calls = ppo.optimise, []

    def interrupted(*a):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*a)

    monkeypatch.setattr(ppo, "optimise", interrupted)
    monkeypatch.setattr(
        "rlhf_lab.disk.checkpoint.Checkpoint.due", lambda self, update, updates: True
    )
    assert stage(folder, "ppo", "asked", *arguments) == 130
    assert stage(folder, "ppo", "asked", *arguments) == 0
    logged = [json.loads(line) for line in (folder / "ppo/metrics.jsonl").read_text().splitlines()]
    assert [r["update"] for r in logged] == [1, 2, 3, 4]
    capsys.readouterr()
    assert stage(folder, "ppo", "asked", *arguments, "--max-tokens", 512) == 0
    assert "nothing to train: the run in" in capsys.readouterr().out
    assert len((folder / "ppo/metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("changed", ["model", "reward/reward_model"])
def test_a_model_whose_settings_or_words_changed_is_not_gone_on_with(folder, capsys, changed, file):
    ask = ("--updates", 1, "--batch-size", 4, "--max-new-tokens", 4)
    assert stage(folder, "reward", "ranked", "--epochs", 1) == 0
    ppo = (folder, "ppo", "asked", *ask, "--reward-model", "@reward/reward_model")
    assert stage(*ppo) == 0
    content = (folder / changed / file).read_text()
    (folder / changed / file).write_text(content.replace("{", "{ ", 1))
    capsys.readouterr()
    assert stage(*ppo) == 1
    what = "model" if changed == "model" else "reward model"
    assert (
        f"(its {what} config and tokenizer changed since the run began)" in capsys.readouterr().err
    )
    (folder / changed / file).write_text(content)
    assert stage(*ppo) == 0


def test_a_demo_whose_base_model_changed_is_not_gone_on_with(folder, capsys, monkeypatch):
    for name in ("Pipeline", "print_table", "write_report"):
        monkeypatch.setattr(demo, name, mock.Mock())
    monkeypatch.setattr(demo.RunFolder, "read_summary", dict)
    again = (folder, "demo", "--model", "@model", "--device", "cpu", "--out", "@demo")
    assert run(*again) == 0 and run(*again) == 0
    (folder / "model/tokenizer.json").write_text("{}")
    assert run(*again) == 1
    assert "its model config and tokenizer changed" in capsys.readouterr().err


def test_pages_name_no_folder_of_the_machine(folder, capsys):
    assert stage(folder, "sft", "shown", "--epochs", 1) == 0
    assert stage(folder, "reward", "ranked", "--epochs", 1) == 0
    assert run(folder, "report", "@sft") == 0 and run(folder, "report", "@reward") == 0
    asked = ("--data", "@asked.jsonl", "--reward-model", "@reward/reward_model")
    shown = ("--html", "@page.html", "--samples", 1, "--reference", "@model")
    assert run(folder, "compare", "@model", "@sft", "@sft/sft", *asked, *shown, *FEW) == 0
    said = capsys.readouterr().out
    for page in ("sft/report.html", "reward/report.html", "page.html"):
        text = (folder / page).read_text(encoding="utf-8")
        assert str(folder) not in text and str(folder.parent) not in text
    settings = (folder / "sft/report.html").read_text(encoding="utf-8")
    assert "shown.jsonl" in settings and "&quot;model&quot;" in settings
    for name in ("asked.jsonl", "reward_model", "sft/sft", "model"):
        assert name in text and (name != "sft/sft" or name in said)


def test_sample_prints_json_lines(folder, capsys):
    assert (
        run(
            folder,
            "sample",
            "--model",
            "@model",
            "--prompt",
            "ask:",
            "--responses",
            2,
            "--max-new-tokens",
            3,
            "--device",
            "cpu",
        )
        == 0
    )
    (folder / "sampled.jsonl").write_text(capsys.readouterr().out)
    ((prompt, samples),) = read_samples(folder / "sampled.jsonl")
    assert prompt.text == "ask:" and len(samples) == 2
    assert samples[0].model == str(folder / "model")
    assert samples[0].settings["temperature"] == 1.0 and samples[0].settings["seed"] == 0


def test_a_command_that_keeps_nothing_does_not_say_that_it_does(folder, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    for command in (sample, sft):
        monkeypatch.setattr(command, "read_config", stop)
    ask = ("--model", "@model", "--prompt", "ask:")
    assert run(folder, "sample", *ask) == 130
    assert capsys.readouterr().err == "rlhf-lab: stopped\n"
    assert stage(folder, "sft", "shown") == 130
    assert "the last checkpoint is kept" in capsys.readouterr().err


def test_samples_take_the_place_of_samples_alone(folder, capsys):
    ask = (
        "sample",
        "--model",
        "@model",
        "--responses",
        1,
        "--max-new-tokens",
        3,
        "--device",
        "cpu",
    )
    (folder / "thesis.txt").write_text("years of work")
    (folder / "empty.jsonl").write_text("")
    assert run(folder, *ask, "--prompt", "ask:", "--out", "@thesis.txt") == 1
    assert "thesis.txt holds no samples: name another place" in capsys.readouterr().err
    assert run(folder, *ask, "--data", "@ranked.jsonl", "--out", "@ranked.jsonl") == 1
    assert "is what --data reads" in capsys.readouterr().err
    for name in ("empty.jsonl", "new.jsonl", "new.jsonl", "new.jsonl.gz", "new.jsonl.gz"):
        assert run(folder, *ask, "--prompt", "ask:", "--out", f"@{name}") == 0
    assert (folder / "thesis.txt").read_text() == "years of work"
    assert len((folder / "ranked.jsonl").read_text().splitlines()) == 5


def test_a_reward_model_with_other_words_is_refused(folder, capsys):
    ours = base_model()
    policy = load_policy(ours)
    ScalarModel.from_policy(policy, 0).save(folder / "other", load_tokenizer(ours))
    assert stage(folder, "ppo", "asked", "--updates", 1, "--reward-model", "@other") == 1
    assert "use different tokenizers" in capsys.readouterr().err
    assert (
        run(
            folder,
            "compare",
            "@model",
            "--data",
            "@asked.jsonl",
            "--out",
            "@table.json",
            "--reward-model",
            "@other",
            *FEW,
        )
        == 1
    )
    assert "use different tokenizers" in capsys.readouterr().err


def test_compare_without_a_judge_goes_by_a_reward_model(folder, capsys):
    assert stage(folder, "reward", "ranked", "--epochs", 1) == 0
    assert (
        run(
            folder,
            "compare",
            "@model",
            "@model",
            "--data",
            "@asked.jsonl",
            "--out",
            "@table.json",
            "--reward-model",
            "@reward/reward_model",
            "--samples",
            2,
            *FEW,
        )
        == 0
    )
    table = json.loads((folder / "table.json").read_text())
    assert table["rows"][1]["win_rate"][0] == pytest.approx(0.5)  # the same model, the same luck
    assert table["rows"][1]["kl"][0] == pytest.approx(0, abs=1e-5) and table["key"] == []
    assert not (folder / "table.pairs.json").exists()


def test_blind_pairs_are_of_different_responses_and_go_into_a_file(folder, capsys):
    assert stage(folder, "reward", "ranked", "--epochs", 1) == 0
    assert stage(folder, "sft", "shown", "--epochs", 3, "--learning-rate", 0.01) == 0
    models = (
        "compare",
        "@model",
        "@sft/sft",
        "--data",
        "@asked.jsonl",
        "--reward-model",
        "@reward/reward_model",
        "--samples",
        1,
        "--blind",
        3,
        *FEW,
    )
    assert run(folder, *models, "--out", "@table.json") == 0
    table = json.loads((folder / "table.json").read_text())
    pairs = json.loads((folder / "table.pairs.json").read_text())
    assert "pairs" not in table and {name for pair in pairs for name in pair} == {
        "prompt",
        "left",
        "right",
    }
    assert len(pairs) == 3 and all(pair["left"].strip() != pair["right"].strip() for pair in pairs)
    assert len(table["key"]) == 3 and set(table["key"]) <= {"first", "second"}
    capsys.readouterr()
    (folder / "table.pairs.json").write_text("my choices")
    assert run(folder, *models, "--out", "@table.json") == 1
    assert "table.pairs.json already exists" in capsys.readouterr().err
    assert (folder / "table.pairs.json").read_text() == "my choices"
    assert run(folder, *models) == 1
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("sft", "--data", "@nowhere.jsonl", "--model", "@model"), ["nowhere.jsonl"]),
        (
            ("sft", "--data", "@asked.jsonl", "--model", "@model"),
            ["asked.jsonl", "line 1", "response"],
        ),
        (("sft", "--data", "@shown.jsonl", "--model", "@nothing"), ["nothing"]),
        (("sft", "--data", "@shown.jsonl", "--model", "@shown.jsonl"), ["shown.jsonl is a file"]),
        (("sample", "--prompt", "hi", "--model", "@model", "--responses", 0), ["0 responses"]),
        (("reward", "--data", "@shown.jsonl", "--model", "@model"), ["shown.jsonl", "line 1"]),
        (
            ("ppo", "--data", "@asked.jsonl", "--model", "@model", "--reward-model", "@model"),
            ["model"],
        ),
    ],
)
def test_bad_input_is_one_line_that_names_it(folder, capsys, arguments, words):
    command, *rest = arguments
    assert run(folder, command, *rest, "--out", "@out", "--device", "cpu") == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("rlhf-lab: ") and all(word in message for word in words)


def test_a_sign_that_the_output_cannot_hold_is_no_error(tmp_path):
    # As where a Windows shell sends the output to a file.
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "≤.ipynb")
    command = [sys.executable, "-m", "rlhf_lab", "course", "student", "out", "≤.ipynb"]
    env = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True)
    assert done.returncode == 0 and b"?.ipynb" in done.stdout


@pytest.mark.parametrize(
    "command, data, name",
    [
        ("sft", "shown", "batch-size"),
        ("sft", "shown", "epochs"),
        ("reward", "ranked", "batch-size"),
        ("reward", "ranked", "max-tokens"),
        ("ppo", "asked", "minibatches"),
        ("ppo", "asked", "updates"),
    ],
)
def test_a_count_below_one_is_named_before_a_run_begins(folder, capsys, command, data, name):
    more = ["--reward-model", "@model"] if command == "ppo" else []
    for count in (0, -2):
        assert stage(folder, command, data, *more, f"--{name}", count) == 1
        said = capsys.readouterr().err
        most = "to 1,000,000" if name == "batch-size" else "or more"  # what memory could not hold
        assert said == f"rlhf-lab: --{name} {count}: take 1 {most}\n"
    assert not (folder / command).exists()


@pytest.mark.parametrize(
    "option, value, advice",
    [
        ("learning-rate", -1.0, "take more than 0"),
        ("learning-rate", "nan", "take more than 0"),
        ("warmup", -1, "take 0 or more"),
        ("beta", -1.0, "take 0 or more"),
        ("gamma", 2.0, "take 0 to 1"),
        ("target-kl", 0.0, "take more than 0"),
        ("horizon", 0, "take 1 or more"),
    ],
)
def test_a_number_that_makes_no_sense_is_named(folder, capsys, option, value, advice):
    assert stage(folder, "ppo", "asked", "--reward-model", "@model", f"--{option}", value) == 1
    assert capsys.readouterr().err == f"rlhf-lab: --{option} {value}: {advice}\n"


def test_a_gpu_that_is_not_there(folder, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (
        run(
            folder,
            "sft",
            "--model",
            "@model",
            "--data",
            "@shown.jsonl",
            "--out",
            "@gpu",
            "--device",
            "cuda",
        )
        == 1
    )
    assert "no GPU" in capsys.readouterr().err


def test_other_settings_do_not_overwrite_a_run(folder, capsys):
    assert stage(folder, "sft", "shown", "--epochs", 1) == 0
    before = (folder / "sft/metrics.jsonl").read_text()
    assert stage(folder, "sft", "shown", "--epochs", 2) == 1
    assert "epochs" in capsys.readouterr().err
    assert (folder / "sft/metrics.jsonl").read_text() == before


def test_a_given_prompt_too_long_for_the_model_is_named(folder, capsys):
    assert (
        run(
            folder,
            "sample",
            "--model",
            "@model",
            "--prompt",
            "x" * 80,
            "--max-new-tokens",
            3,
            "--device",
            "cpu",
        )
        == 1
    )
    assert "prompt 0" in capsys.readouterr().err


def test_of_a_prompt_too_long_for_the_model_the_end_is_kept_and_that_is_said(folder, capsys):
    row = json.dumps({"prompt": "first " + "word " * 20 + "last"}) + "\n"
    (folder / "long.jsonl").write_text(row, encoding="utf-8")
    assert (
        run(
            folder,
            "sample",
            "--model",
            "@model",
            "--data",
            "@long.jsonl",
            "--max-new-tokens",
            3,
            "--device",
            "cpu",
        )
        == 0
    )
    out, err = capsys.readouterr()
    assert json.loads(out)["prompt"] == "word " * 11 + "last"  # 59 bytes of 64, less 3 to write
    assert "1 long prompt shortened to the end" in err


def test_a_demonstration_too_long_for_the_model_is_named(folder, capsys):
    rows = [{"prompt": "short:", "response": "yes"}, {"prompt": "long:", "response": "y" * 80}]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "long.jsonl").write_text(text, encoding="utf-8")
    assert stage(folder, "sft", "long") == 1
    assert "line 2" in capsys.readouterr().err


def test_the_time_left_counts_only_what_this_run_has_done(monkeypatch):
    bars = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(progress, "tqdm", Bar)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    resumed = ({"update": update, "updates": 3000} for update in (1601, 1602))
    assert [record["update"] for record in progress.watch("sft", resumed)] == [1601, 1602]
    (bar,) = bars
    assert (bar.n - bar.initial, bar.total) == (2, 3000)


@pytest.mark.parametrize(
    ("updates", "begun", "told"),
    [
        (1000, 0, range(100, 1001, 100)),
        (1000, 640, range(700, 1001, 100)),
        (7, 0, range(1, 8)),
        (25, 0, (3, 5, 8, 10, 13, 15, 18, 20, 23, 25)),
    ],
)
def test_in_a_file_progress_is_a_line_every_tenth(capsys, updates, begun, told):
    records = [
        {"update": u, "updates": updates, "loss/sft": 0.5, "objective/kl": None}
        for u in range(begun + 1, updates + 1)
    ]
    assert list(progress.watch("sft", records)) == records
    lines = [f"sft: update {u} of {updates}, loss 0.50\n" for u in told]
    assert capsys.readouterr().err == "".join(lines)
    assert list(progress.each(["a", "b", "c"], "answering", "model")) == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == [
        f"answering: model {number} of 3" for number in (1, 2, 3)
    ]


def test_what_the_system_refuses_is_one_line(folder, capsys):
    name = "x" * 300
    assert run(folder, "sft", "--model", name, "--data", "@shown.jsonl", "--out", "@new") == 1
    error = capsys.readouterr().err
    assert error.startswith("rlhf-lab: ") and "File name too long" in error
    assert error.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_behind_the_output_is_one_line(folder):
    command = [sys.executable, "-m", "rlhf_lab", "feedback", "show", str(folder / "a.sqlite3")]
    FeedbackStore(folder / "a.sqlite3")
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("rlhf-lab: cannot use a file: No space left")


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["demo", "--beta", "-1"], "--beta -1.0: take 0 or more"),
        (["demo", "--beta", "nan"], "--beta nan: take 0 or more"),
        (["demo", "--beta", "inf"], "--beta inf: take 0 or more"),
        (["demo", "--updates", "0"], "--updates 0: take 1 or more"),
        (["demo", "--seed", str(10**30)], f"--seed {10**30}: take 0 to {2**63 - 1:,}"),
        (["demo", "--seed", "-1"], f"--seed -1: take 0 to {2**63 - 1:,}"),
        (["sample", "--model", "x", "--seed", "-1"], "--seed -1: take a whole number from 0"),
        (["sft", "--model", "x", "--learning-rate", "inf"], "--learning-rate inf: take more than"),
    ],
)
def test_a_number_out_of_its_range_is_refused_before_anything_is_done(
    arguments, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    out = ["--out", "out"] if arguments[0] != "sample" else ["--out", "out.jsonl", "--prompt", "x"]
    data = ["--data", "none.jsonl"] if arguments[0] == "sft" else []
    assert main([*arguments, *out, *data]) == 1
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["red\x1b[31m", "title\x1b]0;x\x07", "two\nlines", "turned\u202e"])
def test_names_from_strangers_do_nothing_to_a_terminal(name, tmp_path, capsys):
    """Columns, files and settings are named in errors and reports: with what hides written out."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({name: "x", "other": "y"}) + "\n")
    for data in (rows, tmp_path / name):
        given = ["--model", str(base_model()), "--data", str(data), "--out", str(tmp_path / "out")]
        assert main(["sft", *given]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 2 and not {"\x1b", "\x07", "\u202e"} & set(said)
    assert "⟨U+" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["task", "new", "t\udcff"],
        ["sft", "--model", "m", "--data", "d", "--out", "o\udcff"],
        ["feedback", "forget", "a.sqlite3", "ann\udcff"],
        ["rank", "a.sqlite3", "--labeller", "\udcff"],
        ["\udcff"],
    ],
)
def test_an_argument_that_is_not_utf8_is_refused_in_one_line(
    arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "is not in UTF-8: rename the file" in said and "⟨U+DCFF⟩" in said
    assert said.count("\n") == 1 and list(tmp_path.iterdir()) == []
