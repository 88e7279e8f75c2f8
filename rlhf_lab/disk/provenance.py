"""The versions a run was made with, how two runs differ, and the refusal of newer formats."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version

from rlhf_lab import __version__
from rlhf_lab.errors import UserError

# Settings that change a run's speed and memory, not its result: they may change on resuming.
FREE = ("max_tokens", "gradient_checkpointing")
PACKAGES = ("torch", "transformers", "tokenizers", "accelerate")


def surroundings() -> dict:
    """Versions and platform, which may change a run's numbers; nothing that identifies a machine.

    A package that is not installed has the version None.
    """
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    versions["rlhf-lab"] = __version__  # of the running code, even in a clone not installed
    system = {"system": platform.system(), "machine": platform.machine(), "cpus": os.cpu_count()}
    return {"versions": versions, "platform": system}


def differences(before: dict, now: dict, defaults: dict | None = None) -> list[str]:
    """One phrase for every setting that differs, such as "ppo.beta was 0.05, now 0.1", except those
    in FREE. A setting that is missing in `before` and has a default did not exist then: it counts
    as having had that default."""
    before, now = flat(before), flat(now)
    usual = flat(defaults or {})
    before |= {name: usual[name] for name in now if name in usual and name not in before}
    return [
        f"{name} was {before.get(name, 'unset'):.40}, now {now.get(name, 'unset'):.40}"
        for name in before | now
        if before.get(name) != now.get(name) and name.rpartition(".")[2] not in FREE
    ]


def version_note(what: object, before: dict, formats: dict[str, int]) -> str:
    """One line that names the packages and formats whose versions have changed since `before`; ""
    if none have. A version that is unknown on either side, or of a package that changes no number,
    does not count."""
    now = surroundings()["versions"] | formats
    both = [n for n in (*PACKAGES, "rlhf-lab", *formats) if before.get(n) and now[n]]
    found = differences({n: before[n] for n in both}, {n: now[n] for n in both})
    if not found:
        return ""
    return (
        f"{what} resumes with other versions than it began with ({'; '.join(found)}): its numbers "
        "may differ in the last digits from those of a run with one version"
    )


def check_format(what: str, found: int, known: int, by: str | None = None) -> None:
    """Raise UserError if the format number `found` is newer than `known`. by: the version of
    rlhf-lab that wrote the files, if known."""
    if found > known:
        raise UserError(
            f"{what} was written by {f'rlhf-lab {by}' if by else 'a newer rlhf-lab'} (format "
            f"{found}, this one reads up to {known}): update rlhf-lab; no file was changed"
        )


def flat(settings: object, name: str = "") -> dict[str, str]:
    """Settings without nesting: {"ppo": {"beta": 0.05}} gives {"ppo.beta": "0.05"}, in JSON."""
    if not isinstance(settings, dict):
        return {name: json.dumps(settings, ensure_ascii=False)}
    entries: dict[str, str] = {}
    for key, value in settings.items():
        entries |= flat(value, f"{name}.{key}" if name else str(key))
    return entries
