"""What the runs tell about a reward model that judges: how well it orders rankings that it was not
trained on, and whether PPO optimised it or one trained on the same rankings."""

import json
from collections.abc import Sequence
from pathlib import Path

from rlhf_lab.compare.contestants import Contestant, run_around
from rlhf_lab.disk.storage import fingerprint
from rlhf_lab.tasks.parts import SECOND, TRAIN

TESTED = "tested.json"  # share of comparisons ordered as people did, and its interval


def standing_of(reward_model: str | Path | None, models: Sequence[Contestant] = ()) -> list[str]:
    """What to know before you trust this reward model's scores of these models, one sentence
    each."""
    if reward_model is None:
        return []
    told = _optimised(reward_model, models) or _learned_alike(reward_model, models)
    return [text for text in (tested_as(reward_model), told) if text]


def spent(reward_model: str | Path) -> str:
    """A warning if this is the reward model kept for judging; "" for another."""
    if _part(reward_model) != SECOND:
        return ""
    return (
        f"{reward_model} is the second reward model, which is kept for judging: it cannot judge "
        "a policy that is optimised against it; use the reward model that `reward` made without "
        "--part second"
    )


def tested_as(reward_model: str | Path) -> str:
    """Its accuracy on rankings of prompts it was not trained on, in words; "" if not tested."""
    file = Path(reward_model).resolve().parent / TESTED
    if not file.is_file():
        return ""
    right, low, high = json.loads(file.read_text(encoding="utf-8"))
    if right is None:
        return ""
    text = (
        f"{reward_model} orders {100 * right:.0f} % of comparisons on unseen prompts "
        f"as people did (95 % interval {100 * low:.0f} to {100 * high:.0f} %)"
    )
    coin = ", which is not distinguishable from chance: its scores are no evidence"
    return text + coin * (low <= 0.5)


def _optimised(reward_model: str | Path, models: Sequence[Contestant]) -> str:
    """A warning if one of the models was optimised against this reward model; else ""."""
    weights = fingerprint(reward_model)
    names = [model.name for model in models if weights and _optimised_by(model.folder) == weights]
    if not names:
        return ""
    return (
        f"PPO optimised {' and '.join(names)} against {reward_model}, so the scores that "
        "it gives there are no evidence; give a reward model that was trained on other rankings"
    )


def _optimised_by(folder: str) -> str:
    """The fingerprint of the reward model that a policy was optimised against; "" if unknown."""
    run, part = run_around(folder)
    if run is None or part != run.policy.name:
        return ""
    data = run.config.get("data")
    noted = data.get("reward model", "") if isinstance(data, dict) else ""
    return noted or fingerprint(run.reward_model)  # a run of all stages holds its own


def _learned_alike(reward_model: str | Path, models: Sequence[Contestant]) -> str:
    """A warning if it was trained on the same part of a task as the reward model that PPO
    optimised: PPO has then exploited what both have learned. If no run records PPO's reward model,
    it is taken to be the one of the first part. "" if there is nothing to warn of."""
    part = _part(reward_model)
    asked = [
        settings["reward_model"]
        for model in models
        if "reward_model" in (settings := model.settings or {})
    ]
    if part is None or part not in ({_part(one) for one in asked} - {None} or {TRAIN}):
        return ""
    other = "`reward --part second`" if part == TRAIN else "`reward` without --part second"
    return (
        f"{reward_model} was trained on the same rankings as PPO's reward model: its scores of a "
        f"policy are no evidence; give the one made by {other}"
    )


def _part(reward_model: str | Path) -> str | None:
    """The part of a task whose rankings it was trained on; None if its run does not say."""
    run, _ = run_around(str(reward_model))
    settings = run.config.get("settings") if run else {}
    return settings.get("part") if isinstance(settings, dict) else None
