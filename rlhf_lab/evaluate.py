"""Judge the outcome: marks by rubric, win rate, best-of-n, distinct responses, KL, length.

Intervals are clustered by prompt: several responses to one prompt are not independent, so each
prompt counts once, with the mean of its responses (95 %, normal or bootstrap over prompts).
"""

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab import maths
from rlhf_lab.checks import check_model
from rlhf_lab.errors import UserError
from rlhf_lab.feedback.pairs import comparisons
from rlhf_lab.intervals import Interval, share_interval
from rlhf_lab.models import Ensemble, ScalarModel
from rlhf_lab.records import Mark, Prompt, Ranking
from rlhf_lab.reward import score_texts
from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.sequences import Sequences, in_batches, response_logits, response_scores, scatter
from rlhf_lab.text import encode_prompt
from rlhf_lab.training import seed_of

Judge = Callable[[Prompt, str], Mark]


@dataclass
class Responses:
    """Responses of one model: S for each of P prompts, prompt by prompt."""

    prompts: list[Prompt]
    texts: list[list[str]]  # (P, S)
    sequences: Sequences  # P * S rows
    ended: Tensor  # (P, S)
    marks: list[list[Mark]] | None = None

    @property
    def per_prompt(self) -> int:
        return len(self.texts[0])

    @property
    def judged(self) -> list[list[Mark]]:
        """The marks. Raises ValueError if no judge gave any."""
        if self.marks is None:
            raise ValueError("there are no marks: give `respond` a judge")
        return self.marks

    def mark_table(self) -> Tensor:
        """The marks, (P, S)."""
        return torch.tensor([[m.mark for m in row] for row in self.judged])

    def rubric_table(self, item: str) -> Tensor:
        """One item of the rubric, (P, S)."""
        return torch.tensor([[m.rubric[item] for m in row] for row in self.judged])

    def flaw_table(self, flaw: str) -> Tensor:
        """1 where a response has the flaw, (P, S)."""
        return torch.tensor([[float(m.flaws.get(flaw, 0) > 0) for m in row] for row in self.judged])

    def prompts_in(self, span: slice) -> "Responses":
        """The responses to some of the prompts."""
        rows = torch.arange(len(self.prompts) * self.per_prompt).view(-1, self.per_prompt)[span]
        return Responses(
            self.prompts[span],
            self.texts[span],
            self.sequences.rows(rows.flatten()),
            self.ended[span],
            self.marks and self.marks[span],
        )

    def pick(self, choice: Tensor) -> "Responses":
        """One response to each prompt; choice (P,) has their indices."""
        rows = torch.arange(len(self.prompts)) * self.per_prompt + choice
        pick = lambda table: [[row[i]] for row, i in zip(table, choice.tolist())]  # noqa: E731
        return Responses(
            self.prompts,
            pick(self.texts),
            self.sequences.rows(rows),
            self.ended.gather(1, choice[:, None]),
            self.marks and pick(self.marks),
        )


def respond(
    policy: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    per_prompt: int = 1,
    seed: int = 0,
    judge: Judge | None = None,
    config: SamplingConfig = SamplingConfig(),
    batch_size: int = 128,
) -> Responses:
    """Sample `per_prompt` responses to each prompt, and mark them if there is a judge.

    The seeds depend on the prompt and the number of the response, so two models that answer the
    same prompts with the same seed share their random numbers. Raises UserError if per_prompt is
    below 1.
    """
    if per_prompt < 1:
        raise UserError(f"{per_prompt} responses to each prompt: ask for 1 or more")
    check_model(policy, tokenizer)
    rows = [(p, s) for p in prompts for s in range(per_prompt)]
    samples = sample(
        policy,
        tokenizer,
        [encode_prompt(tokenizer, p.text) for p, _ in rows],
        [seed_of("answer", seed, p.id, p.text, s) for p, s in rows],
        config,
        batch_size,
    )
    flat = samples.texts(tokenizer)
    texts = [flat[i : i + per_prompt] for i in range(0, len(flat), per_prompt)]
    marks = judge and [[judge(p, t) for t in row] for p, row in zip(prompts, texts)]
    return Responses(
        list(prompts),
        texts,
        Sequences.of_samples(samples, tokenizer.pad_token_id),
        samples.ended.view(-1, per_prompt),
        marks,
    )


answer, Answers = respond, Responses  # their names until 0.2.0, kept for one release


def scores_of(reward_model: ScalarModel | Ensemble, answers: Responses) -> Tensor:
    """The reward model's scores, (P, S)."""
    return in_batches(response_scores, reward_model, answers.sequences).view(-1, answers.per_prompt)


def best_of_n(answers: Responses, scores: Tensor, n: int) -> Responses:
    """For each prompt, the response among its first n that the reward model scores highest."""
    return answers.pick(scores[:, :n].argmax(1))


def sequence_kl(
    policy: PreTrainedModel,
    reference: PreTrainedModel,
    answers: Responses,
    temperature: float = 1.0,
    max_tokens: int = 3072,
) -> Tensor:
    """KL(policy || reference) over the whole vocabulary at every token, summed, (P, S), in nats."""

    def kl(model: PreTrainedModel, batch: Sequences) -> Tensor:
        ours, theirs = (
            response_logits(m, batch.to(m.device)).to(batch.mask.device) for m in (model, reference)
        )
        return scatter(maths.kl(ours, theirs, temperature), batch.mask).sum(1)

    return in_batches(kl, policy, answers.sequences, max_tokens).view(-1, answers.per_prompt)


def distinct_share(texts: Sequence[Sequence[str]], hide: Callable[[str], str] = str.strip) -> float:
    """The mean share of different responses among those of a prompt; `hide` masks words that differ
    between prompts anyway, such as a name."""
    return statistics.fmean(len({hide(t) for t in row}) / len(row) for row in texts)


def mask_words(prompt_words: Sequence[str]) -> Callable[[str], str]:
    """A `hide` that replaces each of these words by an underscore; the list may be empty."""
    if not prompt_words:
        return str.strip
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, prompt_words)) + r")\b")
    return lambda text: pattern.sub("_", text.strip())


# ------------------------------------------------------------------------------ intervals


def win_rate(marks: Tensor, rival: Tensor) -> Interval:
    """How often a response beats the rival's to the same prompt, ties half: (P, S), (P, R).

    Every response is compared with every one of the rival's to the same prompt. The interval is
    `share_interval`, over prompts: it has a width even if all of 40 prompts are won.
    """
    difference = marks[:, :, None] - rival[:, None, :]
    wins = (difference.sign() + 1) / 2
    return share_interval(wins.flatten(1).mean(1))


# ------------------------------------------------------------------------------ the reward model


def reward_accuracy(
    answers: Responses,
    scores: Tensor,
    truth: Sequence[str] = (),
    manner: Sequence[str] = (),
    clear: float | None = None,
) -> dict:
    """How often the reward model orders two responses to a prompt as the judge does.

    truth, manner: the rubric items for whether a response is right, and for how it is expressed
    (a task's `truth` and `manner`). all: every pair whose marks differ; clear: pairs whose marks
    differ by one standard deviation or more (or by `clear`), and their share of all pairs;
    correctness: pairs of equal manner that differ in truth by half or more; style: pairs that
    differ in manner and in no other item. Returns {"accuracy", "interval", "pairs"} for each; equal
    scores count half. The 95 % interval is over prompts, as pairs of one prompt are not
    independent.
    """
    marks = answers.mark_table()
    clear = clear if clear is not None else max(float(marks.std()), 1e-6)
    better = marks[:, :, None] - marks[:, None, :]
    margin = scores[:, :, None] - scores[:, None, :]
    substance = [item for item in answers.judged[0][0].rubric if item not in manner]
    other_truth, other_manner = _differs(answers, truth, by=0.5), _differs(answers, manner)
    kinds = {
        "all": better > 0,
        "clear": better >= clear,
        "correctness": (better > 0) & other_truth & ~other_manner,
        "style": (better > 0) & other_manner & ~_differs(answers, substance),
    }
    result = {name: _accuracy(margin, pairs) for name, pairs in kinds.items()}
    S = marks.shape[1]
    result["clear"] |= {
        "threshold": clear,
        "share": result["clear"]["pairs"] / max(1, len(marks) * S * (S - 1) / 2),
    }
    return result


def ranking_accuracy(
    reward_model: ScalarModel, tokenizer: PreTrainedTokenizerBase, rankings: Sequence[Ranking]
) -> Interval:
    """The share of the comparisons in these rankings that the reward model orders as people did,
    with a 95 % interval by bootstrap over prompts. Equal scores count half; people's ties are left
    out."""
    written = list(dict.fromkeys(each for r in rankings for each in r.written()))
    found = score_texts(reward_model, tokenizer, written).tolist()
    scores = {(prompt, text): score for (prompt, text, _), score in zip(written, found)}
    right: dict[str, float] = defaultdict(float)
    pairs: Counter[str] = Counter()
    for ranking in rankings:
        prompt = ranking.prompt.text
        for (a, b), sign in comparisons(ranking).items():  # 1: a before b, -1: b before a, 0: a tie
            ahead = sign * (scores[prompt, a] - scores[prompt, b])
            right[prompt] += abs(sign) * ((ahead > 0) + (ahead >= 0)) / 2
            pairs[prompt] += abs(sign)
    return share_interval(list(right.values()), list(pairs.values()))


def _accuracy(margin: Tensor, pairs: Tensor) -> dict:
    """The share of these pairs that are ordered correctly; both (P, S, S)."""
    right = (pairs * (margin.sign() + 1) / 2).flatten(1).sum(1)
    counts = pairs.flatten(1).sum(1)
    share, low, high = share_interval(right.numpy(), counts.numpy())
    return {"accuracy": float(share), "interval": [low, high], "pairs": int(counts.sum())}


def _differs(answers: Responses, items: Sequence[str], by: float = 1e-6) -> Tensor:
    """Pairs (P, S, S) whose rubric differs in any of these items, by that much or more."""
    none = torch.zeros(answers.ended.shape)
    tables = torch.stack([answers.rubric_table(i) for i in items] or [none])
    return ((tables[:, :, :, None] - tables[:, :, None, :]).abs() >= by).any(0)
