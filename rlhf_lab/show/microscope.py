"""One real rollout, token by token: PPO's inputs for each token, and the numbers it computed.

A rollout is saved as it was sampled, together with the log-probabilities and values after one
update. `recompute` applies the formulas of `maths` again, with the run's settings or others: the
numbers that depend on the settings change, the tokens and the update that was made do not.

    rollout = load_rollout(shipped("rollout.safetensors"))
    token_table(rollout, row=0, numbers=recompute(rollout, lam=0.5))
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlhf_lab import maths
from rlhf_lab.errors import UserError
from rlhf_lab.sequences import Sequences
from rlhf_lab.show.markup import visible

if TYPE_CHECKING:
    from rlhf_lab.ppo import PPOConfig
    from rlhf_lab.rollout import Rollout

FORMAT = "rlhf_lab_rollout/1"
PER_TOKEN = ("logprobs", "ref_logprobs", "new_logprobs", "values", "new_values")
BLANKS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})
SEQUENCES = ("tokens", "attention", "mask", "starts")


@dataclass(frozen=True)
class Settings:
    """The settings of PPO that the numbers of a rollout depend on, as in PPOConfig."""

    beta: float = 0.05
    gamma: float = 1.0
    lam: float = 0.95
    epsilon: float = 0.2
    value_epsilon: float = 0.2
    no_end_penalty: float = 1.0
    whiten_rewards: bool = False


@dataclass(frozen=True)
class SavedRollout:
    """B responses and the models' numbers for their N tokens, before and after one update.

    prompts, texts: of each row. token_texts: the real tokens of each row as text, the end token
    included. sequences: the same as numbers. ended: (B,) bool. scores: (B,), the reward model's,
    before the no-end penalty. logprobs, ref_logprobs, values: (B, N), under the policy that
    sampled, the reference and the value network; new_logprobs, new_values: (B, N), after the
    update; all 0 on padding. settings: those of the run. metrics: the record of that update.
    """

    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    token_texts: tuple[tuple[str, ...], ...]
    sequences: Sequences
    ended: Tensor
    scores: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    new_logprobs: Tensor
    values: Tensor
    new_values: Tensor
    settings: Settings
    metrics: dict

    @property
    def mask(self) -> Tensor:
        return self.sequences.mask


@dataclass(frozen=True)
class Recomputed:
    """PPO's numbers for a rollout under some settings; (B, N) and 0 on padding.

    scores: (B,), after the no-end penalty. kl: the k1 estimate, in nats. advantages: whitened over
    the batch, as the loss uses them; raw_advantages: before that. ratio: 1 on padding. pull: how
    strongly the loss, after the update, still pushes each log-probability up (minus its gradient,
    times the number of tokens); clipped: True where the clip has removed this gradient. Losses: of
    the policy and the values after the update, means over tokens.
    """

    settings: Settings
    scores: Tensor
    kl: Tensor
    rewards: Tensor
    raw_advantages: Tensor
    advantages: Tensor
    returns: Tensor
    ratio: Tensor
    pull: Tensor
    clipped: Tensor
    policy_loss: float
    value_loss: float
    clip_share: float


def recompute(
    rollout: SavedRollout,
    beta: float | None = None,
    gamma: float | None = None,
    lam: float | None = None,
    epsilon: float | None = None,
) -> Recomputed:
    """PPO's numbers for this rollout; settings that are not given are those of the run."""
    given = {"beta": beta, "gamma": gamma, "lam": lam, "epsilon": epsilon}
    s = replace(rollout.settings, **{name: x for name, x in given.items() if x is not None})
    mask = rollout.mask
    scores = maths.no_end_penalty(rollout.scores, rollout.ended, s.no_end_penalty)
    rewards = maths.kl_rewards(scores, rollout.logprobs, rollout.ref_logprobs, mask, s.beta)
    if s.whiten_rewards:
        rewards = maths.whiten(rewards, mask, keep_mean=True)
    raw, returns = maths.gae(rewards, rollout.values, mask, s.gamma, s.lam)
    advantages = maths.whiten(raw, mask)
    new_logprobs = rollout.new_logprobs.clone().requires_grad_()
    old = rollout.logprobs, advantages, mask, s.epsilon
    policy_loss = maths.clipped_policy_loss(new_logprobs, *old)
    [gradient] = torch.autograd.grad(policy_loss, new_logprobs)
    value_loss = maths.clipped_value_loss(
        rollout.new_values, rollout.values, returns, mask, s.value_epsilon
    )
    pull = 0 - gradient * mask.sum()
    return Recomputed(
        settings=s,
        scores=scores,
        rewards=rewards,
        kl=maths.kl_k1(rollout.logprobs, rollout.ref_logprobs).where(mask, 0),
        raw_advantages=raw,
        advantages=advantages,
        returns=returns,
        ratio=(rollout.new_logprobs - rollout.logprobs).where(mask, 0).exp(),
        pull=pull,
        clipped=mask & (pull == 0) & (advantages != 0),
        policy_loss=policy_loss.item(),
        value_loss=float(value_loss),
        clip_share=float(maths.policy_metrics(new_logprobs, *old)["policy/clipfrac_avg"]),
    )


def token_table(rollout: SavedRollout, row: int, numbers: Recomputed | None = None) -> pd.DataFrame:
    """One line for each real token of a row: its text and all of its numbers.

    Raises UserError if there is no such row.
    """
    check_row(rollout, row)
    numbers = numbers or recompute(rollout)
    n = len(rollout.token_texts[row])
    columns = {
        "logprob": rollout.logprobs,
        "ref_logprob": rollout.ref_logprobs,
        "new_logprob": rollout.new_logprobs,
        "kl": numbers.kl,
        "reward": numbers.rewards,
        "value": rollout.values,
        "new_value": rollout.new_values,
        "return": numbers.returns,
        "raw_advantage": numbers.raw_advantages,
        "advantage": numbers.advantages,
        "ratio": numbers.ratio,
        "pull": numbers.pull,
        "clipped": numbers.clipped,
    }
    return pd.DataFrame(
        {"text": rollout.token_texts[row]}
        | {name: x[row, :n].numpy() for name, x in columns.items()}
    )


def check_row(rollout: SavedRollout, row: int) -> None:
    if type(row) is not int or not 0 <= row < len(rollout.texts):
        last = len(rollout.texts) - 1
        raise UserError(f"there is no row {row!r} in the rollout: choose a row from 0 to {last}")


def name_of(text: str) -> str:
    """A token's text on one line, with blanks and invisible characters written out."""
    return visible(text).translate(BLANKS)


def spread_by_score(rollout: SavedRollout, count: int = 12) -> list[int]:
    """`count` rows from the lowest to the highest score, evenly spaced in this order."""
    order = rollout.scores.argsort(stable=True)
    places = torch.linspace(0, len(order) - 1, min(count, len(order))).round().long()
    return order[places].tolist()


# ---- from a run, to a file -----------------------------------------------------------------------


def saved_rollout(
    rollout: "Rollout",
    config: "PPOConfig",
    tokenizer,
    new_logprobs: Tensor | None = None,
    new_values: Tensor | None = None,
    metrics: dict | None = None,
) -> SavedRollout:
    """A SavedRollout made from a rollout of `ppo.collect`.

    new_logprobs, new_values: (B, N), of the same tokens after the update (`response_logprobs`,
    `response_values`); if not given, those before the update are used, and every ratio is 1.
    metrics: the record that train_ppo yielded; its objective/beta is used if beta adapts.
    """
    mask, metrics = rollout.mask, metrics or {}
    settings = Settings(**{f.name: getattr(config, f.name) for f in fields(Settings)})
    settings = replace(settings, beta=metrics.get("objective/beta", settings.beta))

    def after(new: Tensor | None, old: Tensor) -> Tensor:
        return old if new is None else new.detach().cpu() * mask

    ids = [row[real].tolist() for row, real in zip(rollout.sequences.response_tokens, mask)]
    return SavedRollout(
        prompts=tuple(p.text for p in rollout.prompts),
        texts=tuple(rollout.texts),
        token_texts=tuple(token_texts(tokenizer, row) for row in ids),
        sequences=rollout.sequences,
        ended=rollout.ended,
        scores=rollout.scores,
        logprobs=rollout.logprobs,
        ref_logprobs=rollout.ref_logprobs,
        values=rollout.values,
        new_logprobs=after(new_logprobs, rollout.logprobs),
        new_values=after(new_values, rollout.values),
        settings=settings,
        metrics=metrics,
    )


def token_texts(tokenizer, ids: Sequence[int]) -> tuple[str, ...]:
    """The text that each token adds: together they are the decoded whole, special tokens included.

    A token that holds only a part of a character shows as the replacement character.
    """

    def decode(some: Sequence[int]) -> str:
        return tokenizer.decode(some, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    pieces, before = [], ""
    for t in range(len(ids)):
        whole = decode(ids[: t + 1])
        longer = whole.startswith(before) and len(whole) > len(before)
        pieces.append(whole[len(before) :] if longer else decode(ids[t : t + 1]))
        before = whole
    return tuple(pieces)


def save_rollout(rollout: SavedRollout, path: str | Path) -> None:
    """Write one safetensors file, with the texts and settings as JSON in its header."""
    words = {
        "format": FORMAT,
        "prompts": rollout.prompts,
        "texts": rollout.texts,
        "token_texts": rollout.token_texts,
        "settings": vars(rollout.settings),
        "metrics": rollout.metrics,
    }
    tensors = {name: getattr(rollout, name) for name in (*PER_TOKEN, "scores", "ended")}
    tensors |= {name: getattr(rollout.sequences, name) for name in SEQUENCES}
    small = {
        name: (x.int() if x.dtype == torch.long else x).contiguous() for name, x in tensors.items()
    }
    save_file(small, path, {"rollout": json.dumps(words)})


def load_rollout(path: str | Path) -> SavedRollout:
    """Read what `save_rollout` wrote.

    Raises UserError if the file does not exist or is not a saved rollout.
    """
    try:
        with safe_open(path, "pt") as file:
            words = json.loads((file.metadata() or {}).get("rollout", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"could not read a rollout from {path}: {error}") from error
    wanted = {*PER_TOKEN, *SEQUENCES, "scores", "ended"}
    if words.get("format") != FORMAT or set(tensors) != wanted:
        raise UserError(
            f"{path} is not a rollout that this version can read: write it again with save_rollout"
        )
    sequences = Sequences(
        tensors.pop("tokens").long(),
        tensors.pop("attention").long(),
        tensors.pop("mask"),
        tensors.pop("starts").long(),
    )
    return SavedRollout(
        prompts=tuple(words["prompts"]),
        texts=tuple(words["texts"]),
        token_texts=tuple(map(tuple, words["token_texts"])),
        sequences=sequences,
        settings=Settings(**words["settings"]),
        metrics=words["metrics"],
        **tensors,
    )
