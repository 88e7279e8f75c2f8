"""Getting responses ranked."""

from rlhf_lab.feedback.simulated import rank_all

__all__ = ["rank_all"]
