"""The tensors of a rollout with their shapes: a small one, its numbers worked out with `maths`."""

import torch

from rlhf_lab import maths
from rlhf_lab.show.diagrams.shapes import INK, PANEL, PRICE, SCORE, arrow, rect, svg, text
from rlhf_lab.show.markup import Html, join, tag
from rlhf_lab.show.panels import GUIDE

WORDS = """\
A rollout of two responses, B = 2. The tokens are (B, T): the prompt, at most P = 5 tokens, then \
the response, at most N = 5, which ends with its end token; padding follows. The other tensors \
are (B, N), one number for each response token, 0 on padding: mask is 1 on real tokens; logprobs \
and ref_logprobs are of each token under the policy that drew it and under the reference; values \
are what the value network expects before each token. The scores are (B,), one for a response. \
In the rewards every real token is charged beta times the log-ratio, logprobs minus \
ref_logprobs, and the last real token, the end token, also gets the score: in the second row \
that is column 2 of (B, N), not the last one. From rewards and values gae makes the advantages, \
and returns are advantages plus values."""


PROMPTS = (("My", "lamp", "stays", "dark", "."), ("Open", "today", "?"))
RESPONSES = (("Try", "the", "other", "plug", "END"), ("Yes", ".", "END"))
BETA = 0.1
CELL, LINE = 62, 27  # width and height of a cell
LEFT, RIGHT = 28, 560  # where the two columns of tensors begin


def example() -> dict[str, torch.Tensor]:
    """The numbers of the diagram: two responses of 5 and 3 tokens with made-up log-probabilities,
    values and scores; rewards, advantages (before whitening) and returns by `maths`."""
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    logprobs = torch.tensor([[-0.4, -0.1, -0.9, -0.3, -0.2], [-0.5, -0.3, -0.1, 0, 0]])
    ref_logprobs = torch.tensor([[-0.8, -0.1, -1.9, -0.2, -0.4], [-0.4, -0.9, -0.3, 0, 0]])
    values = torch.tensor([[0.6, 0.7, 0.7, 1.1, 1.2], [0.3, 0.1, -0.4, 0, 0]])
    scores = torch.tensor([1.5, -0.8])
    rewards = maths.kl_rewards(scores, logprobs, ref_logprobs, mask, BETA)
    advantages, returns = maths.gae(rewards, values, mask, gamma=1.0, lam=0.95)
    return {
        "mask": mask,
        "logprobs": logprobs,
        "ref_logprobs": ref_logprobs,
        "values": values,
        "scores": scores,
        "rewards": rewards,
        "advantages": advantages,
        "returns": returns,
    }


def rollout_tensors() -> str:
    """The picture as SVG; WORDS say the same."""
    made = example()
    mask = made["mask"].bool()
    parts = [*_tokens(LEFT, 26), *_scores(made["scores"]), *_charges()]
    for x, y, name, what in (
        (LEFT, 190, "mask", "1 on real tokens, to the end token"),
        (LEFT, 284, "logprobs", "by the policy that drew them"),
        (LEFT, 378, "ref_logprobs", "by the reference"),
        (LEFT, 472, "values", "expected before each token"),
        (RIGHT, 190, "rewards", ""),
        (RIGHT, 346, "advantages", "by gae, before whitening"),
        (RIGHT, 472, "returns", "advantages + values"),
    ):
        parts += [_name(x, y, name, "(B, N)", what), _grid(x, y + 10, name, made[name], mask)]
    return svg("The tensors of a rollout", WORDS, 1000, 560, parts)


def _scores(scores: torch.Tensor) -> list[Html]:
    """The scores, and their way to the last real token of each row of the rewards."""
    x, y = RIGHT + 4 * CELL, 36
    middle, last = x + CELL / 2, RIGHT + 2.5 * CELL
    return [
        _name(RIGHT + 2 * CELL + 2, 26, "scores", "(B,)", "one a response", gap=104),
        *(_cell(x, y + LINE * row, "score", _number(s)) for row, s in enumerate(scores.tolist())),
        arrow((middle, y + 2 * LINE), (middle, 200), colour=SCORE),
        arrow(
            (x + CELL, y + 1.5 * LINE),
            (954, y + 1.5 * LINE),
            (954, 272),
            (last, 272),
            (last, 254),
            colour=SCORE,
        ),
        text(middle + 8, 170, "+ score", 14, "start", colour=SCORE, bold=True),
        text(882, 264, "+ score", 14, "start", colour=SCORE, bold=True),
    ]


def _charges() -> list[Html]:
    """The way of the log-ratios into the rewards, and the direction of gae."""
    x, end = LEFT + 5 * CELL, RIGHT + 5 * CELL
    charge = f"each real token: −beta × log-ratio (here beta = {BETA})"
    return [
        arrow((x, 415), (400, 415), (400, 227), (RIGHT, 227), colour=PRICE),
        tag("path", d=f"M{x} 321 H400", fill="none", stroke=PRICE, stroke_width=1.8),
        text(412, 290, "log-ratio =", 13, "start", colour=PRICE),
        text(412, 308, "logprobs", 13, "start", colour=PRICE),
        text(412, 326, "− ref_logprobs", 13, "start", colour=PRICE),
        text(RIGHT, 292, charge, 13, "start", colour=PRICE, bold=True),
        text(
            RIGHT, 310, "last real token: the same, + score", 13, "start", colour=SCORE, bold=True
        ),
        arrow((end, 422), (RIGHT, 422)),
        text(RIGHT + 2.5 * CELL, 440, "gae works from the last token back", 13, colour=GUIDE),
    ]


def _tokens(x: float, y: float) -> list[Html]:
    """The rows of tokens, prompts and then responses, with P, N and T below them."""
    P, N = len(PROMPTS[0]), len(RESPONSES[0])
    parts = [_name(x, y, "tokens", "(B, T)", "prompt, then response, then padding")]
    for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES)):
        words = [*prompt, *response] + [""] * (P + N - len(prompt) - len(response))
        for column, word in enumerate(words):
            kind = "prompt" if column < len(prompt) else "real" if word else "padding"
            parts.append(_cell(x + column * CELL, y + 10 + row * LINE, kind, word))
    for start, size, words in ((0, P, f"prompt, P = {P}"), (P, N, f"response, N = {N}")):
        a, b = x + start * CELL + 3, x + (start + size) * CELL - 3
        line = f"M{a} 96 v6 H{b} v-6"
        parts += [
            tag("path", d=line, fill="none", stroke=GUIDE),
            text((a + b) / 2, 118, words, 13, colour=GUIDE),
        ]
    heads = "T = P + N. Below, column 0 is the first response token of each row."
    return [*parts, text(x, 152, heads, 14, "start")]


def _grid(x: float, y: float, name: str, numbers: torch.Tensor, mask: torch.Tensor) -> Html:
    """The cells of a (B, N) tensor; those of the rewards that hold a score are shaded."""
    cells = []
    for row, (line, real) in enumerate(zip(numbers.tolist(), mask.tolist())):
        for column, number in enumerate(line):
            scored = name == "rewards" and column == sum(real) - 1
            kind = "score" if scored else "real" if real[column] else "padding"
            cells.append(_cell(x + column * CELL, y + row * LINE, kind, _number(number)))
    return join(*cells)


def _number(number: float) -> str:
    """Two decimals with a real minus sign; 0, and the whole numbers of the mask, without."""
    if isinstance(number, int) or number == 0:
        return f"{int(number)}"
    return f"{number:.2f}".replace("-", "−")


def _name(x: float, y: float, name: str, shape: str, what: str, gap: float = 168) -> Html:
    """A tensor's name and shape, and what it holds."""
    return join(
        text(x, y, f"{name} {shape}", 14, "start", bold=True),
        text(x + gap, y, what, 13, "start", colour=GUIDE) if what else None,
    )


def _cell(x: float, y: float, kind: str, word: str) -> Html:
    """One cell: of a prompt (grey), a real response token (thick frame), padding (dotted frame), or
    with a score in it (shaded)."""
    look = {
        "prompt": {"fill": PANEL, "stroke": GUIDE},
        "real": {"fill": "white", "stroke": INK, "stroke_width": 1.8},
        "score": {"fill": "#F6DFEA", "stroke": INK, "stroke_width": 1.8},
        "padding": {"fill": "white", "stroke": GUIDE, "stroke_dasharray": "2 3"},
    }[kind]
    bold = kind in ("real", "score")
    return join(
        rect(x, y, CELL, LINE, **look),
        text(x + CELL / 2, y + 19, word, 14, colour=INK if bold else GUIDE, bold=bold)
        if word
        else None,
    )
