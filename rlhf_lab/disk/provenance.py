"""What a run was made with, and how two runs differ in it."""

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version

# They change a run's speed and memory, not its result: it may go on with others.
FREE = ("max_tokens", "gradient_checkpointing")
PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "rlhf-lab")


def surroundings() -> dict:
    """Versions and platform: what may change a run's numbers, and nothing that names a machine.

    A package that was not installed, such as this one in a bare clone, has the version None.
    """
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    system = {"system": platform.system(), "machine": platform.machine(), "cpus": os.cpu_count()}
    return {"versions": versions, "platform": system}


def differences(before: dict, now: dict) -> list[str]:
    """One phrase for every setting that is not the same, such as "ppo.beta was 0.05, now 0.1"; none
    for those that are FREE."""
    before, now = flat(before), flat(now)
    return [
        f"{name} was {before.get(name, 'unset'):.40}, now {now.get(name, 'unset'):.40}"
        for name in before | now
        if before.get(name) != now.get(name) and name.rpartition(".")[2] not in FREE
    ]


def flat(settings: object, name: str = "") -> dict[str, str]:
    """Settings without nesting: {"ppo": {"beta": 0.05}} gives {"ppo.beta": "0.05"}, in JSON."""
    if not isinstance(settings, dict):
        return {name: json.dumps(settings, ensure_ascii=False)}
    entries: dict[str, str] = {}
    for key, value in settings.items():
        entries |= flat(value, f"{name}.{key}" if name else str(key))
    return entries
