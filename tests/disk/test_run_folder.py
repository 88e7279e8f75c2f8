"""A run's folder: it belongs to one process, overwrites nothing, and outlives a kill."""

import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers import refusal

from rlhf_lab.disk.provenance import differences
from rlhf_lab.disk.run_folder import RunFolder

CONFIG = {"seed": 0, "ppo": {"beta": 0.05, "updates": 3}, "base": Path("data/base")}
DATA = {"prompts": "ab" * 32}
ROOT = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder except its lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def ppo(update: int, **more) -> dict:
    return {"stage": "ppo", "update": update} | more


# ---- starting and going on ----------------------------------------------------------------------


def test_a_new_run_says_what_it_was_made_with(tmp_path):
    with RunFolder.open(tmp_path / "runs" / "a", CONFIG, data=DATA) as run:
        config = json.loads((tmp_path / "runs/a/config.json").read_text())
    assert config["settings"] == CONFIG | {"base": "data/base"}
    assert config["data"] == DATA
    assert config["versions"]["python"] == platform.python_version()
    assert config["versions"]["torch"] == version("torch")
    assert config["versions"]["transformers"] == version("transformers")
    assert "rlhf-lab" in config["versions"]
    assert config["platform"]["cpus"] == os.cpu_count()
    assert run.config == RunFolder.view(run.path).config == config


def test_config_names_neither_the_machine_nor_its_folders(tmp_path):
    with RunFolder.open(tmp_path / "a", {"seed": 1}) as run:
        text = run.config_file.read_text()
    for private in filter(None, (platform.node(), tmp_path, Path.home(), ROOT, sys.prefix)):
        assert f'"{private}"' not in text and f'"{private}/' not in text


def test_every_part_has_its_place(tmp_path):
    run = RunFolder(tmp_path)
    names = {name: path.name for name, path in vars(run).items() if path and name != "path"}
    assert names == {
        "sft": "sft",
        "reward_model": "reward_model",
        "policy": "policy",
        "checkpoints": "checkpoints",
        "samples": "samples.jsonl",
        "rankings": "rankings.jsonl",
        "summary": "summary.json",
        "report": "report.html",
        "metrics_file": "metrics.jsonl",
        "config_file": "config.json",
    }
    assert all(getattr(run, name).parent == tmp_path for name in names)


def test_the_same_settings_go_on_with_a_run(tmp_path):
    with RunFolder.open(tmp_path, CONFIG, data=DATA) as run:
        run.log(ppo(1))
    before = contents(tmp_path)
    with RunFolder.open(tmp_path, CONFIG, data=DATA) as run:
        assert contents(tmp_path) == before
        run.log(ppo(2))
    assert RunFolder.view(tmp_path).metrics() == [ppo(1), ppo(2)]


@pytest.mark.parametrize(
    ("config", "data", "says"),
    [
        (CONFIG | {"seed": 1}, DATA, "(seed was 0, now 1)"),
        (
            CONFIG | {"ppo": {"beta": 0.1}},
            DATA,
            "(ppo.beta was 0.05, now 0.1; ppo.updates was 3, now unset)",
        ),
        (CONFIG | {"new": "x"}, DATA, '(new was unset, now "x")'),
        (CONFIG, {"prompts": "cd" * 32}, "(its prompts changed since the run began)"),
        (CONFIG | {"data": "x"}, {}, 'now "x"; its prompts changed'),
        (CONFIG, DATA | {"model": "cd" * 32}, "(its model was not recorded then)"),
        ({}, DATA, "seed was 0, now unset"),
        (CONFIG | {f"n{i}": i for i in range(9)}, DATA, "n4 was unset, now 4; and 4 more)"),
    ],
)
def test_other_settings_are_named_and_nothing_changes(tmp_path, config, data, says):
    with RunFolder.open(tmp_path, CONFIG, data=DATA) as run:
        run.log(ppo(1))
    before = contents(tmp_path)
    message = refusal(RunFolder.open, tmp_path, config, data=data)
    assert (
        message.startswith(f"{tmp_path} holds a run with other settings or data (")
        and says in message
    )
    assert "choose another --out, or delete the folder" in message
    assert contents(tmp_path) == before
    RunFolder.open(tmp_path, CONFIG, data=DATA).close()  # the refusal did not keep the lock


def test_a_run_that_fails_before_it_writes_leaves_the_folder_to_others(tmp_path):
    with pytest.raises(OSError), RunFolder.open(tmp_path, CONFIG):
        raise OSError("no such model")
    assert contents(tmp_path) == {}
    with pytest.raises(OSError), RunFolder.open(tmp_path, CONFIG | {"seed": 1}) as run:
        run.log(ppo(1))
        raise OSError("the disk is full")
    assert set(contents(tmp_path)) == {"config.json", "metrics.jsonl"}  # it can go on
    with pytest.raises(OSError), RunFolder.open(tmp_path, CONFIG | {"seed": 1}):
        raise OSError("again")
    assert set(contents(tmp_path)) == {"config.json", "metrics.jsonl"}


def test_a_run_begun_earlier_is_kept_when_going_on_fails(tmp_path):
    with RunFolder.open(tmp_path, CONFIG):
        pass
    before = contents(tmp_path)
    with pytest.raises(OSError), RunFolder.open(tmp_path, CONFIG):
        raise OSError("no such model")
    assert contents(tmp_path) == before


def test_what_a_run_of_the_older_format_did_not_note_does_not_bar_it(tmp_path):
    RunFolder.open(tmp_path, CONFIG, data=DATA).close()
    more = DATA | {"model config and tokenizer": "cd" * 32}
    assert "was not recorded then" in refusal(RunFolder.open, tmp_path, CONFIG, data=more)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"rlhf_lab_run": 1}))
    with RunFolder.open(tmp_path, CONFIG, data=more) as run:
        assert "(run format was 1, now 2)" in run.other_versions()
    message = refusal(RunFolder.open, tmp_path, CONFIG, data={"prompts": "ef" * 32})
    assert "its prompts changed since the run began" in message


def test_no_run_is_gone_on_with_unless_wanted(tmp_path):
    RunFolder.open(tmp_path, CONFIG, resume=False).close()
    assert "already holds a run" in refusal(RunFolder.open, tmp_path, CONFIG, resume=False)


@pytest.mark.parametrize("name", ["notes.txt", "config.json", "metrics.jsonl"])
def test_a_folder_of_something_else_is_left_as_it_is(tmp_path, name):
    (tmp_path / name).write_text('{"model_type": "gpt2"}')  # a model's config.json, say
    message = refusal(RunFolder.open, tmp_path, CONFIG)
    assert message.startswith(f"{tmp_path} holds '{name}' but no run: name another place")
    assert os.listdir(tmp_path) == [name]
    assert f"there is no run in {tmp_path}" in refusal(RunFolder.view, tmp_path)


def test_places_that_cannot_hold_a_run_are_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    message = refusal(RunFolder.open, tmp_path / "file", CONFIG)
    assert message.startswith(f"{tmp_path / 'file'} is a file, not a folder: name another place")
    below = tmp_path / "file" / "run"
    assert f"cannot write to {below}: Not a directory" in refusal(RunFolder.open, below, CONFIG)
    assert "there is no run in" in refusal(RunFolder.view, tmp_path / "none")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_is_not_writable_is_named(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # whoever runs as root may write everywhere
    message = refusal(RunFolder.open, tmp_path, CONFIG)
    assert message.startswith(f"cannot write to {tmp_path}: Permission denied: choose another")


# ---- one at a time ------------------------------------------------------------------------------


PID_READABLE = os.name != "nt"  # Windows lets nobody read a file that another process has locked


def test_a_folder_in_use_is_refused_until_it_is_closed(tmp_path):
    first = RunFolder.open(tmp_path, CONFIG)
    message = refusal(RunFolder.open, tmp_path, CONFIG)
    pid = os.getpid() if PID_READABLE else "unknown"
    assert message.startswith(f"{tmp_path} is in use by another run (pid {pid}): wait for it")
    first.log(ppo(1))  # the refusal did not take the folder from the first
    assert RunFolder.view(tmp_path).metrics() == [ppo(1)]
    first.close()
    first.close()
    RunFolder.open(tmp_path, CONFIG).close()


def test_a_run_opened_in_one_thread_is_closed_in_another(tmp_path):
    with ThreadPoolExecutor(1) as elsewhere:
        run = elsewhere.submit(RunFolder.open, tmp_path, CONFIG).result()
        assert "is in use" in refusal(RunFolder.open, tmp_path, CONFIG)
        run.close()
        RunFolder.open(tmp_path, CONFIG).close()


@pytest.mark.parametrize("there", [True, False])
def test_a_lock_file_that_is_a_link_is_refused_and_not_followed(tmp_path, there):
    target, folder = tmp_path / "target", tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").symlink_to(target)
    if there:
        target.write_text("precious")
    message = refusal(RunFolder.open, folder, CONFIG)
    assert message == f"{folder / '.lock'} is a symbolic link: delete it, or choose another --out"
    assert target.read_text() == "precious" if there else not target.exists()
    assert os.listdir(folder) == [".lock"]


def test_a_lock_file_that_is_also_another_file_is_not_written_to(tmp_path):
    precious, folder = tmp_path / "precious", tmp_path / "run"
    folder.mkdir()
    for content, also in (("years of work", False), ("years of work", True), ("42", True)):
        precious.write_text(content)
        (folder / ".lock").unlink(missing_ok=True)
        os.link(precious, folder / ".lock") if also else shutil.copy(precious, folder / ".lock")
        message = refusal(RunFolder.open, folder, CONFIG)
        assert message.startswith(f"cannot write to {folder}: its file .lock was not made by a run")
        assert precious.read_text() == (folder / ".lock").read_text() == content
        assert os.listdir(folder) == [".lock"]
    (folder / ".lock").unlink()
    (folder / ".lock").write_text("42")  # what a killed run leaves
    RunFolder.open(folder, CONFIG).close()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no such model"), None])
def test_a_folder_that_is_deleted_meanwhile_hides_no_error(tmp_path, error):
    with pytest.raises(BaseException) as caught, RunFolder.open(tmp_path / "run", CONFIG) as run:
        run.log(ppo(1))
        shutil.rmtree(run.path)
        if error:
            raise error
        run.log(ppo(2))
    if error:
        assert caught.value is error
    else:
        assert f"cannot write {run.metrics_file}: its folder was moved or del" in str(caught.value)
    RunFolder.open(tmp_path / "run", CONFIG).close()


@pytest.mark.parametrize("name", ["sft", "reward_model", "policy"])
def test_a_run_does_not_begin_where_its_models_could_not_be_written(tmp_path, name):
    with RunFolder.open(tmp_path, CONFIG):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_text("ours")
    RunFolder.open(tmp_path, CONFIG).close()
    (tmp_path / name / "notes.txt").write_text("mine")
    message = refusal(RunFolder.open, tmp_path, CONFIG)
    assert message.startswith(f"{tmp_path / name} holds 'notes.txt', which is not part of a model")


def test_only_an_open_run_is_written_to(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log(ppo(1))
    before = contents(tmp_path)
    calls = [("log", {}), ("rewind", "ppo", 0), ("write_json", "a", 1), ("write_lines", "a", [])]
    for reader in (run, RunFolder.view(tmp_path)):
        for name, *arguments in calls:
            with pytest.raises(ValueError, match="not open for writing"):
                getattr(reader, name)(*arguments)
    assert contents(tmp_path) == before


# ---- the log and the summary --------------------------------------------------------------------


def test_metrics_are_read_back_by_stage_and_not_finite_numbers_are_null(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        assert run.metrics() == []
        run.log({"stage": "sft", "update": 1, "loss": math.nan})
        run.log(ppo(1, kl=[math.inf, -0.5]))
        assert run.metrics() == [
            {"stage": "sft", "update": 1, "loss": None},
            ppo(1, kl=[None, -0.5]),
        ]
        assert run.metrics("ppo") == [ppo(1, kl=[None, -0.5])]
        assert run.metrics("reward") == []
        assert "NaN" not in run.metrics_file.read_text()


def test_rewind_drops_later_updates_of_that_stage_alone(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.rewind("ppo", 0)
        kept = [{"stage": "sft", "update": 9}, {"stage": "ppo", "note": "no update"}, ppo(1)]
        for record in (*kept, ppo(2), ppo(3)):
            run.log(record)
        with run.metrics_file.open("ab") as log:
            log.write(b'{"stage": "ppo", "upd')
        run.rewind("ppo", 1)
        assert run.metrics() == kept
        run.log(ppo(2))
        assert run.metrics() == [*kept, ppo(2)]


def test_a_resumed_stage_is_logged_once_and_others_as_they_were(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log(ppo(1) | {"stage": "sft"})
        assert list(run.logged("ppo", [ppo(1), ppo(2), ppo(3)])) == [ppo(1), ppo(2), ppo(3)]
        assert list(run.logged("ppo", (ppo(u, again=True) for u in (3, 4)))) == [
            ppo(3, again=True),
            ppo(4, again=True),
        ]
        assert run.metrics("ppo") == [ppo(1), ppo(2), ppo(3, again=True), ppo(4, again=True)]
        assert list(run.logged("ppo", [])) == [] and len(run.metrics("ppo")) == 4
        assert len(run.metrics("sft")) == 1


def test_a_line_torn_by_a_kill_neither_hides_nor_spoils_others(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log(ppo(1))
        with run.metrics_file.open("ab") as log:
            log.write(b'{"stage"')
    assert RunFolder.view(tmp_path).metrics() == [ppo(1)]
    with RunFolder.open(tmp_path, CONFIG) as run:
        run.log(ppo(2))
        assert run.metrics() == [ppo(1), ppo(2)]


def test_costs_are_those_logged_last(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        for of, seconds in (("sft", 1.5), ("ppo", 2.0), ("sft", 3.5)):
            run.log({"stage": "cost", "of": of, "seconds": seconds})
        run.log({"stage": "cost", "of": "ppo", "seconds": 2.5, "peak_memory_mb": 700.0})
        assert run.costs("seconds") == {"sft": 3.5, "ppo": 2.5}
        assert run.costs("peak_memory_mb") == {"ppo": 700.0}


def test_summary_and_lines_are_written_whole(tmp_path):
    with RunFolder.open(tmp_path, CONFIG) as run:
        assert f"{tmp_path} has no summary yet" in refusal(run.read_summary)
        run.write_json("summary.json", {"mark": 1.5, "kl": math.nan, "text": "Grüße"})
        run.write_lines("samples.jsonl", ({"n": n} for n in range(2)))
    assert RunFolder.view(tmp_path).read_summary() == {"mark": 1.5, "kl": None, "text": "Grüße"}
    assert "Grüße" in run.summary.read_text(encoding="utf-8")
    assert run.samples.read_text() == '{"n": 0}\n{"n": 1}\n'
    run.summary.write_text("{")
    assert f"cannot read {run.summary}: " in refusal(run.read_summary)


def test_differences_name_nested_settings():
    before = {"a": {"b": 1, "c": [1, 2]}, "d": "x"}
    assert differences(before, before) == []
    assert differences(before, {"a": {"b": 1.5, "c": [1]}, "e": None}) == [
        "a.b was 1, now 1.5",
        "a.c was [1, 2], now [1]",
        'd was "x", now unset',
        "e was unset, now null",
    ]


def test_a_setting_that_did_not_exist_then_had_its_default():
    before, defaults = {"ppo": {"beta": 0.05}}, {"ppo": {"beta": 0.1, "clip": 0.2, "extra": 1}}
    assert differences(before, {"ppo": {"beta": 0.05, "clip": 0.2}}, defaults) == []
    assert differences(before, {"ppo": {"beta": 0.1, "clip": 0.3}}, defaults) == [
        "ppo.beta was 0.05, now 0.1",  # what was noted counts, not its default
        "ppo.clip was 0.2, now 0.3",
    ]
    assert differences(before, {"ppo": {"beta": 0.05, "other": 1}}, defaults) == [
        "ppo.other was unset, now 1"
    ]


def test_what_changes_memory_and_speed_alone_bars_no_run_from_going_on():
    before = {"ppo": {"max_tokens": 3072, "beta": 0.05}}
    now = {"ppo": {"max_tokens": 512, "beta": 0.05}, "gradient_checkpointing": True}
    assert differences(before, now) == []
    now["ppo"]["beta"] = 0.1
    assert differences(before, now) == ["ppo.beta was 0.05, now 0.1"]


# ---- kills --------------------------------------------------------------------------------------

BUSY = """
import os, sys
from rlhf_lab.disk.run_folder import RunFolder

run = RunFolder.open(sys.argv[1], {"seed": 0})
update = max((record["update"] for record in run.metrics()), default=0)
tests = os.getppid()
while os.getppid() == tests:  # should the tests themselves be killed, stop too
    update += 1
    run.log({"stage": "ppo", "update": update, "text": "x" * 5000})
    if update % 7 == 0:
        run.rewind("ppo", update)
        run.write_json("summary.json", {"update": update})
"""


@contextmanager
def busy_run(folder: Path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(folder)], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def updates(folder: Path) -> list[int]:
    if not (folder / "config.json").exists():
        return []
    return [record["update"] for record in RunFolder.view(folder).metrics()]


def test_a_killed_run_can_be_read_and_resumed(tmp_path):
    folder, seen, deadline = tmp_path / "run", 0, time.monotonic() + 300
    for wait in (0.0, 0.01, 0.02, 0.03):
        with busy_run(folder) as process:
            while len(updates(folder)) < seen + 15:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)
            if wait == 0 and PID_READABLE:
                message = refusal(RunFolder.open, folder, {"seed": 0})
                assert f"in use by another run (pid {process.pid})" in message
            time.sleep(wait)
        logged = updates(folder)
        assert logged == list(range(1, len(logged) + 1)) and len(logged) >= seen + 15
        assert 0 <= len(logged) - RunFolder.view(folder).read_summary()["update"] <= 7
        seen = len(logged)
    with RunFolder.open(folder, {"seed": 0}) as run:
        run.log(ppo(seen + 1))
        assert updates(folder) == list(range(1, seen + 2))
    assert set(contents(folder)) == {"config.json", "metrics.jsonl", "summary.json"}


def test_what_a_kill_left_half_done_is_undone(tmp_path):
    from rlhf_lab.disk.jsonl import write_whole
    from rlhf_lab.disk.places import replacing

    RunFolder.open(tmp_path, CONFIG).close()
    write_whole(tmp_path / "summary.json", "{}")
    places = tmp_path / "sft", tmp_path / "checkpoints" / "ppo"
    for place in places:
        with replacing(place) as fresh:
            (fresh / "weights").write_text("old")
            assert re.fullmatch(r"\.(sft|ppo)\.new-[0-9a-f]{8}", fresh.name)
    wanted = contents(tmp_path)
    # Killed between moving the old folder away and putting the new one in its place.
    places[0].rename(tmp_path / ".sft.old-0123abcd")
    (tmp_path / ".sft.new-0123abcd").mkdir()
    # Killed before the old folder, and an unfinished file, were taken away.
    (tmp_path / "checkpoints" / ".ppo.old-0123abcd").mkdir()
    (tmp_path / "checkpoints" / ".ppo.old-0123abcd" / "weights").write_text("older")
    (tmp_path / ".summary.json.0123abcd.tmp").write_text("{")
    (tmp_path / ".mine.txt").write_text("hidden")
    with RunFolder.open(tmp_path, CONFIG):
        assert contents(tmp_path) == wanted | {".mine.txt": b"hidden"}
        assert not list(tmp_path.rglob(".*-0123abcd"))
