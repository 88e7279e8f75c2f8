"""What is known of a reward model that is to judge: how well it orders what people ranked and it
has not seen, and whether PPO learned what it learned. A run of a task of one's own says both."""

import json
from pathlib import Path

from rlhf_lab.run_folder import RunFolder
from rlhf_lab.tasks.parts import TRAIN

TESTED = "tested.json"  # share of comparisons that it orders as people did, and its interval


def standing_of(reward_model: str | Path | None) -> list[str]:
    """What to know before believing what this reward model says, a sentence each."""
    if reward_model is None:
        return []
    return [text for text in (tested_as(reward_model), _optimised(reward_model)) if text]


def tested_as(reward_model: str | Path) -> str:
    """How it did on rankings of prompts that it has not seen; "" where that was not tested."""
    file = Path(reward_model).resolve().parent / TESTED
    if not file.is_file():
        return ""
    right, low, high = json.loads(file.read_text(encoding="utf-8"))
    if right is None:
        return ""
    text = (f"{reward_model} orders {100 * right:.0f} % of comparisons on prompts it has not seen "
            f"as people did (95 % interval {100 * low:.0f} to {100 * high:.0f} %)")  # fmt: skip
    coin = ", which may be no more than a coin does: nothing that it says is evidence"
    return text + coin * (low <= 0.5)


def _optimised(reward_model: str | Path) -> str:
    """Whether it learned from the part of a task that the policy learns from too: then PPO has
    found out what pleases it."""
    run = Path(reward_model).resolve().parent
    settings = RunFolder.view(run).config.get("settings") if (run / "config.json").is_file() else {}
    if not isinstance(settings, dict) or settings.get("part") != TRAIN:
        return ""
    return (f"{reward_model} learned from the rankings that PPO's reward model learns from: what "
            "it says of a policy is no evidence; give the one of `reward --part second`")  # fmt: skip
