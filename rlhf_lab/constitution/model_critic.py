"""A language model as the critic, in place of the checkers.

It reads a rule, the prompt and the response, and is asked whether the rule is broken.
The answer is read off the logits of the next token: the log-odds of "yes" against "no" (Bai et al.
2022 and Lee et al. 2023 read preferences off a model in this way, for two responses at a time).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlhf_lab.checks import check_model
from rlhf_lab.constitution.checkers import Finding, asker
from rlhf_lab.constitution.rules import Rule
from rlhf_lab.engine.trial import context_of
from rlhf_lab.errors import UserError
from rlhf_lab.models import evaluating, load_policy, load_tokenizer
from rlhf_lab.text import encode_prompt, pad_left, position_ids

BEFORE = "A rule for people who answer {asker}s: {rule}\n\n"
AFTER = "\n\nDoes the last reply break the rule? Answer yes or no.\nAnswer:"
WORDS = (" Yes", " No"), (" yes", " no"), ("Yes", "No"), ("yes", "no")


class ModelCritic:
    """Any causal language model as a critic: `critique(prompt, response, rules, ModelCritic(...))`.

    kept is the model's probability of "no" against "yes"; a rule counts as broken if that is below
    a half. The critic quotes nothing, so its revisions remove no sentences. A model of a few
    million parameters is too small for this: its verdicts mean nothing.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 32
    ):
        """Raises UserError if the tokenizer has no single token for yes and for no."""
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.yes, self.no = answer_tokens(tokenizer)

    @classmethod
    def load(cls, path_or_id: str | Path, device: str = "cpu") -> "ModelCritic":
        """The critic in a folder or of a hub id. Raises UserError if there is no such model, or if
        padding changes what it says."""
        model, tokenizer = load_policy(path_or_id, device), load_tokenizer(path_or_id)
        check_model(model, tokenizer)
        return cls(model, tokenizer)

    def __call__(
        self, rule: Rule, prompts: Sequence[str], responses: Sequence[str]
    ) -> list[Finding]:
        """What the model says of each response (see `critique.Critic`)."""
        return [_finding(odds) for odds in self.log_odds(rule, prompts, responses)]

    def log_odds(self, rule: Rule, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        """log P(yes) - log P(no) that each response breaks the rule, in nats. Each is read alone,
        so neither their order nor the batch size matters."""
        rows = [
            self.question(rule, prompt, response)
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        odds = [0.0] * len(rows)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            for i, value in zip(batch, self._read([rows[i] for i in batch])):
                odds[i] = value
        return odds

    def question(self, rule: Rule, prompt: str, response: str) -> list[int]:
        """The tokens that the model reads. If they are too many for it, the beginning of the prompt
        is cut off, never the response. Raises UserError if that is not enough."""
        gap = "" if prompt[-1:].isspace() or response[:1].isspace() else " "
        before = encode_prompt(self.tokenizer, BEFORE.format(asker=asker(prompt), rule=rule.says))
        pieces = [
            self.tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
            for text in (prompt, gap + response, AFTER)
        ]
        context = context_of(self.model)
        needed = len(before) + len(pieces[1]) + len(pieces[2])
        if context and needed > context:
            raise UserError(
                f"rule {rule.name!r} with a response of {len(pieces[1])} tokens needs "
                f"{needed} tokens, but the critic reads {context}: use a model that reads more"
            )
        if context:
            pieces[0] = pieces[0][max(0, needed + len(pieces[0]) - context) :]
        return [*before, *(token for piece in pieces for token in piece)]

    @torch.no_grad()
    def _read(self, rows: list[list[int]]) -> list[float]:
        """The log-odds after each row of tokens."""
        pad = self.tokenizer.pad_token_id
        tokens, attention = pad_left(rows, self.tokenizer.eos_token_id if pad is None else pad)
        attention = attention.to(self.model.device)
        with evaluating(self.model):
            logits = (
                self.model(
                    input_ids=tokens.to(self.model.device),
                    attention_mask=attention,
                    position_ids=position_ids(attention),
                    use_cache=False,
                    logits_to_keep=1,
                )
                .logits[:, -1]
                .float()
            )  # (B, V)
        return (logits[:, self.yes] - logits[:, self.no]).tolist()  # the softmax's sum cancels


def answer_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The tokens for yes and no after the question: the first pair, with a capital or without, that
    the tokenizer has as one token each. Raises UserError if it has none."""
    for pair in WORDS:
        yes, no = (_one_more(tokenizer, word) for word in pair)
        if yes is not None and no is not None and yes != no:
            return yes, no
    raise UserError(
        "the critic's tokenizer has no single token for yes and for no: use a model "
        "with a larger vocabulary"
    )


def _one_more(tokenizer: PreTrainedTokenizerBase, word: str) -> int | None:
    """The one token that the word adds after the question, or None if it is not one."""
    question, answered = (
        tokenizer.encode(text, add_special_tokens=False) for text in (AFTER, AFTER + word)
    )
    return answered[-1] if answered[:-1] == question else None


def _finding(odds: float) -> Finding:
    kept = 1 / (1 + torch.tensor(odds, dtype=torch.float64).exp().item())
    return Finding(kept, (), f"the critic says yes, by {odds:.2f} nats" if odds > 0 else "")
