"""A comparison on one page, which needs no network and contains no script: the table, the rubric,
pictures, responses side by side, and what was compared."""

from dataclasses import dataclass
from importlib.resources import files

from rlhf_lab.compare import comparison_plots as plots
from rlhf_lab.compare.comparison_table import main_table, rows_of, rubric_differences, rubric_table
from rlhf_lab.compare.conclusions import cautions, headline, pairing, sentences
from rlhf_lab.compare.measure import FIRST, Comparison
from rlhf_lab.disk.jsonl import plain
from rlhf_lab.runs.examples import clipped, said
from rlhf_lab.runs.report import document, figure
from rlhf_lab.sampling import SamplingConfig
from rlhf_lab.show.markup import Html, join, name_alone, tag
from rlhf_lab.show.tables import NOTHING, Cell, Table

TITLE = "Comparison: "
HOW_TO_READ = {
    "interval": "The small figures are 95 % intervals. They show how much the figure may change on "
    "other prompts of the same kind. They do not cover another seed of the training, "
    "nor errors of the judge.",
    "by prompt": "Several answers to one prompt are not independent, so each prompt counts once, "
    "with the mean of its answers.",
    "difference": "The mean of the differences prompt by prompt. What makes a prompt hard for both "
    "models cancels out, so the interval is narrower than two separate ones suggest "
    "if they find the same prompts hard. If it does not contain 0, the two "
    "differ by more than chance explains.",
    "wins": "How often an answer beats the other model's to the same prompt; a tie is half a win.",
    "all seeds": "The mean of the seeds and, in brackets, the lowest and the highest. They are not "
    "pooled into one interval: 3 seeds on 500 prompts are not 1,500 independent "
    "marks. One more seed falls outside the range of 3 seeds in 1 of 2 cases, and "
    "outside the range of 9 in 1 of 5 (of n: 2 in n + 1).",
    "KL": "How far the model has moved from the reference, in nats, summed over an "
    "answer. Compare marks at similar KL: a higher mark may cost a higher KL.",
    "distinct": "The share of different answers among several to one prompt, not counting "
    "names from the prompt.",
}


@dataclass(frozen=True)
class Setup:
    """How a comparison was made. source: where the prompts come from. unit: what is compared,
    "mark" or "score". judged_by: who gives it. held_out: whether the prompts are a task's held-out
    ones."""

    source: str
    prompts: int
    samples: int
    seed: int
    sampling: SamplingConfig
    judged_by: str
    unit: str = "mark"
    held_out: bool = True


def page(comparison: Comparison, setup: Setup) -> Html:
    """The whole page."""
    sections = {
        "The table": _figures(comparison, setup),
        "Pictures": _pictures(comparison, setup.unit),
        "Item by item": _items(comparison),
        "Side by side": _side_by_side(comparison, setup.unit),
        "What was compared": _compared(comparison, setup),
        "How to read it": tag(
            "dl", *(join(tag("dt", w), tag("dd", t)) for w, t in HOW_TO_READ.items())
        ),
    }
    shown = {title: part for title, part in sections.items() if part}
    title = f"{TITLE}{setup.source}"
    body = join(
        _header(title, comparison, setup),
        tag("nav", *(tag("a", t, href=f"#{_anchor(t)}") for t in shown)),
        *(tag("section", tag("h2", t), part, id=_anchor(t)) for t, part in shown.items()),
    )
    style = files("rlhf_lab.compare").joinpath("page.css").read_text(encoding="utf-8")
    return document(title, body, style)


def _header(title: str, comparison: Comparison, setup: Setup) -> Html:
    warnings = cautions(comparison, setup.prompts, setup.unit)
    return tag(
        "header",
        tag("p", f"{title}, {setup.prompts} prompts", class_="kicker"),
        tag("h1", headline(comparison, setup.unit)),
        *(
            tag("p", text.replace(" %", "\u00a0%"), class_="lead")
            for text in sentences(comparison, setup.unit)
        ),
        *(tag("p", text, class_="warning") for text in warnings),
    )


def _figures(comparison: Comparison, setup: Setup) -> Html:
    """The main table."""
    note = (
        f"Every model gave {setup.samples} answers to each of {setup.prompts} prompts, with "
        "the same seeds. Small figures are 95\u00a0% intervals, each prompt counted once."
    )
    many = [seeds for _, _, seeds in rows_of(comparison)]
    table = _stack(main_table(comparison, setup.unit), comparison, many)
    return join(tag("p", f"{note} {pairing(comparison)}".strip()), table)


def _pictures(comparison: Comparison, unit: str) -> Html:
    """Marks above differences, and beside them the mark against the KL."""
    drawn = [figure(plots.values(comparison, unit), f"The mean {unit} of each model")]
    if any(row["difference"] for row in comparison.rows):
        drawn.append(figure(plots.differences(comparison, unit), "The paired differences"))
    if any((row["kl"] or (0,))[0] for row in comparison.rows):
        shown = figure(plots.value_against_kl(comparison, unit), f"The {unit} over the KL")
        return tag("div", tag("div", *drawn), shown, class_="pictures")
    return tag("div", *drawn, class_="pictures")


def _items(comparison: Comparison) -> Html | None:
    """The rubric and the flaws of each model, and their differences from its rival."""
    items, differences = rubric_table(comparison), rubric_differences(comparison)
    if not items.rows:
        return None
    parts = [
        tag(
            "p",
            "Rubric items go from 0 to 1. Flaws are the share of answers that show them; "
            "their differences are in percentage points (pp).",
        ),
        _stack(items, comparison),
    ]
    if differences.rows:
        parts += [
            tag("h3", "Differences from the first model, paired by prompt"),
            _stack(differences, comparison),
        ]
    return join(*parts)


def _side_by_side(comparison: Comparison, unit: str) -> Html:
    """The same prompts answered by the first model of each group."""
    shown, colours = {g["models"][0] for g in comparison.groups}, plots.colours_of(comparison)
    cards = [
        tag(
            "article",
            said(e["prompt"], "prompt"),
            tag(
                "div",
                *(
                    _card(answer, unit, colours)
                    for answer in e["answers"]
                    if answer["model"] in shown
                ),
                class_="answers",
            ),
        )
        for e in comparison.examples
    ]
    worst = next((e["worst_of"] for e in comparison.examples if e["worst_of"]), None)
    rule = f"The first {min(FIRST, len(cards))} prompts and each model's first answer"
    if len(shown) < len(comparison.rows):
        rule += "; of several seeds, only the first is shown"
    if worst is None:
        return join(tag("p", f"{rule}. None was picked by hand."), *cards)
    rule += (
        f"; then the other prompts on which {worst}, which has the best mean, gave its worst "
        "first answers. None was picked by hand."
    )
    return join(
        tag("p", rule), *cards[:FIRST], tag("h3", f"Where {worst} did worst"), *cards[FIRST:]
    )


def _card(answer: dict, unit: str, colours: dict[str, str]) -> Html:
    value = f"{answer['value']:.1f} points" if unit == "mark" else f"{unit} {answer['value']:.2f}"
    reasons = [tag("li", clipped(reason), dir="auto") for reason in answer["reasons"]]
    return tag(
        "div",
        tag("h4", answer["model"], tag("span", value, class_="mark")),
        said(answer["response"]),
        tag("ul", *reasons) if reasons else None,
        class_="answer",
        style=f"border-top-color:{colours[answer['model']]}",
    )


def _compared(comparison: Comparison, setup: Setup) -> Html:
    """Folders, seeds, rivals and settings, and how the answers were sampled."""
    rows = []
    for row in plain(comparison.rows):
        settings = ", ".join(f"{name} {_setting(value)}" for name, value in row["settings"].items())
        seed = "" if row["seed"] is None else str(row["seed"])
        source = "" if row["reference"] == row["model"] else name_alone(row["reference"])
        rows.append(
            (
                row["model"],
                [
                    Cell(t) if t else NOTHING
                    for t in (name_alone(row["folder"]), seed, row["rival"], source, settings)
                ],
            )
        )
    head = ["", "folder", "seed", "measured against", "KL from", "settings that differ"]
    if not any(row["settings"] for row in comparison.rows):
        head, rows = head[:-1], [(label, cells[:-1]) for label, cells in rows]
    s = setup.sampling
    limits = [f"top-k {s.top_k}"] * (s.top_k > 0) + [f"top-p {s.top_p:g}"] * (s.top_p < 1)
    facts = {
        "prompts": f"{setup.prompts}, from {setup.source}"
        + (
            "; the task never trains on them"
            if setup.held_out
            else "; it is not known whether a model was trained on them"
        ),
        f"{setup.unit}s": f"given by {setup.judged_by}",
        "answers": f"{setup.samples} to each prompt, seed {setup.seed}, temperature "
        f"{s.temperature:g}, at most {s.max_new_tokens} tokens"
        + "".join(f", {limit}" for limit in limits),
    }
    return join(
        _stack(Table(head, rows), comparison, words=True),
        tag("dl", *(join(tag("dt", w), tag("dd", t)) for w, t in facts.items())),
    )


# ------------------------------------------------------------------------------ pieces


def _stack(
    table: Table, comparison: Comparison, many: list[bool] | None = None, words: bool = False
) -> Html:
    """A table whose rows become cards on a narrow screen. many: which rows stand for several seeds.
    words: whether the cells contain text."""
    colours = plots.colours_of(comparison)
    head = tag("tr", *(tag("th", text, scope="col") for text in table.head))
    rows = []
    for (label, cells), seeds in zip(table.rows, many or [False] * len(table.rows)):
        dot = None if seeds else tag("span", class_="key", style=f"background:{colours[label]}")
        data = (_cell(c, title) for c, title in zip(cells, table.head[1:]))
        rows.append(
            tag(
                "tr",
                tag("th", dot, label.strip(), scope="row"),
                *data,
                class_="all" if seeds else None,
            )
        )
    body = join(tag("thead", head), tag("tbody", *rows))
    return tag("div", tag("table", body), class_="scroll stack words" if words else "scroll stack")


def _cell(one: Cell, title: str) -> Html:
    figures = tag("span", one.estimate, one.unit, one.margin and tag("small", one.margin))
    return tag("td", figures, data_label=title, class_="none" if one == NOTHING else None)


def _setting(value: str) -> str:
    """A setting in JSON; of a path, only the last name."""
    return f'"{name_alone(value[1:-1])}"' if value.startswith('"') else value


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
