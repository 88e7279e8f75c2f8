"""What a person looks at and touches in a notebook."""

from rlhf_lab.widgets.ranking import RankingWidget

__all__ = ["RankingWidget"]
