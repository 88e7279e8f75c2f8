"""Which prompts a task of your own trains on, judges with, and keeps for the end.

    train       what the policy learns from: demonstrations, PPO's prompts, and the rankings of the
                reward model that PPO optimises
    second      rankings for a second reward model, which takes the place of a judge
    held-out    prompts that both policies answer at the end, and that nothing has learned from

A prompt's part depends only on its text: adding a prompt moves none of the others, and answers,
rankings and the order of lines do not matter.
"""

import hashlib
import re
from dataclasses import dataclass

TRAIN, SECOND, HELD_OUT = PARTS = ("train", "second", "held-out")


@dataclass(frozen=True)
class Shares:
    """The shares of the prompts, 0 to 1, that are for the second reward model and held out; the
    rest is to train on. Changing the shares moves prompts between parts."""

    second: float = 0.25
    held_out: float = 0.25

    def part_of(self, text: str) -> str:
        """The part that a prompt with this text is in. Texts that differ in case, punctuation and
        white space alone are in the same part: a copy of a prompt must not be on both sides."""
        words = " ".join(re.findall(r"\w+", text.casefold())) or text
        digest = hashlib.sha256(f"part\x1f{words}".encode()).digest()
        place = int.from_bytes(digest[:6], "big") / 2**48  # uniform in [0, 1)
        if place < self.held_out:
            return HELD_OUT
        return SECOND if place < self.held_out + self.second else TRAIN
