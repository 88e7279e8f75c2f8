"""The prompts on which people disagree most, as a page to read: what was asked, what was answered,
and who ranked each answer where."""

from collections.abc import Sequence

from rlhf_lab.feedback.agreement import DISPUTED_PICKS, disagreements
from rlhf_lab.feedback.entry import Entry
from rlhf_lab.feedback.pairs import Source, rankings_in
from rlhf_lab.feedback.pooling import pool_by_vote
from rlhf_lab.records import Ranking
from rlhf_lab.show.markup import Html, join, tag

TEXT = "white-space: pre-wrap; overflow-wrap: anywhere; max-height: 12em; overflow-y: auto"
CELL = "text-align: left; vertical-align: top; padding: 0.3em 0.8em; border-top: 1px solid #808080"
START = 80  # characters of the prompt in its heading


def browse_disagreements(source: Source, most: int = 20) -> Html:
    """The `most` disputed prompts of `disagreements`; a click opens each. Responses are in the
    order of a plain vote. All text is escaped. In a notebook, wrap it in IPython's HTML(...).
    """
    rankings = list(rankings_in(source, DISPUTED_PICKS))
    disputed = disagreements(rankings).head(most)
    if disputed.empty:
        return tag("p", "No two people have ranked the same responses yet.")
    items = []
    for row in disputed.itertuples():
        group = [ranking for ranking in rankings if ranking.prompt.text == row.prompt]
        heading = f"{100 * row.agreement:.0f} % agreement, {row.labellers} labellers: "
        start = " ".join(row.prompt[:START].split()) + ("…" if len(row.prompt) > START else "")
        items.append(
            tag(
                "details",
                tag("summary", heading, tag("bdi", start)),
                _said("blockquote", row.prompt),
                _table(group),
            )
        )
    return tag("div", *items, style="overflow-x: auto")


def _table(group: Sequence[Entry | Ranking]) -> Html:
    """A row for each response, a column for each labeller: the rank, – if unranked, empty if the
    labeller was not shown this response."""
    ranks: dict[str, dict[str, int | None]] = {}
    for ranking in group:  # if a labeller ranked twice, the earlier ranking counts
        ranks[ranking.labeller] = dict(zip(ranking.responses, ranking.ranks)) | ranks.get(
            ranking.labeller, {}
        )
    pooled = pool_by_vote(group)[0]
    order = sorted(zip(pooled.responses, pooled.ranks), key=lambda row: row[1] or len(pooled.ranks))
    head = tag("tr", tag("th", "response", style=CELL), *(tag("th", n, style=CELL) for n in ranks))
    rows = [
        tag(
            "tr",
            tag("td", _said("div", text), style=CELL),
            *(tag("td", _shown(text, given), style=CELL) for given in ranks.values()),
        )
        for text, _ in order
    ]
    return tag("table", head, join(*rows), style="border-collapse: collapse")


def _shown(text: str, ranks: dict[str, int | None]) -> str:
    if text not in ranks:
        return ""
    return "–" if ranks[text] is None else str(ranks[text])


def _said(element: str, text: str) -> Html:
    """A person's or a model's text, in its own reading direction, in a box of limited height."""
    return tag(element, text, dir="auto", style=TEXT)
