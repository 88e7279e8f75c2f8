"""What a person looks at and touches in a notebook."""

from importlib import import_module

_HOMES = {"ClippedObjective": "clip", "Dashboard": "dashboard", "Microscope": "microscope",
          "RankingWidget": "ranking", "SampleWalk": "walk"}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    """Import a widget on first use: to rank takes no torch, which the dashboard needs."""
    if name not in _HOMES:
        raise AttributeError(f"module 'rlhf_lab.widgets' has no attribute '{name}'")
    return getattr(import_module(f"rlhf_lab.widgets.{_HOMES[name]}"), name)
