"""The models of a comparison, their names, and which of them are the same run with other seeds.

Runs that differ only in their seed form a group. They are never pooled: each has its own row in
every table and its own dot in every picture.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf_lab.disk.provenance import FREE, flat
from rlhf_lab.disk.run_folder import RunFolder, is_run
from rlhf_lab.errors import UserError
from rlhf_lab.show.markup import name_alone


@dataclass(frozen=True)
class Contestant:
    """A model in a comparison.

    name: shown for it. folder: the folder or hub id it is loaded from. group: models with the same
    group differ only in their seed. seed, settings: of the run that the model is in; None outside a
    run.
    """

    name: str
    folder: str
    group: str
    seed: int | None = None
    settings: dict | None = None


def contestants_of(given: Sequence[str | Path]) -> list[Contestant]:
    """The models to compare. Each is a run's folder (its final policy), a model's folder, also one
    inside a run, or a hub id; NAME=FOLDER gives it a name, and models with the same name form a
    group.

    Raises UserError for a run that holds no policy yet, and for a file.
    """
    found = [_contestant(str(text)) for text in given]
    return _names_apart([_alone_where_twice(found, place) for place in range(len(found))])


def rival_of(contestants: Sequence[Contestant], place: int) -> int:
    """The index of the model that the model at `place` is compared with: the first or, if the first
    is one of several seeds, the one of them with the same seed. Models of the first group have no
    rival (the result is their own index), unless there is no other group: then it is the first."""
    one, group = contestants[place], contestants[0].group
    if all(other.group == group for other in contestants):
        return 0
    if one.group == group:
        return place
    for other, candidate in enumerate(contestants):
        if candidate.group == group and one.seed is not None and candidate.seed == one.seed:
            return other
    return 0


def groups_of(contestants: Sequence[Contestant]) -> list[list[int]]:
    """The indices of the contestants, group by group, in the order they were given."""
    groups: dict[str, list[int]] = {}
    for place, one in enumerate(contestants):
        groups.setdefault(one.group, []).append(place)
    return list(groups.values())


def set_apart(contestants: Sequence[Contestant]) -> list[dict[str, str]]:
    """For each contestant the settings in which the runs differ, except seeds."""
    every = [flat(without_seeds(one.settings)) if one.settings else {} for one in contestants]
    known = [settings for settings in every if settings]
    differ = {
        name
        for settings in known
        for name in settings
        if len({other.get(name) for other in known}) > 1
    }
    return [
        {name: value for name, value in settings.items() if name in differ} for settings in every
    ]


def without_seeds(settings):
    """The settings without seeds and without those that change no result (FREE)."""
    if not isinstance(settings, dict):
        return settings
    return {
        key: without_seeds(value) for key, value in settings.items() if key not in ("seed", *FREE)
    }


def _contestant(given: str) -> Contestant:
    name, equals, place = given.partition("=")
    if not (name and equals and place) or Path(given).exists():
        name, place = "", given
    folder = model_in(place)
    run, part = run_around(folder)
    config = run.config if run else {}
    settings = config.get("settings")
    seed = settings.get("seed") if isinstance(settings, dict) else None
    made = json.dumps([part, without_seeds(settings), config.get("data")], sort_keys=True)
    group = f"name {name}" if name else f"made {made}" if run else f"folder {folder}"
    return Contestant(name or _shown(place, run, part), folder, group, seed, settings)


def _shown(place: str, run: RunFolder | None, part: str) -> str:
    """The name of a model that was given no name: what was given, but only the end of a path that
    would identify the machine."""
    short = name_alone(place)
    return f"{run.path.name}/{part}" if run and short == part != place else short


def model_in(place: str) -> str:
    """The model's folder for what a person gave: for a run, its final policy, or its SFT policy if
    it is a run of SFT alone. Anything that is not a folder is taken as a hub id."""
    path = Path(place)
    if path.is_file():
        raise UserError(f"{place} is a file: give a run's folder or a model's folder")
    if not path.is_dir():
        return place
    if not is_run(path):
        return str(path)
    run = RunFolder.view(path)
    if run.policy.is_dir():
        return str(run.policy)
    settings = run.config.get("settings")
    if run.sft.is_dir() and "ppo" not in (settings if isinstance(settings, dict) else {}):
        return str(run.sft)
    raise UserError(
        f"the run in {place} holds no policy yet: run it to its end, or give a model's "
        f"folder, such as {path / 'sft'}"
    )


def run_around(folder: str) -> tuple[RunFolder | None, str]:
    """The run that contains a model's folder, and the folder's name in it, such as "policy"; (None,
    "") if there is none."""
    path = Path(folder).resolve()
    try:
        return (RunFolder.view(path.parent), path.name) if path.is_dir() else (None, "")
    except UserError:  # no run, or none that can be read
        return None, ""


def _alone_where_twice(found: list[Contestant], place: int) -> Contestant:
    """The contestant, moved to a group of its own if a seed is missing or occurs twice in its
    group: then its models are not the same run with other seeds. Groups made by NAME= stay."""
    one = found[place]
    if one.group.startswith("name "):
        return one
    alike = [other for other in found if other.group == one.group]
    seeds = [other.seed for other in alike]
    if len(alike) == 1 or (None not in seeds and len(set(seeds)) == len(seeds)):
        return one
    return replace(one, group=f"{one.group} {place}")


def _names_apart(found: list[Contestant]) -> list[Contestant]:
    """The contestants with unique names: a repeated name gets its seed, or else a number,
    appended."""
    names = Counter(one.name for one in found)
    pairs = Counter((one.name, one.seed) for one in found)
    seen: Counter[str] = Counter()
    apart = []
    for one in found:
        seen[one.name] += 1
        if names[one.name] == 1:
            behind = ""
        elif one.seed is not None and pairs[one.name, one.seed] == 1:
            behind = f", seed {one.seed}"
        else:
            behind = f", no. {seen[one.name]}"
        apart.append(replace(one, name=one.name + behind))
    return apart
