"""A reward of the learner's own: try it before it trains, use it as a scorer.

    reward = written(my_reward, short_answers)            # a sample, until my_reward is written
    score = as_scorer(reward, respond(sft, tokenizer, prompts, seed=1))
    train_ppo(policy, score, tokenizer, prompts, config)

A reward is a function of two texts, the prompt and an answer to it, that returns a number.
"""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real

import torch

from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import Responses
from rlhf_lab.records import Prompt

Reward = Callable[[str, str], float]
# What a policy may write that SFT does not: a reward must give these a number, too.
ODD_ANSWERS = ("", " ", "...", "help " * 60)
SLOWEST = 0.05  # seconds for one answer: a run needs a thousand
POLITE = ("please", "thank", "sorry", "happy", "help", "welcome")
STEPS = (
    "press",
    "hold",
    "open",
    "switch",
    "tighten",
    "download",
    "send",
    "enter",
    "choose",
    "use ",
)


# ---- two samples ---------------------------------------------------------------------------------


def short_answers(prompt: str, text: str) -> float:
    """The shorter, the better."""
    return -len(text.split())


def short_with_everything(prompt: str, text: str) -> float:
    """Short and polite, names the product and a step."""
    words = text.lower()
    polite = any(word in words for word in POLITE)
    step = any(word in words for word in STEPS)
    product = any(name in text for name in re.findall(r"\b[A-Z][a-z]+\b", prompt)[2:])
    return polite + step + product - len(text.split()) / 10


def written(reward: Reward, sample: Reward, say: Callable[[str], None] = print) -> Reward:
    """The learner's reward, or the sample if it still raises NotImplementedError; says which."""
    try:
        reward("Customer: Hello?\nAgent:", "Hello.")
    except NotImplementedError:
        say(f"{name_of(reward)} is not written yet: a sample takes its place ({title_of(sample)})")
        return sample
    except Exception:  # `as_scorer` says what is wrong
        pass
    say(f"this is your own reward: {title_of(reward)}")
    return reward


def name_of(reward: Reward) -> str:
    """A function's name."""
    return getattr(reward, "__name__", "your reward")


def title_of(reward: Reward) -> str:
    """What a reward calls itself: the first line of its docstring (50 characters), or its name."""
    lines = (reward.__doc__ or "").strip().splitlines()
    return (lines[0].strip() if lines else name_of(reward))[:50]


# ---- from a reward to a scorer -------------------------------------------------------------------


@dataclass(frozen=True)
class OwnScorer:
    """A reward as a scorer of PPO: in standard deviations of the SFT policy's rewards, so that beta
    means what it means with a learned reward model. mean, sd: of those rewards."""

    reward: Reward
    mean: float
    sd: float

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """The scores. Raises UserError if the reward fails for one of these answers."""
        return [
            (number_of(self.reward, p.text, text) - self.mean) / self.sd
            for p, text in zip(prompts, texts)
        ]


def as_scorer(reward: Reward, answers: Responses) -> OwnScorer:
    """Try a reward on the SFT policy's answers and on a few odd ones, and make a scorer of it.

    Raises UserError, in plain words, if the reward stops, returns anything but a finite number, is
    too slow, changes its mind when asked again, or is the same for every answer.
    """
    if not callable(reward):
        raise UserError(f"give the function itself, without brackets, and not {reward!r}")
    rows = [(p.text, text) for p, row in zip(answers.prompts, answers.texts) for text in row]
    began, found = time.perf_counter(), []
    for done, (prompt, text) in enumerate(rows, 1):
        found.append(number_of(reward, prompt, text))
        each = (time.perf_counter() - began) / done
        if done >= 3 and each > SLOWEST:
            raise UserError(
                f"{name_of(reward)} takes {each:.2f} seconds for one answer, and a run asks for a "
                f"thousand: make it faster than {SLOWEST} seconds"
            )
    for text in ODD_ANSWERS:
        number_of(reward, rows[0][0], text)
    if number_of(reward, *rows[0]) != found[0]:
        raise UserError(
            f"{name_of(reward)} gave two different numbers for the same answer: use no "
            "random numbers, and keep nothing from one call to the next"
        )
    rewards = torch.tensor(found, dtype=torch.float64)
    if rewards.std() == 0:
        raise UserError(
            f"{name_of(reward)} gives {found[0]:g} to every one of {len(rows)} answers of the SFT "
            "policy: where no answer is better than another, there is nothing to learn"
        )
    return OwnScorer(reward, float(rewards.mean()), float(rewards.std()))


def number_of(reward: Reward, prompt: str, text: str) -> float:
    """A reward as a float; True counts as 1. Raises UserError if it is not one finite number."""
    shown = f"for the answer {text[:80]!r}"
    try:
        value = reward(prompt, text)
    except Exception as error:  # whatever a learner's code may raise
        raise UserError(
            f"{name_of(reward)} stopped {shown} with {type(error).__name__}: {error}. It must "
            "give every answer a number, an empty one too"
        ) from error
    if hasattr(value, "item"):  # of torch or numpy
        with suppress(ValueError, RuntimeError):  # more than one number
            value = value.item()
    if not isinstance(value, Real):
        hint = ": is a return missing?" if value is None else ": return one number"
        raise UserError(f"{name_of(reward)} returned {value!r} {shown}{hint}"[:400])
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if not abs(number) < 1e9:  # nan, too
        raise UserError(
            f"{name_of(reward)} returned {number:g} {shown}: return a finite number (below a "
            "billion)"
        )
    return number
