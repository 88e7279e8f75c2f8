"""A whole task in under seventy lines: answer with the colour that is asked for."""

import re
from random import Random

from rlhf_lab.records import Demonstration, Mark, Prompt
from rlhf_lab.tasks.labellers import GENERAL, Labeller

COLOURS = ("red", "blue", "green", "grey", "pink", "gold")
THINGS = ("hat", "cup", "door", "boat", "lamp", "sock", "kite", "bell")
KEPT = [(c, t) for i, c in enumerate(COLOURS) for j, t in enumerate(THINGS) if (i + j) % 6 == 0]
USED = [(c, t) for c in COLOURS for t in THINGS if (c, t) not in KEPT]


class ColourTask:
    """ "Which colour has the red hat?" wants "It is red." (see `rlhf_lab.tasks.Task`)."""

    name = "colours"
    base = "base"
    longest_response = 12
    labellers = (
        Labeller("strict", {"right": 8.0, "short": 2.0}, noise=0.3),
        Labeller("hurried", {"right": 4.0, "short": 6.0}, per_word=-0.1, noise=0.6),
    )
    guidelines = GENERAL
    truth, manner = ("right",), ("short",)

    def prompt_of(self, message: str) -> str:
        return f"{message}\n"

    def raw_text(self, seed: int, count: int, late: bool = False) -> list[str]:
        rng = Random(f"raw/{seed}")
        return [f"{p.text} {_answer(rng, p, 0.5)}" for p in _draw(rng, USED, count, "raw")]

    def demonstrations(self, seed: int, count: int) -> list[Demonstration]:
        rng = Random(f"demonstrations/{seed}")
        return [Demonstration(p, _answer(rng, p, 0.8)) for p in _draw(rng, USED, count, "shown")]

    def prompts(self, seed: int, count: int) -> list[Prompt]:
        return _draw(Random(f"prompts/{seed}"), USED, count, "prompt")

    def held_out(self) -> dict[str, list[Prompt]]:
        return {"held-out": [_prompt(*pair, f"held-out-{i}") for i, pair in enumerate(KEPT)]}

    def judge(self, prompt: Prompt, response: str) -> Mark:
        said = [word for word in re.findall(r"[a-z]+", response.lower()) if word in COLOURS]
        right = float(said == [prompt.facts["colour"]])
        short = float(0 < len(response.split()) <= 4)
        reasons = () if right else (f"says {said or 'no colour'}, not {prompt.facts['colour']}",)
        return Mark(
            8 * right + 2 * short,
            {"right": right, "short": short},
            float(bool(said)),
            {"wrong colours": len(said) - int(right)},
            reasons,
        )


def _prompt(colour: str, thing: str, id: str) -> Prompt:
    return Prompt(id, f"Which colour has the {colour} {thing}?\n", {"colour": colour})


def _draw(rng: Random, pairs: list[tuple[str, str]], count: int, name: str) -> list[Prompt]:
    return [_prompt(*rng.choice(pairs), f"{name}-{i}") for i in range(count)]


def _answer(rng: Random, prompt: Prompt, care: float) -> str:
    colour = prompt.facts["colour"] if rng.random() < care else rng.choice(COLOURS)
    return rng.choice([f"It is {colour}.", f"It has the colour {colour}, I think."])
