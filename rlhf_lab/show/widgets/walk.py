"""A walk through a run: the policy's responses to the same prompts, from update to update.

A slider for the update, a button for other prompts. Responses that did not change are grey, so that
a reader sees which ones the policy keeps.
"""

from collections.abc import Sequence

import ipywidgets
import pandas as pd

from rlhf_lab.show.cards import SPEAKER
from rlhf_lab.show.markup import Html, join, tag

STYLE = "border-left: 4px solid #009E73; margin: 6px 0; padding: 2px 10px; white-space: pre-wrap"
SAME = "; opacity: 0.6"


class SampleWalk(ipywidgets.VBox):
    """The widget.

    samples: columns update, prompt, response, mark (`overoptimisation.load_samples`) and, if the
    run recorded it, score. shown: how many prompts at a time. still: the updates that a saved
    notebook shows.
    """

    def __init__(self, samples: pd.DataFrame, shown: int = 2, still: Sequence[int] = ()):
        self.samples, self.shown = samples, shown
        self.updates = sorted(samples["update"].unique().tolist())
        self.prompts = samples["prompt"].drop_duplicates().tolist()
        self.kept = list(still) or [
            self.updates[0],
            self.updates[len(self.updates) // 2],
            self.updates[-1],
        ]
        self.first = 0
        self.slider = ipywidgets.SelectionSlider(
            options=self.updates, value=self.updates[0], description="update"
        )
        self.more = ipywidgets.Button(description="other prompts")
        self.page = ipywidgets.HTML()
        super().__init__([ipywidgets.HBox([self.slider, self.more]), self.page])
        self.slider.observe(self._redraw, "value")
        self.more.on_click(self._turn)
        self._redraw()

    def _turn(self, _button=None) -> None:
        self.first = (self.first + self.shown) % len(self.prompts)
        self._redraw()

    def _redraw(self, _change=None) -> None:
        self.page.value = self.at(self.slider.value)

    def at(self, update: int) -> Html:
        """The responses at an update, with the judge's marks and the scores."""
        rows = self.samples[self.samples["update"] == update].set_index("prompt")
        before = self.updates[max(0, self.updates.index(update) - 1)]
        old = self.samples[self.samples["update"] == before].set_index("prompt")
        means = f"mean mark {rows['mark'].mean():.1f}"
        if "score" in rows and rows["score"].notna().all():
            means += f", mean score {rows['score'].mean():.2f}"
        elif update == self.updates[0]:
            means += " (the run recorded no scores of these answers)"
        head = tag("p", tag("b", f"Update {update}"), f", all {len(rows)} prompts: {means}")
        chosen = [
            self.prompts[(self.first + i) % len(self.prompts)]
            for i in range(min(self.shown, len(self.prompts)))
        ]
        return join(
            head,
            *(
                _answer(
                    p,
                    rows.loc[p],
                    update != before and rows.loc[p, "response"] == old.loc[p, "response"],
                )
                for p in chosen
            ),
        )

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and a page with a few updates for viewers that run no widgets."""
        data = super()._repr_mimebundle_(**kwargs)
        return data | {
            "text/html": tag("div", *(self.at(update) for update in self.kept)),
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        return f"<SampleWalk: {len(self.prompts)} prompts at {len(self.updates)} updates>"


def _answer(prompt: str, row, same: bool) -> Html:
    score = row.get("score")
    numbers = f"mark {row['mark']:.1f}" + ("" if pd.isna(score) else f", score {score:.2f}")
    return tag(
        "div",
        tag("i", tag("bdi", SPEAKER.sub("", prompt))),
        tag("br"),
        tag("bdi", row["response"]),
        f"  ({numbers})",
        style=STYLE + (SAME if same else ""),
    )
