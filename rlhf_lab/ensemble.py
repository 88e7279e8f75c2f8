"""Several reward models as one: where they disagree, the score is not to be trusted.

The members learn from the same rankings and differ in the seed of their head and in the order of
what they read. A policy that has found what one of them gets wrong has not found it in all (Coste
et al. 2024, "Reward Model Ensembles Help Mitigate Overoptimization").
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from rlhf_lab import maths
from rlhf_lab.models import ScalarModel

# How the scores of M members, (M, B), become one, (B,). The weight of the variance was set before
# any run.
COMBINATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": partial(maths.uncertainty_weighted, weight=0.0),
    "worst": maths.worst_case,
    "uncertainty": partial(maths.uncertainty_weighted, weight=0.5),
}


class Ensemble(nn.Module):
    """Reward models whose scores are combined; `train_ppo` and `scores_of` take it as one.

    members: each normalised on the same responses, so that their scores have one unit. combine:
    (M, B) -> (B,), see COMBINATIONS. What it gives has another mean and spread than its members:
    `reward.normalise` the ensemble too.
    """

    def __init__(self, members: Sequence[ScalarModel], combine: Callable[[Tensor], Tensor]):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.combine, self.mean, self.sd = combine, 0.0, 1.0

    def score(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """The combined score of each row, (B,); tokens and attention (B, T)."""
        return (self.combine(self.scores(tokens, attention)) - self.mean) / self.sd

    def normalise(self, mean: float, sd: float) -> None:
        """Rescale scores of this mean and standard deviation to 0 and 1, as a ScalarModel does."""
        self.mean, self.sd = self.mean + mean * self.sd, self.sd * sd

    def scores(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """What each member says, (M, B)."""
        return torch.stack([member.score(tokens, attention) for member in self.members])
