"""The result of a person's choices between two models, and its uncertainty, in plain words."""

from dataclasses import dataclass

from rlhf_lab import intervals


@dataclass(frozen=True)
class Outcome:
    """The result of the choices: wins, ties and losses of the second model.

    same: prompts with equal responses that were drawn; they count as ties. skipped: pairs skipped
    or flagged. left: pairs still open. str() hides the result before the last choice unless `asked`
    is true: a person who sees it early chooses differently, and stops when it suits.
    """

    first: str
    second: str
    wins: int
    ties: int
    losses: int
    same: int = 0
    skipped: int = 0
    left: int = 0
    asked: bool = False

    @property
    def choices(self) -> int:
        """How many pairs were decided or tied."""
        return self.wins + self.ties + self.losses

    @property
    def share(self) -> tuple[float, float, float]:
        """The second model's win rate, ties counted half, with its exact 95 % interval."""
        return intervals.exact_interval(self.wins, self.ties + self.same, self.losses)

    @property
    def p(self) -> float:
        """The probability of a split at least this uneven if the two were equally good (sign
        test)."""
        return intervals.sign_test(self.wins, self.losses)

    def __str__(self) -> str:
        if not self.choices + self.skipped + self.left:
            return f"Nothing to choose: both models wrote the same to all {self.same} prompts."
        if not self.choices or (self.left and not self.asked):
            open_ = f" {self.left} to go; the result is shown at the end." if self.left else ""
            return f"{self.choices} choices made.{open_}"
        parts = [self._counts(), self._share(), self._verdict(), self._power()]
        return " ".join(part for part in parts if part)

    def _counts(self) -> str:
        early = f" of {self.choices + self.left}" if self.left else ""
        ties = f"{self.ties or 'no'} tie{'s' * (self.ties != 1)}"
        text = (
            f"After {self.choices}{early} choices: {self.wins} for {self.second}, "
            f"{self.losses} for {self.first}, {ties}."
        )
        if self.same:
            text += (
                f" Both wrote the same to {self.same} more prompt{'s' * (self.same > 1)}, "
                "which counts as a tie."
            )
        if self.skipped:
            text += f" {self.skipped} skipped or flagged, which do not count."
        return text

    def _share(self) -> str:
        rate, low, high = (100 * share for share in self.share)
        return (
            f"Ties counted half, {self.second} wins {rate:.0f} %; these choices fit any rate from "
            f"{low:.0f} to {high:.0f} % (95 % interval)."
        )

    def _verdict(self) -> str:
        p = f"p = {self.p:.3f}" if self.p >= 0.001 else "p < 0.001"
        if not self.wins + self.losses:
            return "Nothing tells the two apart."
        if self.p >= intervals.SIGNIFICANCE:
            return (
                f"This could be chance: were the two equally good, {100 * self.p:.0f} of 100 "
                f"such readings would be at least this uneven ({p})."
            )
        better = self.second if self.wins > self.losses else self.first
        often = f"{100 * self.p:.0f}" if self.p >= 0.01 else "fewer than 1"
        return (
            f"This is hardly chance: were the two equally good, {often} of 100 such readings "
            f"would be at least this uneven ({p}). You prefer {better}."
        )

    def _power(self) -> str:
        found = 100 * intervals.power(self.wins + self.losses, 0.6)
        return (
            f"This many choices would detect a true 60 % in {found:.0f} of 100 readings; to "
            f"detect it in 80 takes about {intervals.choices_needed(0.6)} choices without a tie."
        )
