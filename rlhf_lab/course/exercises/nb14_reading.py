"""Exercises of notebook 14, first part: draw a batch, and read what the models say about it.

Each is tried on the models of tiny_models.py. A name such as config.temperature in a case is that
setting of the PPOConfig that the step is given.
"""

from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from rlhf_lab.course import tiny_models as tiny
from rlhf_lab.course.exercises.exercise import Case, Exercise, Inputs, WrongForm, mistake
from rlhf_lab.course.exercises.wording import kind_of
from rlhf_lab.models import ScalarModel
from rlhf_lab.ppo import PPOConfig
from rlhf_lab.records import Prompt
from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.sequences import (
    Sequences,
    plain_logits,
    response_logprobs,
    response_scores,
    response_values,
)
from rlhf_lab.text import encode_prompt


def parts_of(answer: Any, *names: str) -> tuple:
    """The things that a step returns. Raises WrongForm unless they are as many as the names."""
    if isinstance(answer, (tuple, list)) and len(answer) == len(names):
        return tuple(answer)
    if answer is None:
        raise WrongForm("Your function returns nothing: does it end with a return?")
    raise WrongForm(
        f"Return {len(names)} things, {', '.join(names[:-1])} and {names[-1]}, in this order; you "
        f"return {kind_of(answer)}."
    )


# ---- draw a batch --------------------------------------------------------------------------------


def draw(
    policy,
    tokenizer,
    prompts: list[Prompt],
    seeds: list[int],
    config: PPOConfig,
    *,
    settings: Callable[[PPOConfig], dict] = lambda config: {"temperature": config.temperature},
    longest: Callable[[PPOConfig], dict] = lambda config: {"max_new_tokens": config.max_new_tokens},
    seeds_are: Callable[[list[int]], list[int]] = list,
    left_padding: str = "taken out",
    logprobs_are: str = "the sampler's",
    mask_is: str = "with the end",
    ended_is: str = "ended",
    text_of: str = "the response",
) -> tuple[Sequences, Tensor, Tensor, list[str]]:
    """One response to each prompt: sequences, logprobs (B, N), ended (B,), texts."""
    encoded = [encode_prompt(tokenizer, prompt.text) for prompt in prompts]
    sampling = SamplingConfig(**settings(config), **longest(config))
    samples = sample(policy, tokenizer, encoded, seeds_are(seeds), sampling)
    sequences = Sequences.of_samples(samples, tokenizer.pad_token_id)
    logprobs, mask = samples.logprobs, sequences.mask
    if logprobs_are != "the sampler's":
        with torch.no_grad():
            logprobs = response_logprobs(policy, sequences)[0]
    if left_padding == "left in":
        starts = samples.attention[:, : samples.prompt_length].sum(1)
        sequences = Sequences(samples.tokens, samples.attention, mask, starts)
    if mask_is == "without the end":
        last = mask.cumsum(1) == mask.sum(1, keepdim=True)
        mask = mask & ~(last & samples.ended[:, None])
        sequences = Sequences(sequences.tokens, sequences.attention, mask, sequences.starts)
    ended = {
        "ended": samples.ended,
        "not ended": ~samples.ended,
        "shorter": mask.sum(1) < config.max_new_tokens,
        "all": torch.ones_like(samples.ended),
    }[ended_is]
    texts = {
        "the response": lambda: samples.texts(tokenizer),
        "the whole row": lambda: tokenizer.batch_decode(samples.tokens, skip_special_tokens=True),
        "with special tokens": lambda: tokenizer.batch_decode(
            samples.tokens[:, samples.prompt_length :]
        ),
    }[text_of]()
    return sequences, logprobs, ended, texts


def try_draw(function: Callable) -> Callable:
    """`draw` as a function of prompts, seeds, temperature and max_new_tokens."""

    def tried(prompts, seeds, temperature, max_new_tokens, /, **switches) -> tuple[Tensor, ...]:
        config = PPOConfig(temperature=temperature, max_new_tokens=max_new_tokens)
        asked = [Prompt(str(i), text) for i, text in enumerate(prompts)]
        given = tiny.policy(), tiny.tokenizer(), asked, list(seeds), config
        answer = function(*given, **switches)
        sequences, logprobs, ended, texts = parts_of(
            answer, "sequences", "logprobs", "ended", "texts"
        )
        if not isinstance(sequences, Sequences):
            raise WrongForm(
                f"The first thing you return is {kind_of(sequences)}; it should be "
                "Sequences.of_samples(samples, tokenizer.pad_token_id)."
            )
        letters = torch.tensor([len(text) for text in texts])
        words = sequences.response_tokens.masked_fill(~sequences.mask.bool(), 0)
        return words, sequences.mask, logprobs, ended, letters

    return tried


def _draw_case(name: str, prompts, seeds, temperature: float, max_new_tokens: int) -> Case:
    return Case(
        name,
        {
            "prompts": prompts,
            "seeds": seeds,
            "config.temperature": temperature,
            "config.max_new_tokens": max_new_tokens,
        },
    )


def _some_prompts(dice: Random) -> Inputs:
    prompts = tuple(tiny.sentence(dice, 1, 4) for _ in range(3))
    seeds = tuple(dice.sample(range(100), len(prompts)))
    return _draw_case("", prompts, seeds, dice.choice((0.6, 0.8, 1.4, 1.7)), 6).inputs


DRAW = Exercise(
    "draw",
    try_draw(draw),
    cases=(
        _draw_case("one prompt", ("please help",), (11,), 1.3, 9),
        _draw_case(
            "prompts of different lengths",
            ("help", "my phone is hot", "is this hot please"),
            (3, 4, 7),
            0.7,
            7,
        ),
        _draw_case(
            "responses that end and others that are cut off",
            ("try this", "help my phone", "thanks", "no"),
            (0, 5, 1, 2),
            2.0,
            5,
        ),
    ),
    mistakes=(
        mistake(
            "It looks as if the sampler did not get the temperature: give SamplingConfig "
            "config.temperature, or the ratios are not 1 at the first step.",
            settings=lambda config: {},
        ),
        mistake(
            "It looks as if the sampler divides by 1 / temperature: give it config.temperature "
            "itself.",
            settings=lambda config: {"temperature": 1 / config.temperature},
        ),
        mistake(
            "It looks as if always the likeliest token was taken (top_k=1): PPO needs samples "
            "of the whole distribution, or there is nothing to compare.",
            settings=lambda config: {"temperature": config.temperature, "top_k": 1},
        ),
        mistake(
            "It looks as if the sampler did not get config.max_new_tokens: its own default is 64.",
            longest=lambda config: {},
        ),
        mistake(
            "It looks as if every response was drawn from the first seed: give the sampler the "
            "whole list, one seed for each response.",
            seeds_are=lambda seeds: [seeds[0]] * len(seeds),
        ),
        mistake(
            "It looks as if the responses were drawn from seeds 0, 1, 2 and so on: use the "
            "argument seeds, or every update draws with the same random numbers.",
            seeds_are=lambda seeds: list(range(len(seeds))),
        ),
        mistake(
            "It looks as if the sampler's tokens were taken as they are, padded on the left: "
            "Sequences.of_samples takes that padding out.",
            left_padding="left in",
        ),
        mistake(
            "It looks as if the log-probabilities were computed again, without the temperature. "
            "Take those that the sampler returns, samples.logprobs.",
            logprobs_are="again",
        ),
        mistake(
            "It looks as if the end token is left out of the mask. It is a token that the policy "
            "chose, and the score stands on it: samples.mask holds it.",
            mask_is="without the end",
        ),
        mistake(
            "ended looks inverted: it is True for a response that drew its end token.",
            ended_is="not ended",
        ),
        mistake(
            "It looks as if ended is True for every response: samples.ended says which of them "
            "drew an end token.",
            ended_is="all",
        ),
        mistake(
            "It looks as if a text holds its prompt too: the judge reads the response alone, "
            "samples.texts(tokenizer).",
            text_of="the whole row",
        ),
        mistake(
            "It looks as if a text holds the end token or padding: samples.texts(tokenizer) "
            "leaves them out.",
            text_of="with special tokens",
        ),
    ),
    use="Sampler and training now see the same tokens, from the same distribution.",
    outputs=("tokens", "mask", "logprobs", "ended", "letters of each text"),
    trial=try_draw,
    instead=("collect", "roll_out", "respond"),
    draw=_some_prompts,
)


# ---- log-probabilities ---------------------------------------------------------------------------


def token_logprobs(
    model,
    sequences: Sequences,
    temperature: float,
    *,
    shift: int = -1,
    first: str = "of the response",
    scaled: Callable[[Tensor, float], Tensor] = lambda logits, temperature: logits / temperature,
    logarithm: Callable[[Tensor], Tensor] = lambda logits: logits.log_softmax(-1),
    afterwards: Callable[[Tensor, float], Tensor] = lambda logprobs, temperature: logprobs,
    clean: bool = True,
    attached: bool = True,
) -> Tensor:
    """Log-probability of each response token, (B, N), 0 on padding."""
    logits = scaled(plain_logits(model, sequences), temperature)  # (B, T, V)
    columns, N = sequences.columns, sequences.mask.shape[1]
    columns = columns if first == "of the response" else torch.arange(N).expand_as(columns)
    tokens = sequences.tokens.gather(1, columns)
    at = (columns + shift).clamp(0, logits.shape[1] - 1)
    rows = logits.gather(1, at[..., None].expand(-1, -1, logits.shape[-1]))  # (B, N, V)
    logprobs = logarithm(rows).gather(-1, tokens[..., None]).squeeze(-1)
    logprobs = afterwards(logprobs, temperature)
    logprobs = logprobs.masked_fill(~sequences.mask, 0) if clean else logprobs
    return logprobs if attached else logprobs.detach()


def try_token_logprobs(function: Callable) -> Callable:
    """`token_logprobs` as a function of prompts, responses and temperature; its result, and the
    gradient of its sum with respect to the bias of the model's last layer norm."""

    def tried(written, temperature, /, **switches) -> tuple[Tensor, Tensor] | Any:
        model, rows = tiny.policy(), Sequences.of_text(tiny.tokenizer(), written)
        answer = function(model, rows, temperature, **switches)
        if not isinstance(answer, Tensor):
            raise WrongForm(
                f"Your function returns {kind_of(answer)}; it should be a tensor of shape "
                f"{tuple(rows.mask.shape)}."
            )
        return answer, gradient_of(answer.sum(), model.transformer.ln_f.bias)

    return tried


def gradient_of(total: Tensor, weight: Tensor) -> Tensor:
    """d total / d weight, all 0 if nothing leads from one to the other."""
    if not total.requires_grad:
        return torch.zeros_like(weight)
    found = torch.autograd.grad(total, weight, allow_unused=True, retain_graph=True)[0]
    return torch.zeros_like(weight) if found is None else found


def _some_rows(dice: Random) -> Inputs:
    return {"written": tiny.written(dice), "temperature": dice.choice((0.6, 0.8, 1.4, 1.7))}


TOKEN_LOGPROBS = Exercise(
    "token_logprobs",
    try_token_logprobs(token_logprobs),
    cases=(
        Case("one row", {"written": tiny.WRITTEN[:1], "temperature": 1.0}),
        Case("rows of different lengths", {"written": tiny.WRITTEN, "temperature": 0.7}),
        Case("a high temperature", {"written": tiny.WRITTEN[1:3], "temperature": 2.0}),
    ),
    mistakes=(
        mistake(
            "It looks as if each token's logits are read at its own position. A model at "
            "position t predicts the token *after* t: read them at position t - 1.",
            shift=0,
        ),
        mistake(
            "It looks as if the logits are read two positions before the token: position t - 1 "
            "predicts token t.",
            shift=-2,
        ),
        mistake(
            "It looks as if the columns are counted from the beginning of the row, where the "
            "prompt is: a response begins at sequences.starts (sequences.columns has its columns).",
            first="of the row",
        ),
        mistake(
            "It looks as if the temperature is missing: divide the logits by it before the "
            "softmax, as the sampler does.",
            scaled=lambda logits, temperature: logits,
        ),
        mistake(
            "It looks as if the logits were multiplied by the temperature: divide.",
            scaled=lambda logits, temperature: logits * temperature,
        ),
        mistake(
            "It looks as if the log-probabilities were divided by the temperature: divide the "
            "logits, before the softmax.",
            scaled=lambda logits, temperature: logits,
            afterwards=lambda logprobs, temperature: logprobs / temperature,
        ),
        mistake(
            "These look like logits: take log_softmax over the vocabulary first.",
            logarithm=lambda logits: logits,
        ),
        mistake(
            "These look like probabilities: take the logarithm, with log_softmax.",
            logarithm=lambda logits: logits.softmax(-1),
        ),
        mistake(
            "It looks as if the softmax runs over the tokens of the response: it runs over the "
            "vocabulary, the last dimension.",
            logarithm=lambda logits: logits.log_softmax(1),
        ),
        mistake("On padding, where sequences.mask is False, it should be 0.", clean=False),
        mistake(
            "The numbers are right, but no gradient flows to the model: PPO's loss needs one. Do "
            "not use torch.no_grad(), .detach() or .item() here.",
            attached=False,
        ),
    ),
    use="Policy and reference are both read with it, and the new policy in the loss.",
    outputs=("logprobs", "gradient"),
    trial=try_token_logprobs,
    instead=("response_logprobs", "label_logprobs", "response_logits", "token_logits"),
    draw=_some_rows,
)

# ---- score and read ------------------------------------------------------------------------------


def score_and_read(
    reference,
    value_model: ScalarModel,
    reward_model: ScalarModel,
    sequences: Sequences,
    config: PPOConfig,
    steps: SimpleNamespace,
    *,
    temperature: Callable[[PPOConfig], float] = lambda config: config.temperature,
    score_at: str = "the last real token",
    scorer: str = "reward model",
    value_at: int = -1,
    valuer: str = "value network",
    attached: tuple[str, ...] = (),
) -> tuple[Tensor, ...]:
    """scores (B,), ref_logprobs and values (B, N), without gradients."""
    with torch.set_grad_enabled(bool(attached)):
        model = reward_model if scorer == "reward model" else value_model
        whole = model(sequences.tokens, sequences.attention)  # (B, T)
        scores = {
            "the last real token": lambda: response_scores(model, sequences),
            "the last column": lambda: whole[:, -1],
            "one before": lambda: whole[torch.arange(len(whole)), sequences.lengths - 2],
            "the mean": lambda: (whole * sequences.attention).sum(1) / sequences.lengths,
        }[score_at]()
        ref_logprobs = steps.token_logprobs(reference, sequences, temperature(config))
        model = value_model if valuer == "value network" else reward_model
        values = response_values(model, sequences)
        if value_at == 0:
            whole = model(sequences.tokens, sequences.attention)
            values = whole.gather(1, sequences.columns).masked_fill(~sequences.mask, 0)
    found = {"scores": scores, "ref_logprobs": ref_logprobs, "values": values}
    return tuple(x if name in attached else x.detach() for name, x in found.items())


def try_score_and_read(function: Callable) -> Callable:
    """`score_and_read` as a function of prompts, responses and temperature."""

    def tried(written, temperature, /, **switches) -> tuple[Tensor, ...]:
        models = tiny.policy(3), tiny.scalar_model(1), tiny.scalar_model(2)
        rows = Sequences.of_text(tiny.tokenizer(), written)
        config = PPOConfig(temperature=temperature)
        answer = function(*models, rows, config, right_steps(), **switches)
        names = "scores", "ref_logprobs", "values"
        parts = parts_of(answer, *names)
        for name, part in zip(names, parts):
            if not isinstance(part, Tensor):
                raise WrongForm(f"Your {name} is {kind_of(part)}; it should be a tensor.")
        return *(x.detach() for x in parts), torch.tensor([x.requires_grad for x in parts])

    return tried


def right_steps() -> SimpleNamespace:
    """The steps of this file that others call."""
    return SimpleNamespace(token_logprobs=token_logprobs)


def _some_responses(dice: Random) -> Inputs:
    return {"written": tiny.written(dice), "config.temperature": dice.choice((0.6, 0.8, 1.4, 1.7))}


SCORE_AND_READ = Exercise(
    "score_and_read",
    try_score_and_read(score_and_read),
    cases=(
        Case("one response", {"written": tiny.WRITTEN[:1], "config.temperature": 1.0}),
        Case(
            "responses of different lengths", {"written": tiny.WRITTEN, "config.temperature": 0.7}
        ),
        Case("a high temperature", {"written": tiny.WRITTEN[1:], "config.temperature": 1.6}),
    ),
    mistakes=(
        mistake(
            "It looks as if the reference is read at temperature 1: policy and reference share "
            "config.temperature, or the KL is not 0 at the start.",
            temperature=lambda config: 1.0,
        ),
        mistake(
            "It looks as if the score is read in the last column, which is padding in the shorter "
            "rows: it is read at the last real token (response_scores does that).",
            score_at="the last column",
        ),
        mistake(
            "It looks as if the score is read one token too early: it stands at the last real "
            "token.",
            score_at="one before",
        ),
        mistake(
            "It looks as if the score is a mean over the tokens: it is read at the last real one.",
            score_at="the mean",
        ),
        mistake(
            "It looks as if the value network gives the scores: the reward model does.",
            scorer="value network",
        ),
        mistake(
            "It looks as if the reward model gives the values: the value network does, which "
            "is trained in every update.",
            valuer="reward model",
        ),
        mistake(
            "It looks as if each value is read at the token itself. It must say what was to be "
            "expected *before* the token was known: position t - 1 (response_values does that).",
            value_at=0,
        ),
        mistake(
            "The numbers are right, but they carry gradients: these models are only read here. "
            "Put the lines under `with torch.no_grad():`, or the loss changes its own targets.",
            attached=("scores", "ref_logprobs", "values"),
        ),
        *(
            mistake(
                f"The numbers are right, but your {name} carry a gradient: this line, too, belongs "
                "under `with torch.no_grad():`.",
                attached=(name,),
            )
            for name in ("scores", "ref_logprobs", "values")
        ),
    ),
    use="These are all the numbers that PPO needs beside the sampler's own.",
    outputs=("scores", "ref_logprobs", "values", "carries a gradient"),
    trial=try_score_and_read,
    instead=("collect", "roll_out"),
    draw=_some_responses,
)
