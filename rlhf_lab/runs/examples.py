"""Before and after: the answers of base, SFT and policy to the same prompts, side by side.

A fixed rule chooses the prompts, so that nobody can pick the ones that look good.
"""

from rlhf_lab.show.markup import Html, join, tag
from rlhf_lab.show.tables import MODELS

LONGEST = 2000  # characters of a text that are shown
FIRST, WORST = 10, 3  # examples: from the top of the main held-out set, and the policy's worst
COMPARED = ("base", "sft", "policy")


def examples(summary: dict, rows: list[dict]) -> Html | None:
    """The answers of base, SFT and policy to prompts that a fixed rule chooses.

    rows: those of samples.jsonl. None if there are no rows.
    """
    answers: dict[str, dict[str, dict]] = {}
    for row in rows:  # the first answer of each model to each prompt
        answers.setdefault(row["id"], {}).setdefault(row["model"], row)
    if not answers:
        return None
    first, worst = choose(summary, answers)
    rule = f"The first {len(first)} prompts of the main held-out set, and each model's first answer"
    cards = [example(answers[i]) for i in first]
    if worst:
        rule += (
            f"; then the {len(worst)} other prompts of that set on which the policy's was "
            "marked lowest"
        )
        cards.append(tag("h3", "Where the policy did worst"))
        cards += [example(answers[i]) for i in worst]
    return join(tag("p", rule + ". None was picked by hand."), *cards)


def choose(summary: dict, answers: dict[str, dict[str, dict]]) -> tuple[list[str], list[str]]:
    """The prompts to show: the first of the main held-out set, then those of the others where the
    policy's answer has the lowest mark (of equal marks, the earlier)."""
    main = list(answers)[: next(iter((summary.get("prompts") or {}).values()), None)]
    given = ((i, answers[i].get("policy", {}).get("mark")) for i in main[FIRST:])
    marks = {i: mark for i, mark in given if mark is not None}
    worst = sorted(marks, key=lambda i: marks[i])
    return main[:FIRST], worst[:WORST]


def example(answers: dict[str, dict]) -> Html:
    """One prompt with the answers to it, side by side."""
    prompt = next(iter(answers.values()))["prompt"]
    cards = [card(answers[m], MODELS[m], f"answer {m}") for m in COMPARED if m in answers]
    return tag("article", said(prompt, "prompt"), tag("div", *cards, class_="answers"))


def card(row: dict, name: str, kind: str) -> Html:
    """One model's answer with its mark and the judge's reasons, if there are any."""
    mark = row.get("mark")
    points = None if mark is None else tag("span", f"{mark:.1f} points", class_="mark")
    reasons = [tag("li", clipped(reason), dir="auto") for reason in row.get("reasons") or []]
    return tag(
        "div",
        tag("h4", name, points),
        said(row["response"]),
        tag("ul", *reasons) if reasons else None,
        class_=kind,
    )


def said(text: str, kind: str = "said") -> Html:
    """A person's or model's text: escaped, in its own writing direction, and cut if very long."""
    shown = clipped(text) if text.strip() else tag("em", "nothing")
    return tag("p", shown, class_=kind, dir="auto")


def clipped(text: str) -> Html:
    """The text; if it is long, its beginning and the number of characters left out."""
    cut = len(text) - LONGEST
    return join(text[:LONGEST], tag("em", f" … and {cut:,} more characters") if cut > 0 else None)
