"""A run on one page: report.html, which needs no network and contains no script.

Every section is a function of the run's files. It returns its part of the page, or None if the run
has no data for it: a run of one stage, or without a judge, gets a shorter page.
"""

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from textwrap import wrap

from rlhf_lab.disk.jsonl import plain, read_lines, write_whole
from rlhf_lab.disk.places import check_place
from rlhf_lab.disk.provenance import flat
from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.runs.examples import examples
from rlhf_lab.runs.summary import check_summary
from rlhf_lab.runs.verdict import verdict, warnings
from rlhf_lab.show import plots
from rlhf_lab.show.markup import Html, join, names_alone, picture, tag
from rlhf_lab.show.panels import panels_of
from rlhf_lab.show.tables import Cell, Table, cell, judge_table, model_names, table_by_set

TITLE = "RLHF run: "
# The content security policy: the browser may load nothing for the page.
SECURITY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
ACCURACY = {
    "all": "all pairs",
    "clear": "clear pairs",
    "correctness": "pairs that differ in correctness alone",
    "style": "pairs that differ in style alone",
}
STAGES = {
    "sft": "SFT",
    "rankings": "sampling and ranking",
    "reward": "reward model",
    "ppo": "PPO",
    "evaluate": "evaluation",
}
GLOSSARY = {
    "SFT": "supervised fine-tuning: the base model imitates demonstrations. PPO starts there.",
    "policy": "the model that PPO trains; here, after training.",
    "reward model": "a model trained on rankings to predict which of two answers people prefer.",
    "score": "what the reward model gives an answer, with mean 0 and standard deviation 1 for SFT.",
    "judge": "the task's standard, which knows the truth. PPO never sees it. Real tasks have none.",
    "mark": "what the judge gives an answer, in points.",
    "win rate": "how often the judge prefers an answer to SFT's to the same prompt; a tie is half.",
    "best of n": "the one of n SFT answers with the highest score. It needs no training.",
    "KL": "how far the policy has moved from SFT, in nats, summed over an answer.",
    "nat": "a unit of information: 1 nat is 1.44 bits.",
    "beta": "the penalty, in units of score, for every nat of KL.",
    "entropy": "how uncertain the policy is about the next token. Near 0, it always says the same.",
    "clip fraction": "the share of tokens whose probability changed by more than the clip range.",
    "value fit": "the share of the variance of the returns that the value network explains: 1 is "
    "all of it, 0 is no better than predicting the mean.",
    "distinct answers": "the share of different answers among several to one prompt, not counting "
    "names from the prompt.",
    "calibration error": "the gap between the reward model's confidence and how often it is right: "
    "0.05 means that of the pairs it is 80 % sure of, it orders about 75 or "
    "85 % correctly.",
    "95 % interval": "a range that contains the true figure in 95 of 100 evaluations on other "
    "prompts. Responses to one prompt count as one.",
}


def write_report(run: RunFolder) -> Path:
    """Write report.html into a run's folder and return its path; the run need not be finished.

    Raises UserError if a file of the run cannot be read, if the page cannot be written, or if
    report.html is not a report.
    """
    check_report(run)
    write_whole(run.report, page(run))
    return run.report


def check_report(run: RunFolder) -> None:
    """Raise UserError if report.html exists and is not a report."""
    check_place(run.report, other_than_page(TITLE))


def other_than_page(title: str) -> Callable[[Path], str]:
    """The check, for `check_place`, that a file is one of our pages whose title begins with
    `title`."""

    def why(place: Path) -> str:
        with place.open("rb") as file:
            ours = f"<title>{title}".encode() in file.read(1000)
        return "" if ours else f"is not a page titled '{title.strip(': ')}'"

    return why


def print_table(summary: dict) -> None:
    """Print the judge's table, at most 100 characters wide, and the verdict below it."""
    for table in (judge_table(summary), table_by_set(summary)):
        if table.rows:
            print("\n".join(table.lines()) + "\n")
    intervals = "± is half a 95 % interval, (a–b) a whole one"
    print(f"Rubric items go from 0 to 1; {intervals}; a tie is half a win.\n")
    print("\n".join(wrap(verdict(summary), 98)))
    for warning in warnings(summary):
        print("\n".join(wrap(warning, 96, initial_indent="! ", subsequent_indent="  ")))


def page(run: RunFolder) -> Html:
    """The whole page."""
    summary = plain(run.read_summary()) if run.summary.exists() else {}
    check_summary(summary, str(run.summary))
    metrics = run.metrics()
    sections = {
        "The judge's table": judged(summary),
        "What PPO did": pictures(summary, metrics),
        "The reward model": reward_model(summary),
        "Before and after": examples(summary, read_lines(run.samples)),
        "How training went": curves(metrics),
        "Time and memory": cost(summary, run.costs("seconds")),
        "Settings": settings(run.config),
        "Words": tag("dl", *(join(tag("dt", w), tag("dd", t)) for w, t in GLOSSARY.items())),
    }
    shown = {title: part for title, part in sections.items() if part}
    anchors = {title: title.lower().replace(" ", "-").replace("'", "") for title in shown}
    title = f"{TITLE}{name_of(run, summary)}"
    body = join(
        header(title, summary),
        tag("nav", *(tag("a", t, href=f"#{anchor}") for t, anchor in anchors.items())),
        *(tag("section", tag("h2", t), part, id=anchors[t]) for t, part in shown.items()),
    )
    return document(title, body)


def document(title: str, body: Html, more_style: str = "") -> Html:
    """A whole page in the report's style. It loads nothing and runs no code."""
    style = files("rlhf_lab.runs").joinpath("report.css").read_text(encoding="utf-8") + more_style
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=SECURITY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    )
    whole = tag("html", tag("head", head), tag("body", body), lang="en")
    return Html(f"<!doctype html>\n{whole}\n")


# ------------------------------------------------------------------------------ the sections


def name_of(run: RunFolder, summary: dict) -> str:
    """The task and the seed; the folder's name if the run was not evaluated."""
    if not summary.get("task"):
        return run.path.resolve().name
    return f"{str(summary['task']).replace('_', ' ')}, seed {summary.get('seed', 0)}"


def header(title: str, summary: dict) -> Html:
    """The verdict as headline and sentence, and the warnings."""
    headline, _, why = verdict(summary).replace(" %", "\u00a0%").partition(": ")
    return tag(
        "header",
        tag("p", title, class_="kicker"),
        tag("h1", headline),
        tag("p", why[:1].upper() + why[1:], class_="lead"),
        *(tag("p", text, class_="warning") for text in warnings(summary)),
    )


def judged(summary: dict) -> Html | None:
    """The judge's table, and the marks on each set of held-out prompts."""
    if not summary.get("models"):
        return None
    total = sum((summary.get("prompts") or {}).values())
    note = (
        f"Every model gave {summary.get('samples')} answers to each of {total} held-out prompts. "
        "Rubric items go from 0 to 1; small figures are 95\u00a0% intervals; a tie is "
        "half a win."
    )
    sets = table_by_set(summary)
    return join(
        tag("p", note),
        html_table(judge_table(summary), summary),
        html_table(sets, summary) if sets.rows else None,
    )


def pictures(summary: dict, metrics: list[dict]) -> Html | None:
    """Pictures of score, mark and KL over PPO, and of the marks of each model."""
    ppo = [r for r in metrics if r.get("stage") == "ppo"]
    watched = any(r.get("judge/mark") is not None for r in ppo)
    marked = any(row.get("mark") for row in (summary.get("models") or {}).values())
    parts = [
        figure(
            plots.reward_and_kl(ppo),
            "Score, judge's mark and KL over the updates of PPO",
            "PPO sees only the score. If the score keeps rising and the mark does not, the "
            "policy satisfies the reward model but not the judge.",
        )
        if ppo
        else None,
        figure(
            plots.marks_by_rubric(summary),
            "Mark and rubric of each model",
            "The judge's mean mark for each model, and the mean of each rubric item.",
        )
        if marked
        else None,
        figure(
            plots.score_against_mark(ppo),
            "The judge's mark over the score, update by update",
            "Each dot is one update. A path up and to the right is good; one that bends down "
            "shows over-optimisation.",
            "narrow",
        )
        if watched
        else None,
    ]
    return join(*parts) if any(parts) else None


def reward_model(summary: dict) -> Html | None:
    """How often the reward model orders two answers as the judge or the labellers do."""
    found = summary.get("reward_model") or {}
    rows = [
        (text, [cell(found[kind].get("accuracy"), 1, True), Cell(f"{found[kind]['pairs']:,}")])
        for kind, text in ACCURACY.items()
        if found.get(kind, {}).get("pairs")
    ]
    clear, labellers = found.get("clear") or {}, found.get("labellers") or {}
    if labellers.get("accuracy") is not None:
        rows.append(
            (
                "the labellers' own rankings, held out",
                [cell(labellers["accuracy"], 1, True), Cell("")],
            )
        )
    if not rows:
        return None
    notes = ["How often it orders two SFT answers to one held-out prompt as the judge does."]
    if clear.get("threshold") is not None and clear.get("share") is not None:
        notes.append(
            f"Clear pairs are {clear['threshold']:.2f} points apart or more, one standard "
            f"deviation of SFT's marks: {100 * clear['share']:.0f} % of all pairs."
        )
    if labellers.get("calibration") is not None:
        notes.append(
            f"On the labellers' rankings its calibration error is {labellers['calibration']:.3f}."
        )
    return join(html_table(Table(["", "accuracy", "pairs"], rows)), tag("p", " ".join(notes)))


def curves(metrics: list[dict]) -> Html | None:
    """Every curve as a separate picture, so that the page can arrange them by its width."""
    drawn = [(panel, plots.curve(panel, metrics)) for panel in panels_of(metrics)]
    return (
        tag(
            "div",
            *(figure(f, f"{p.title}, in {p.unit}, over the updates") for p, f in drawn),
            class_="curves",
        )
        if drawn
        else None
    )


def cost(summary: dict, logged: dict[str, float]) -> Html | None:
    """Seconds of each stage, and its memory if measured."""
    seconds = summary.get("seconds") or logged
    memory = summary.get("peak_memory_mb") or {}
    rows = [
        (STAGES.get(stage, stage), [cell(seconds.get(stage), 0), cell(memory.get(stage), 0)])
        for stage in dict.fromkeys([*STAGES, *seconds])
        if stage in seconds
    ]
    if not rows:
        return None
    rows.append(("all", [cell(sum(s or 0 for s in seconds.values()), 0), Cell("")]))
    head = ["", "seconds", "peak memory (MB)"]
    if not memory:
        head, rows = head[:2], [(label, cells[:1]) for label, cells in rows]
    return html_table(Table(head, rows))


def settings(config: dict) -> Html:
    """All settings, data and versions in config.json; of each path only the last name."""
    shown = flat(names_alone(config))
    entries = {name.removeprefix("settings."): value for name, value in shown.items()}
    rows = [tag("tr", tag("th", name, scope="row"), tag("td", v)) for name, v in entries.items()]
    return tag(
        "details",
        tag("summary", f"All {len(rows)} settings, data and versions"),
        tag("table", tag("tbody", *rows), class_="settings"),
    )


# ------------------------------------------------------------------------------ pieces


def html_table(table: Table, summary: dict | None = None) -> Html:
    """A table. If its columns are the models of a summary, give that too: they get their
    colours."""
    kinds = model_names(summary) if summary else [None] * len(table.head)
    head = [tag("th", table.head[0], scope="col")]
    head += [tag("th", text, scope="col", class_=k) for text, k in zip(table.head[1:], kinds)]
    rows = [
        tag(
            "tr",
            tag("th", label.strip(), scope="row", class_="sub" if label[:1] == " " else None),
            *(tag("td", c.estimate, c.unit, c.margin and tag("small", c.margin)) for c in cells),
        )
        for label, cells in table.rows
    ]
    body = join(tag("thead", tag("tr", *head)), tag("tbody", *rows))
    return tag("div", tag("table", body), class_="scroll")


def figure(drawn: plots.Picture, alt: str, caption: str = "", kind: str | None = None) -> Html:
    """A figure that is part of the page. alt: what it is about; what it shows is added."""
    below = tag("figcaption", caption) if caption else None
    image = picture(plots.to_bytes(drawn), f"{alt}. {drawn.alt}")
    return tag("figure", image, below, class_=kind)
