"""A run is a folder: its settings, its log, its models, its summary; one process writes to it.

    config.json      settings, data (sha256 of each part), versions, platform
    metrics.jsonl    one record an update
    samples.jsonl    the sampled responses; rankings.jsonl: how they were ranked
    checkpoints/     the states from which a stopped stage resumes
    sft/ reward_model/ policy/     models that plain transformers loads
    summary.json report.html       the results

After a kill at any moment the folder can still be read, and the run resumed with the same settings.
When several processes train together, all of them open the run and only the main one writes.
"""

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from rlhf_lab.disk.jsonl import append_line, plain, read_lines, write_whole
from rlhf_lab.disk.places import check_place, other_than_model, tidy
from rlhf_lab.disk.provenance import check_format, differences, surroundings, version_note
from rlhf_lab.engine import parallel
from rlhf_lab.errors import UserError

# Of config.json, under the key "rlhf_lab_run", which a model's config.json lacks. Format 1 did not
# record the config and tokenizer of a run's model and, in a run of all stages, not the model
# either.
FORMAT = 2


class RunFolder:
    """A run's folder: `open` one to write to, `view` one to read; `with` closes it at the end."""

    def __init__(self, path: str | Path, release: Callable[[], None] | None = None):
        self.path = path = Path(path)
        self.sft, self.reward_model = path / "sft", path / "reward_model"
        self.policy, self.checkpoints = path / "policy", path / "checkpoints"
        self.samples, self.rankings = path / "samples.jsonl", path / "rankings.jsonl"
        self.summary, self.report = path / "summary.json", path / "report.html"
        self.metrics_file, self.config_file = path / "metrics.jsonl", path / "config.json"
        self._release, self._begun = release, False

    @classmethod
    def open(
        cls,
        path: str | Path,
        config: dict,
        resume: bool = True,
        data: dict[str, str] | None = None,
        defaults: dict | None = None,
    ) -> "RunFolder":
        """Start a run in a new or empty folder, or resume the run that is there.

        config: every setting, nested as you like; `jsonl.plain` converts the values. data: the
        sha256 of everything the run learns from, by name, models included (`files.fingerprint`
        computes it). resume: whether to resume a run that is there: its settings and data must be
        the same, except for settings that change no result. defaults: of the settings, nested in
        the same way; if a setting was added after the run began, the run counts as having its
        default. Versions may differ (`other_versions`); config.json keeps those the run began with.

        Raises UserError, and leaves the folder's files unchanged, if another run is using the
        folder, if a newer version wrote it, if it holds a run with other settings or data (without
        `resume`: any run) or other files, or if it cannot be written to.
        """
        path, given = Path(path), {"settings": plain(config), "data": plain(data or {})}
        run = cls(path, lambda: None)
        parallel.once(run._take, given, resume, plain(defaults or {}))
        return run

    @classmethod
    def view(cls, path: str | Path) -> "RunFolder":
        """A run to read, even while another process writes to it. Raises UserError if there is no
        run, or if a newer version wrote it."""
        if not is_run(Path(path)):
            raise UserError(f"there is no run in {path}: name a folder that a run was written to")
        return cls(path)

    def close(self) -> None:
        """Let others use the folder; closing twice does no harm."""
        release, self._release = self._release, None
        if release:
            release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Close it. If the run failed before it wrote anything, delete its config.json, so that the
        folder can be used with other settings."""
        with suppress(OSError):  # a deleted folder must not hide the original error
            if failure and self._begun and _shown(self.path) == [self.config_file.name]:
                self.config_file.unlink()
        self.close()

    @property
    def config(self) -> dict:
        """What config.json holds: settings, data, versions, platform."""
        return _read_json(self.config_file)

    def other_versions(self) -> str:
        """One line that names the packages, and the format, whose versions have changed since the
        run began; "" if none have."""
        was = {"run format": self.config.get("rlhf_lab_run")} | self.config.get("versions", {})
        return version_note(self.path, was, {"run format": FORMAT})

    def log(self, record: dict) -> None:
        """Add a record, such as {"stage": "ppo", "update": 1, "objective/kl": 0.0}, to the metrics.

        Numbers that are not finite become null. Raises UserError if the disk is full.
        """
        self._check_open()
        if parallel.is_main():
            append_line(self.metrics_file, record)

    def metrics(self, stage: str | None = None) -> list[dict]:
        """The records logged so far, of one stage or of all; an incomplete last line is ignored."""
        records = read_lines(self.metrics_file)
        return [r for r in records if stage is None or r.get("stage") == stage]

    def logged(self, stage: str, records: Iterable[dict]) -> Iterator[dict]:
        """Yield a stage's records and log each. If a resumed stage repeats updates, their earlier
        records are dropped first."""
        for number, record in enumerate(records):
            if number == 0:
                self.rewind(stage, record["update"] - 1)
            self.log(record)
            yield record

    def rewind(self, stage: str, update: int) -> None:
        """Drop the stage's records of updates after `update`, the update of its checkpoint.

        Records without an update stay. The change is atomic.
        """
        self._check_open()
        self.write_lines(
            "metrics.jsonl",
            (
                record
                for record in self.metrics()
                if record.get("stage") != stage or record.get("update", 0) <= update
            ),
        )

    def costs(self, of: str) -> dict[str, float]:
        """The cost of each stage that was measured, in "seconds" or "peak_memory_mb" (`of`), from
        the records {"stage": "cost", "of": ..., "seconds": ..., "peak_memory_mb": ...}."""
        return {record["of"]: record[of] for record in self.metrics("cost") if of in record}

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file in the folder, such as summary.json, atomically."""
        self._check_open()
        parallel.once(write_whole, self.path / name, _as_json(value))

    def write_lines(self, name: str, records: Iterable[dict]) -> None:
        """Write a file of JSON lines in the folder, such as samples.jsonl, atomically."""
        self._check_open()
        lines = (json.dumps(plain(record), ensure_ascii=False) + "\n" for record in records)
        parallel.once(write_whole, self.path / name, "".join(lines))

    def read_summary(self) -> dict:
        """The content of summary.json. Raises UserError if the run has not finished."""
        if not self.summary.exists():
            raise UserError(f"the run in {self.path} has no summary yet: run it to its end first")
        return _read_json(self.summary)

    def _take(self, given: dict, resume: bool, defaults: dict) -> None:
        """Lock the folder; write its config, or check the one that is there."""
        check_run_place(self.path)
        self._release = _lock(self.path)
        try:
            if self.config_file.exists():
                _check_same(self, given, resume, defaults)
            else:
                config = {"rlhf_lab_run": FORMAT} | given | surroundings()
                write_whole(self.config_file, _as_json(config))
                self._begun = True
            tidy(self.path)
            tidy(self.checkpoints)
        except BaseException:
            self.close()
            raise

    def _check_open(self) -> None:
        if self._release is None:
            raise ValueError(f"{self.path} is not open for writing")


def _as_json(value: object) -> str:
    return json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}: repair it, or delete it") from error


def is_run(path: Path) -> bool:
    """Whether a folder holds a run. Raises UserError if a newer version wrote it, or if its
    config.json cannot be read."""
    file = path / "config.json"
    content = _read_json(file) if file.is_file() else None
    if not isinstance(content, dict) or "rlhf_lab_run" not in content:
        return False
    by = content.get("versions", {}).get("rlhf-lab")
    check_format(f"the run in {path}", content["rlhf_lab_run"], FORMAT, by)
    return True


def _shown(path: Path) -> list[str]:
    """The names in a folder, without hidden ones."""
    return [p.name for p in path.iterdir() if not p.name.startswith(".")]


def check_run_place(path: str | Path) -> None:
    """Raise UserError unless a run may start, or resume, in a folder. Call it before any work.
    Hidden files are ignored."""
    path = Path(path)
    check_place(path, _other_than_run, folder=True, link=True)
    for model in ("sft", "reward_model", "policy"):
        check_place(path / model, other_than_model, folder=True)
    check_place(path / "checkpoints", lambda _: "", folder=True)


def _other_than_run(path: Path) -> str:
    others = _shown(path)
    return f"holds '{min(others)}' but no run" if others and not is_run(path) else ""


def _lock(folder: Path) -> Callable[[], None]:
    """Lock a folder, created if missing, for this process; returns the function that unlocks it.

    The system frees the lock when the process ends, even if it is killed. The lock file holds the
    process id; on Windows other processes cannot read it while it is locked.

    Raises UserError if another run has locked the folder, or if it cannot be written to.
    """
    file = folder / ".lock"

    def sign(descriptor: int) -> None:
        signed = os.read(descriptor, 30).strip()
        if (signed and not signed.isdigit()) or os.fstat(descriptor).st_nlink > 1:
            raise FileExistsError(errno.EEXIST, "its file .lock was not made by a run")
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, str(os.getpid()).encode())

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not bound to a thread: a run may be closed in another one than it was opened in.
        lock = FileLock(file, blocking=False, thread_local=False, on_acquired=sign)
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f"{folder} is in use by another run (pid {_owner(file)}): wait for it, or choose "
            "another --out"
        ) from error
    except OSError as error:
        if file.is_symlink():  # filelock refuses one: its target would be overwritten
            raise UserError(
                f"{file} is a symbolic link: delete it, or choose another --out"
            ) from error
        raise UserError(
            f"cannot write to {folder}: {error.strerror}: choose another --out, or free some space"
        ) from error
    return lock.release


def _owner(lock_file: Path) -> str:
    try:
        return lock_file.read_text().strip() or "unknown"
    except OSError:
        return "unknown"


def _check_same(run: RunFolder, given: dict, resume: bool, defaults: dict) -> None:
    """Raise UserError if a run must not be resumed: its settings or data differ, or `resume` is
    false."""
    way_out = "choose another --out, or delete the folder"
    if not resume:
        raise UserError(f"{run.path} already holds a run: {way_out}")
    before = run.config
    found = differences(before["settings"], given["settings"], defaults)
    was, now = before["data"], given["data"]
    found += [
        f"its {name} " + ("changed since the run began" if name in was else "was not recorded then")
        for name in sorted(was | now)
        if was.get(name) != now.get(name) and (name in was or before["rlhf_lab_run"] > 1)
    ]
    if found:
        begun = before.get("versions", {}).get("rlhf-lab")
        if begun and begun != surroundings()["versions"]["rlhf-lab"]:
            way_out += f", or resume it with rlhf-lab {begun}, which began it"
        more = [f"and {len(found) - 5} more"] if len(found) > 5 else []
        raise UserError(
            f"{run.path} holds a run with other settings or data "
            f"({'; '.join(found[:5] + more)}): {way_out}"
        )
