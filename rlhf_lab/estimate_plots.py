"""The picture of an estimate: what fills the memory."""

from collections.abc import Mapping

import matplotlib

from rlhf_lab.estimate import Estimate
from rlhf_lab.plots import STYLE, Picture

PARTS = {"weights": "#0072B2", "gradients": "#56B4E9", "adam": "#009E73", "activations": "#E69F00",
         "cache": "#999999"}  # fmt: skip
LABELS = {"adam": "Adam's moments", "cache": "KV cache, while sampling"}


def memory(estimates: Mapping[str, Estimate]) -> Picture:
    """A bar for each estimate, in GB, put together from its parts; the mark is the worst moment.

    Sampling has no activations and training no cache, so a bar can be longer than its mark.
    """
    with matplotlib.rc_context(STYLE):
        figure = Picture(figsize=(8.4, 0.9 + 0.42 * len(estimates)))
        axes = figure.add_subplot()
        names, left = list(estimates), [0.0] * len(estimates)
        for part, colour in PARTS.items():
            widths = [getattr(estimates[name], part) / 1e9 for name in names]
            axes.barh(names, widths, left=left, color=colour, height=0.62, label=LABELS.get(part, part))
            left = [start + width for start, width in zip(left, widths)]
        axes.plot([estimates[name].memory / 1e9 for name in names], names, "k|", markersize=16,
                  label="worst moment")
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set(xlabel="GB beside the libraries' own")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure
