"""Answers that learners may write to the exercises of notebook 14."""

from dataclasses import replace

import torch
import torch.nn.functional as F

from rlhf_lab import maths
from rlhf_lab.models import ScalarModel, frozen_copy, new_value_model
from rlhf_lab.rollout import Rollout, batch_of, describe, mean_mark
from rlhf_lab.sampling import SamplingConfig, sample
from rlhf_lab.sequences import (
    Sequences,
    in_batches,
    plain_logits,
    response_scores,
    response_values,
    scatter,
)
from rlhf_lab.text import decode_response, encode_prompt
from rlhf_lab.training import mean_of_each, seed_of

RIGHT, WRONG, TWO = {}, {}, {}

# ---- draw ----------------------------------------------------------------------------------------


def draw_plainly(policy, tokenizer, prompts, seeds, config):
    encoded = [encode_prompt(tokenizer, prompt.text) for prompt in prompts]
    sampling = SamplingConfig(config.max_new_tokens, config.temperature)
    samples = sample(policy, tokenizer, encoded, seeds, sampling)
    sequences = Sequences.of_samples(samples, tokenizer.pad_token_id)
    return sequences, samples.logprobs, samples.ended, samples.texts(tokenizer)


def draw_by_names(policy, tokenizer, prompts, seeds, config):
    settings = dict(temperature=config.temperature, max_new_tokens=config.max_new_tokens)
    s = sample(
        policy=policy,
        tokenizer=tokenizer,
        prompts=[tokenizer.encode(p.text) for p in prompts],
        seeds=seeds,
        config=SamplingConfig(**settings),
    )
    return [
        Sequences.of_samples(s, tokenizer.pad_token_id),
        s.logprobs,
        s.ended,
        s.texts(tokenizer),
    ]


def draw_one_by_one(policy, tokenizer, prompts, seeds, config):
    """Each prompt in its own call: a sample depends on its prompt and its seed alone."""
    sampling = SamplingConfig(config.max_new_tokens, config.temperature)
    asked, answered, rows, ended = [], [], [], []
    for prompt, seed in zip(prompts, seeds):
        tokens = encode_prompt(tokenizer, prompt.text)
        one = sample(policy, tokenizer, [tokens], [seed], sampling)
        asked.append(tokens)
        answered.append(one.tokens[0, one.prompt_length :].tolist())
        rows.append(one.logprobs[0])
        ended.append(bool(one.ended[0]))
    sequences = Sequences.of_tokens(asked, answered, tokenizer.pad_token_id)
    logprobs = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    texts = [decode_response(tokenizer, row) for row in answered]
    return sequences, logprobs, torch.tensor(ended), texts


def draw_small_batches(policy, tokenizer, prompts, seeds, config):
    encoded = [encode_prompt(tokenizer, prompts[i].text) for i in range(len(seeds))]
    sampling = SamplingConfig(config.max_new_tokens, config.temperature)
    drawn = sample(policy, tokenizer, encoded, seeds, sampling, batch_size=2)
    read = Sequences.of_samples(drawn, tokenizer.pad_token_id)
    texts = [decode_response(tokenizer, t[m]) for t, m in zip(read.response_tokens, read.mask)]
    return read, drawn.logprobs, drawn.ended, texts


def draw_and_look_for_the_end(policy, tokenizer, prompts, seeds, config):
    first = draw_plainly(policy, tokenizer, prompts, seeds, config)
    sequences = first[0]
    last = sequences.lengths - 1
    tokens = sequences.tokens[torch.arange(len(last)), last]
    return sequences, first[1] * sequences.mask, tokens == tokenizer.eos_token_id, first[3]


def draw_under_no_grad(policy, tokenizer, prompts, seeds, config):
    with torch.no_grad():
        sequences, logprobs, ended, texts = draw_by_names(policy, tokenizer, prompts, seeds, config)
    return sequences, logprobs.clone(), ended.bool(), list(texts)


RIGHT["draw"] = [
    draw_plainly,
    draw_by_names,
    draw_one_by_one,
    draw_small_batches,
    draw_and_look_for_the_end,
    draw_under_no_grad,
]


def _draw(sampling, seeds_of=lambda seeds: seeds, after=lambda samples, parts: parts):
    def function(policy, tokenizer, prompts, seeds, config):
        encoded = [encode_prompt(tokenizer, prompt.text) for prompt in prompts]
        samples = sample(policy, tokenizer, encoded, seeds_of(seeds), sampling(config))
        sequences = Sequences.of_samples(samples, tokenizer.pad_token_id)
        parts = sequences, samples.logprobs, samples.ended, samples.texts(tokenizer)
        return after(samples, parts)

    return function


def _well(config):
    return SamplingConfig(config.max_new_tokens, config.temperature)


def draw_and_read_again(policy, tokenizer, prompts, seeds, config):
    sequences, _, ended, texts = draw_plainly(policy, tokenizer, prompts, seeds, config)
    with torch.no_grad():
        logprobs = plain_logits(policy, sequences).log_softmax(-1)
        at = sequences.columns - 1
        rows = logprobs.gather(1, at[..., None].expand(-1, -1, logprobs.shape[-1]))
        chosen = rows.gather(-1, sequences.response_tokens[..., None])[..., 0]
    return sequences, chosen * sequences.mask, ended, texts


def _short_mask(samples, parts):
    rows = parts[0]
    mask = rows.mask & (rows.response_tokens != 1)
    return Sequences(rows.tokens, rows.attention, mask, rows.starts), *parts[1:]


WRONG["draw"] = [
    (_draw(lambda c: SamplingConfig(c.max_new_tokens)), "did not get the temperature"),
    (_draw(lambda c: SamplingConfig(temperature=c.temperature)), "its own default is 64"),
    (
        _draw(lambda c: SamplingConfig(c.max_new_tokens, c.temperature, top_k=1)),
        "always the likeliest token",
    ),
    (_draw(_well, lambda seeds: list(range(len(seeds)))), "seeds 0, 1, 2 and so on"),
    (_draw(_well, lambda seeds: seeds[:1] * len(seeds)), "drawn from the first seed"),
    (draw_and_read_again, "computed again, without the temperature"),
    (_draw(_well, after=_short_mask), "the end token is left out of the mask"),
    (_draw(_well, after=lambda s, x: (*x[:2], ~x[2], x[3])), "ended looks inverted"),
    (_draw(_well, after=lambda s, x: x[:3]), "Return 4 things, sequences, logprobs, ended and"),
    (_draw(_well, after=lambda s, x: (s, *x[1:])), "it should be Sequences.of_samples"),
    (_draw(_well, after=lambda s, x: None), "does it end with a return?"),
]

# ---- token_logprobs ------------------------------------------------------------------------------


def logprobs_by_gather(model, sequences, temperature):
    logits = plain_logits(model, sequences) / temperature
    before = (sequences.columns - 1)[..., None].expand(-1, -1, logits.shape[-1])
    logprobs = logits.gather(1, before).log_softmax(-1)
    logprobs = logprobs.gather(-1, sequences.response_tokens[..., None]).squeeze(-1)
    return logprobs.masked_fill(~sequences.mask, 0)


def logprobs_by_rows(model, sequences, temperature):
    everywhere = (plain_logits(model, sequences) / temperature).log_softmax(-1)
    rows = []
    for b, start in enumerate(sequences.starts.tolist()):
        row = []
        for n in range(sequences.mask.shape[1]):
            real = bool(sequences.mask[b, n])
            token = sequences.tokens[b, start + n] if real else 0
            row.append(everywhere[b, start + n - 1, token] if real else torch.zeros(()))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def logprobs_by_shift(model, sequences, temperature):
    logits = plain_logits(model, sequences)[:, :-1] / temperature
    chosen = F.cross_entropy(logits.transpose(1, 2), sequences.tokens[:, 1:], reduction="none")
    out = torch.zeros(sequences.mask.shape)
    labels = sequences.labels[:, 1:]
    return out.masked_scatter(sequences.mask, -chosen[labels])


def logprobs_by_the_labs_parts(model, sequences, temperature):
    labels = sequences.labels
    before = torch.cat([labels[:, 1:], torch.zeros_like(labels[:, :1])], 1)
    logits = plain_logits(model, sequences)[before]
    flat = maths.logprobs_of(logits, sequences.tokens[labels], temperature)
    return scatter(flat, sequences.mask)


def logprobs_by_logsumexp(model, sequences, temperature):
    logits = plain_logits(model, sequences) / temperature
    index = torch.arange(len(logits))[:, None]
    rows = logits[index, sequences.columns - 1]
    N = torch.arange(rows.shape[1])[None]
    chosen = rows[index, N, sequences.response_tokens]
    return torch.where(sequences.mask, chosen - rows.logsumexp(-1), 0.0)


def logprobs_by_onehot(model, sequences, temperature):
    whole = torch.log_softmax(plain_logits(model, sequences) / temperature, dim=2)
    hot = F.one_hot(sequences.tokens, whole.shape[-1])[:, 1:]
    each = F.pad((whole[:, :-1] * hot).sum(-1), (1, 0))
    return each.gather(1, sequences.columns).masked_fill(~sequences.mask, 0)


RIGHT["token_logprobs"] = [
    logprobs_by_gather,
    logprobs_by_rows,
    logprobs_by_shift,
    logprobs_by_the_labs_parts,
    logprobs_by_logsumexp,
    logprobs_by_onehot,
]


def _logprobs(columns, scale=lambda x, t: x / t, after=lambda x, s: x * s.mask):
    def function(model, sequences, temperature):
        logits = scale(plain_logits(model, sequences), temperature)
        rows = logits[torch.arange(len(logits))[:, None], columns(sequences)].log_softmax(-1)
        chosen = rows.gather(-1, sequences.response_tokens.unsqueeze(-1)).squeeze(-1)
        return after(chosen, sequences)

    return function


def _before(s):
    return s.columns - 1


WRONG["token_logprobs"] = [
    (_logprobs(lambda s: s.columns), "read them at position t - 1"),
    (_logprobs(lambda s: s.columns - 2), "two positions before"),
    (_logprobs(_before, lambda x, t: x), "the temperature is missing"),
    (_logprobs(_before, lambda x, t: x * t), "multiplied by the temperature"),
    (_logprobs(_before, after=lambda x, s: x), "On padding, where sequences.mask is False"),
    (
        _logprobs(_before, after=lambda x, s: (x * s.mask).detach()),
        "no gradient flows to the model",
    ),
    (lambda m, s, t: torch.no_grad()(logprobs_by_gather)(m, s, t), "no gradient flows"),
    (lambda m, s, t: None, "Your function returns nothing (None)"),
    (lambda m, s, t: logprobs_by_gather(m, s, t).exp() * s.mask, "These look like probabilities"),
]

# ---- score_and_read ------------------------------------------------------------------------------


def read_plainly(reference, value_model, reward_model, sequences, config, steps):
    with torch.no_grad():
        scores = response_scores(reward_model, sequences)
        ref_logprobs = steps.token_logprobs(reference, sequences, config.temperature)
        values = response_values(value_model, sequences)
    return scores, ref_logprobs, values


@torch.no_grad()
def read_decorated(reference, value_model, reward_model, sequences, config, steps):
    return (
        reward_model.score(sequences.tokens, sequences.attention),
        steps.token_logprobs(reference, sequences, temperature=config.temperature),
        response_values(value_model, sequences),
    )


def read_and_detach(reference, value_model, reward_model, sequences, config, steps):
    found = (
        response_scores(reward_model, sequences),
        steps.token_logprobs(reference, sequences, config.temperature),
        response_values(value_model, sequences),
    )
    return tuple(x.detach() for x in found)


def read_by_hand(reference, value_model, reward_model, sequences, config, steps):
    with torch.inference_mode():
        rows = torch.arange(len(sequences.tokens))
        scores = reward_model(sequences.tokens, sequences.attention)[rows, sequences.lengths - 1]
        values = value_model(sequences.tokens, sequences.attention)
        values = values.gather(1, sequences.columns - 1).masked_fill(~sequences.mask, 0)
        ref_logprobs = steps.token_logprobs(reference, sequences, config.temperature)
    return [scores.clone(), ref_logprobs.clone(), values.clone()]


def read_in_batches(reference, value_model, reward_model, sequences, config, steps):
    def of_reference(model, rows):
        return steps.token_logprobs(model, rows, config.temperature)

    scores = in_batches(response_scores, reward_model, sequences, config.max_tokens)
    values = in_batches(response_values, value_model, sequences, config.max_tokens)
    return scores, in_batches(of_reference, reference, sequences, config.max_tokens), values


def read_row_by_row(reference, value_model, reward_model, sequences, config, steps):
    scores, N = [], sequences.mask.shape[1]
    both = [[], []]
    with torch.no_grad():
        for b in range(len(sequences.tokens)):
            row = sequences.rows([b])
            scores.append(response_scores(reward_model, row))
            one = steps.token_logprobs(reference, row, config.temperature)
            for kept, x in zip(both, (one, response_values(value_model, row))):
                kept.append(F.pad(x, (0, N - x.shape[1])))
    return torch.cat(scores), torch.cat(both[0]), torch.cat(both[1])


RIGHT["score_and_read"] = [
    read_plainly,
    read_decorated,
    read_and_detach,
    read_by_hand,
    read_in_batches,
    read_row_by_row,
]


def _read(change):
    def function(reference, value_model, reward_model, sequences, config, steps):
        given = reference, value_model, reward_model, sequences, config, steps
        return change(read_plainly(*given), *given)

    return function


WRONG["score_and_read"] = [
    (
        _read(
            lambda x, ref, v, r, s, c, steps: (
                x[0],
                steps.token_logprobs(ref, s, 1.0).detach(),
                x[2],
            )
        ),
        "read at temperature 1",
    ),
    (
        _read(lambda x, ref, v, r, s, c, steps: (r(s.tokens, s.attention)[:, -1].detach(), *x[1:])),
        "the score is read in the last column",
    ),
    (
        _read(
            lambda x, ref, v, r, s, c, steps: (
                *x[:2],
                (v(s.tokens, s.attention).gather(1, s.columns) * s.mask).detach(),
            )
        ),
        "each value is read at the token itself",
    ),
    (
        lambda ref, v, r, s, c, steps: (
            response_scores(r, s),
            steps.token_logprobs(ref, s, c.temperature),
            response_values(v, s),
        ),
        "they carry gradients",
    ),
    (
        _read(lambda x, ref, v, r, s, c, steps: (*x[:2], response_values(v, s))),
        "your values carry a gradient",
    ),
    (_read(lambda x, *given: (x[0], x[1])), "Return 3 things, scores, ref_logprobs and values"),
    (_read(lambda x, *given: (x[0], x[1], None)), "Your values is nothing (None)"),
]

# ---- shaped_rewards ------------------------------------------------------------------------------


def shaped_plainly(scores, ended, logprobs, ref_logprobs, mask, beta, penalty):
    scores = maths.no_end_penalty(scores, ended, penalty)
    return scores, maths.kl_rewards(scores, logprobs, ref_logprobs, mask, beta)


def shaped_by_where(scores, ended, logprobs, ref_logprobs, mask, beta, penalty):
    lowered = torch.where(ended, scores, torch.minimum(scores, torch.zeros(())) - penalty)
    kl = torch.where(mask, logprobs - ref_logprobs, 0.0)
    ends = mask & ~F.pad(mask[:, 1:], (0, 1))
    return lowered, ends * lowered[:, None] - beta * kl


def shaped_by_loop(scores, ended, logprobs, ref_logprobs, mask, beta, penalty):
    lowered = scores.clone()
    rewards = torch.zeros(mask.shape)
    for b in range(len(scores)):
        if not ended[b]:
            lowered[b] = min(float(scores[b]), 0.0) - penalty
        length = int(mask[b].sum())
        rewards[b, :length] = beta * (ref_logprobs[b, :length] - logprobs[b, :length])
        rewards[b, length - 1] += lowered[b]
    return lowered, rewards


def shaped_in_place(scores, ended, logprobs, ref_logprobs, mask, beta, penalty):
    scores = scores.clone()
    scores[~ended] = scores[~ended].clamp(max=0) - penalty
    rewards = -beta * (logprobs - ref_logprobs).masked_fill(~mask, 0)
    rewards[torch.arange(len(scores)), mask.sum(1) - 1] += scores
    return [scores, rewards]


def shaped_by_arithmetic(scores, ended, logprobs, ref_logprobs, mask, beta, penalty):
    cut = (~ended).float()
    scores = scores - cut * (scores.relu() + penalty)
    rewards = maths.kl_rewards(scores, logprobs, ref_logprobs, mask, beta)
    return scores, rewards


def shaped_by_scatter(scores, ended, logprobs, ref_logprobs, mask, beta, penalty):
    paid = maths.no_end_penalty(scores, ended, penalty)
    cost = beta * maths.kl_k1(logprobs, ref_logprobs)
    cost = torch.where(mask, cost, torch.zeros_like(cost))
    return paid, (-cost).scatter_add(1, mask.sum(1, keepdim=True) - 1, paid[:, None])


RIGHT["shaped_rewards"] = [
    shaped_plainly,
    shaped_by_where,
    shaped_by_loop,
    shaped_in_place,
    shaped_by_arithmetic,
    shaped_by_scatter,
]


def _shaped(lower, told=lambda raw, lowered: lowered, paid=lambda raw, lowered: lowered):
    def function(scores, ended, logprobs, ref_logprobs, mask, beta, penalty):
        lowered = lower(scores, ended, penalty)
        rewards = maths.kl_rewards(paid(scores, lowered), logprobs, ref_logprobs, mask, beta)
        return told(scores, lowered), rewards

    return function


WRONG["shaped_rewards"] = [
    (_shaped(lambda s, e, p: s), "a response that was cut off pays nothing"),
    (_shaped(lambda s, e, p: s - p * (~e)), "the penalty was just subtracted"),
    (_shaped(lambda s, e, p: maths.no_end_penalty(s, ~e, p)), "responses that did end pay"),
    (_shaped(lambda s, e, p: torch.where(e, s, -p)), "cut off scores -penalty"),
    (_shaped(maths.no_end_penalty, told=lambda raw, low: raw), "you return the raw ones"),
    (_shaped(maths.no_end_penalty, paid=lambda raw, low: raw), "apply the penalty first"),
    (
        lambda s, e, new, ref, m, beta, p: shaped_plainly(s, e, ref, new, m, beta, p),
        "sign of the KL",
    ),
    (
        lambda s, e, new, ref, m, beta, p: shaped_plainly(s, e, new, ref, m, 1.0, p),
        "beta is missing",
    ),
]

# ---- advantages_and_returns ----------------------------------------------------------------------


def advantages_plainly(rewards, values, mask, gamma, lam):
    advantages, returns = maths.gae(rewards, values, mask, gamma, lam)
    return maths.whiten(advantages, mask), returns


def advantages_by_names(rewards, values, mask, gamma, lam):
    found = maths.gae(rewards=rewards, values=values, mask=mask, lam=lam, gamma=gamma)
    return [maths.whiten(found[0], mask, keep_mean=False), found[1]]


def advantages_by_loop(rewards, values, mask, gamma, lam):
    rewards, values = (x.masked_fill(~mask, 0) for x in (rewards, values))
    raw, carried, following = torch.zeros_like(rewards), 0.0, 0.0
    for n in reversed(range(rewards.shape[1])):
        carried = rewards[:, n] + gamma * following - values[:, n] + gamma * lam * carried
        raw[:, n], following = carried, values[:, n]
    real = raw[mask]
    white = (raw - real.mean()) / (real.var(correction=0) + 1e-8).sqrt()
    return white.masked_fill(~mask, 0), raw + values


def advantages_from_returns(rewards, values, mask, gamma, lam):
    _, returns = maths.gae(rewards, values, mask, gamma, lam)
    raw = torch.where(mask, returns - values, 0.0)
    return maths.whiten(raw, mask), returns


def advantages_by_std(rewards, values, mask, gamma, lam):
    raw, returns = maths.gae(rewards, values, mask, gamma, lam)
    white = torch.zeros_like(raw)
    white[mask] = (raw[mask] - raw[mask].mean()) / (raw[mask].std(correction=0) + 1e-8)
    return white, returns


def advantages_by_moments(rewards, values, mask, gamma, lam):
    raw, returns = maths.gae(rewards, values, mask, gamma, lam)
    mean = maths.masked_mean(raw, mask)
    spread = maths.masked_mean((raw - mean) ** 2, mask).add(1e-8).sqrt()
    return torch.where(mask, (raw - mean) / spread, 0), returns


RIGHT["advantages_and_returns"] = [
    advantages_plainly,
    advantages_by_names,
    advantages_by_loop,
    advantages_from_returns,
    advantages_by_std,
    advantages_by_moments,
]


def returns_of_white(rewards, values, mask, gamma, lam):
    white = maths.whiten(maths.gae(rewards, values, mask, gamma, lam)[0], mask)
    return white, white + values.masked_fill(~mask, 0)


def rewards_whitened(rewards, values, mask, gamma, lam):
    return maths.gae(maths.whiten(rewards, mask), values, mask, gamma, lam)


def whitened_by_rows(rewards, values, mask, gamma, lam):
    raw, returns = maths.gae(rewards, values, mask, gamma, lam)
    rows = [maths.whiten(raw[[b]], mask[[b]]) for b in range(len(raw))]
    return torch.cat(rows), returns


WRONG["advantages_and_returns"] = [
    (returns_of_white, "the returns were computed from the whitened advantages"),
    (maths.gae, "the advantages are not whitened"),
    (rewards_whitened, "the rewards were whitened in place of the advantages"),
    (whitened_by_rows, "each response was whitened by itself"),
    (
        lambda r, v, m, gamma, lam: tuple(
            maths.whiten(x, m) for x in maths.gae(r, v, m, gamma, lam)
        ),
        "the returns were whitened as well",
    ),
    (lambda r, v, m, gamma, lam: advantages_plainly(r, v, m, 1.0, 0.95), "did not reach GAE"),
    (lambda r, v, m, gamma, lam: advantages_plainly(r, v, m, lam, gamma), "in the wrong order"),
    (
        lambda r, v, m, gamma, lam: advantages_plainly(r, v, m, gamma, lam)[::-1],
        "wrong order: first",
    ),
]

# ---- ppo_loss ------------------------------------------------------------------------------------


def loss_plainly(policy, value_model, batch, config, steps):
    new_logprobs = steps.token_logprobs(policy, batch.sequences, config.temperature)
    new_values = response_values(value_model, batch.sequences)
    of_policy = new_logprobs, batch.logprobs, batch.advantages, batch.mask, config.epsilon
    of_values = new_values, batch.values, batch.returns, batch.mask, config.value_epsilon
    policy_loss = maths.clipped_policy_loss(*of_policy)
    value_loss = maths.clipped_value_loss(*of_values)
    metrics = {"loss/policy_avg": policy_loss, "loss/value_avg": value_loss}
    metrics |= maths.policy_metrics(*of_policy)
    return policy_loss + config.value_coefficient * value_loss, metrics


def loss_by_hand(policy, value_model, batch, config, steps):
    m = batch.mask
    new = steps.token_logprobs(policy, batch.sequences, config.temperature)[m]
    V = response_values(value_model, batch.sequences)[m]
    A, old, e = batch.advantages[m], batch.logprobs[m], config.epsilon
    ratio = (new - old).exp()
    first = -torch.minimum(A * ratio, A * ratio.clip(1 - e, 1 + e)).mean()
    before, target = batch.values[m], batch.returns[m]
    held = before + (V - before).clip(-config.value_epsilon, config.value_epsilon)
    second = 0.5 * torch.maximum((V - target) ** 2, (held - target) ** 2).mean()
    total = first + config.value_coefficient * second
    return total, {"loss/policy_avg": first.item(), "loss/value_avg": second.item()}


def loss_by_names(policy, value_model, batch, config, steps):
    rows = batch.sequences
    losses = {
        "loss/policy_avg": maths.clipped_policy_loss(
            new_logprobs=steps.token_logprobs(policy, rows, config.temperature),
            logprobs=batch.logprobs,
            advantages=batch.advantages,
            mask=rows.mask,
            epsilon=config.epsilon,
        ),
        "loss/value_avg": maths.clipped_value_loss(
            new_values=response_values(value_model, rows),
            values=batch.values,
            returns=batch.returns,
            mask=rows.mask,
            epsilon=config.value_epsilon,
        ),
    }
    return losses["loss/policy_avg"] + config.value_coefficient * losses["loss/value_avg"], losses


def loss_as_a_list(policy, value_model, batch, config, steps):
    total, metrics = loss_by_hand(policy, value_model, batch, config, steps)
    return [total, {**metrics, "my/ratio": 1.0}]


def loss_in_pieces(policy, value_model, batch, config, steps):
    tokens, total = batch.mask.sum(), 0.0
    metrics = {"loss/policy_avg": 0.0, "loss/value_avg": 0.0}
    for b in range(len(batch.texts)):
        piece = batch.rows(torch.tensor([b]))
        share = piece.mask.sum() / tokens
        loss, found = loss_plainly(policy, value_model, piece, config, steps)
        total = total + share * loss
        metrics = {name: x + float(share * found[name]) for name, x in metrics.items()}
    return total, metrics


def loss_values_by_hand(policy, value_model, batch, config, steps):
    rows = batch.sequences
    values = value_model(rows.tokens, rows.attention).gather(1, rows.columns - 1)
    new = steps.token_logprobs(policy, rows, config.temperature)
    first = maths.clipped_policy_loss(
        new, batch.logprobs.detach(), batch.advantages, batch.mask, config.epsilon
    )
    second = maths.clipped_value_loss(
        values, batch.values, batch.returns, batch.mask, config.value_epsilon
    )
    loss = torch.stack([first, config.value_coefficient * second]).sum()
    return loss, {"loss/policy_avg": first.detach(), "loss/value_avg": second.detach()}


RIGHT["ppo_loss"] = [
    loss_plainly,
    loss_by_hand,
    loss_by_names,
    loss_as_a_list,
    loss_in_pieces,
    loss_values_by_hand,
]


def _loss(**changes):
    """The loss with other settings or columns: config fields or fields of the batch."""

    def function(policy, value_model, batch, config, steps):
        given = dict(
            temperature=config.temperature,
            old=batch.logprobs,
            A=batch.advantages,
            R=batch.returns,
            mask=batch.mask,
            value_epsilon=config.value_epsilon,
            coefficient=config.value_coefficient,
        )
        x = given | {name: change(batch, config) for name, change in changes.items()}
        new = steps.token_logprobs(policy, batch.sequences, x["temperature"])
        V = response_values(value_model, batch.sequences)
        old = new.detach() if x["old"] is None else x["old"]
        first = maths.clipped_policy_loss(new, old, x["A"], x["mask"], config.epsilon)
        second = maths.clipped_value_loss(V, batch.values, x["R"], batch.mask, x["value_epsilon"])
        metrics = {"loss/policy_avg": first, "loss/value_avg": second}
        return first + x["coefficient"] * second, metrics

    return function


WRONG["ppo_loss"] = [
    (_loss(temperature=lambda b, c: 1.0), "read at temperature 1"),
    (_loss(old=lambda b, c: None), "those of the present policy"),
    (_loss(old=lambda b, c: b.ref_logprobs), "the ratio is taken to the reference"),
    (_loss(A=lambda b, c: b.rewards), "the loss is made of the rewards"),
    (_loss(R=lambda b, c: b.advantages), "the value network learns the advantages"),
    (_loss(value_epsilon=lambda b, c: c.epsilon), "the values are clipped by config.epsilon"),
    (_loss(coefficient=lambda b, c: 1.0), "the value loss is added whole"),
    (_loss(coefficient=lambda b, c: 0.0), "the value loss is missing from the sum"),
    (_loss(mask=lambda b, c: torch.ones_like(b.mask)), "padding counts in the policy's loss"),
    (torch.no_grad()(loss_plainly), "it carries no gradient at all"),
    (lambda *given: loss_plainly(*given)[0], "Return 2 things, the loss and the metrics"),
    (lambda *given: (loss_plainly(*given)[0], {}), "The metrics lack 'loss/policy_avg'"),
    (lambda *given: (1.0, {}), "it should be a tensor of one number"),
]

# ---- improve -------------------------------------------------------------------------------------


def improve_plainly(policy, value_model, batch, adam, update, config, steps):
    weights, found = [*policy.parameters(), *value_model.parameters()], []
    for epoch in range(config.epochs):
        loss, metrics = steps.ppo_loss(policy, value_model, batch, config, steps)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        done = (update - 1) * config.epochs + epoch
        for group in adam.param_groups:
            group["lr"] = config.learning_rate * (1 - done / (config.updates * config.epochs))
        adam.step()
        found.append({name: float(x) for name, x in metrics.items()})
    return {name: sum(each[name] for each in found) / len(found) for name in found[0]}


def improve_by_hand(policy, value_model, batch, adam, update, config, steps):
    weights = [w for model in (policy, value_model) for w in model.parameters()]
    steps_of_run, totals = config.updates * config.epochs, {}
    for done in range((update - 1) * config.epochs, update * config.epochs):
        for weight in weights:
            weight.grad = None
        loss, metrics = steps.ppo_loss(policy, value_model, batch, config, steps)
        loss.backward()
        norm = sum(w.grad.square().sum() for w in weights if w.grad is not None).sqrt()
        for weight in weights:
            if weight.grad is not None:
                weight.grad *= min(1.0, 1 / (float(norm) + 1e-6))
        adam.param_groups[0]["lr"] = config.learning_rate * (steps_of_run - done) / steps_of_run
        adam.step()
        for name, x in metrics.items():
            totals[name] = totals.get(name, 0.0) + x.item() / config.epochs
    return totals


def improve_with_the_labs_mean(policy, value_model, batch, adam, update, config, steps):
    found, both = [], torch.nn.ModuleList([policy, value_model])
    for epoch in range(config.epochs):
        both.zero_grad()
        loss, metrics = steps.ppo_loss(policy, value_model, batch, config, steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), max_norm=1)
        left = 1 - ((update - 1) * config.epochs + epoch) / config.updates / config.epochs
        for group in adam.param_groups:
            group.update(lr=left * config.learning_rate)
        adam.step()
        found.append({name: float(x) for name, x in metrics.items()})
    return mean_of_each(found)


def improve_and_clear_afterwards(policy, value_model, batch, adam, update, config, steps):
    done, columns = (update - 1) * config.epochs, []
    while done < update * config.epochs:
        loss, metrics = steps.ppo_loss(policy, value_model, batch, config, steps)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*policy.parameters(), *value_model.parameters()], 1.0)
        rate = config.learning_rate - config.learning_rate * done / config.updates / config.epochs
        for group in adam.param_groups:
            group["lr"] = rate
        adam.step()
        adam.zero_grad(set_to_none=True)
        columns.append(metrics)
        done += 1
    return {
        name: float(torch.stack([torch.as_tensor(m[name]) for m in columns]).mean())
        for name in columns[0]
    }


def improve_by_adams_own_weights(policy, value_model, batch, adam, update, config, steps):
    weights = [w for group in adam.param_groups for w in group["params"]]
    rates = torch.linspace(1, 0, config.updates * config.epochs + 1)[:-1] * config.learning_rate
    mine, found = rates[(update - 1) * config.epochs :][: config.epochs], []
    for rate in mine.tolist():
        loss, metrics = steps.ppo_loss(policy, value_model, batch, config, steps)
        grads = torch.autograd.grad(loss, weights, allow_unused=True)
        for weight, grad in zip(weights, grads):
            weight.grad = grad
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        for group in adam.param_groups:
            group["lr"] = rate
        adam.step()
        found.append([float(x) for x in metrics.values()])
    return dict(zip(metrics, torch.tensor(found).mean(0).tolist()))


def improve_recursively(policy, value_model, batch, adam, update, config, steps, epoch=0):
    loss, metrics = steps.ppo_loss(policy, value_model, batch, config, steps)
    adam.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([*policy.parameters(), *value_model.parameters()], 1.0)
    done = (update - 1) * config.epochs + epoch
    for group in adam.param_groups:
        group["lr"] = config.learning_rate * (1 - done / (config.updates * config.epochs))
    adam.step()
    mine = {name: float(x) / config.epochs for name, x in metrics.items()}
    if epoch + 1 == config.epochs:
        return mine
    given = policy, value_model, batch, adam, update, config, steps
    rest = improve_recursively(*given, epoch + 1)
    return {name: x + rest[name] for name, x in mine.items()}


RIGHT["improve"] = [
    improve_plainly,
    improve_by_hand,
    improve_with_the_labs_mean,
    improve_and_clear_afterwards,
    improve_by_adams_own_weights,
    improve_recursively,
]


def _improve(
    clear=lambda adam: adam.zero_grad(),
    cut=lambda p, v: torch.nn.utils.clip_grad_norm_([*p.parameters(), *v.parameters()], 1.0),
    rate=lambda c, update, epoch: 1 - ((update - 1) * c.epochs + epoch) / (c.updates * c.epochs),
    before=lambda batch, policy, config, steps: None,
    step=lambda adam: adam.step(),
    told=mean_of_each,
):
    def function(policy, value_model, batch, adam, update, config, steps):
        found = []
        for epoch in range(config.epochs):
            before(batch, policy, config, steps)
            loss, metrics = steps.ppo_loss(policy, value_model, batch, config, steps)
            clear(adam)
            loss.backward()
            cut(policy, value_model)
            for group in adam.param_groups:
                group["lr"] = config.learning_rate * rate(config, update, epoch)
            step(adam)
            found.append({name: float(x) for name, x in metrics.items()})
        return told(found)

    return function


def _read_again(batch, policy, config, steps):
    with torch.no_grad():
        batch.logprobs = steps.token_logprobs(policy, batch.sequences, config.temperature)


WRONG["improve"] = [
    (_improve(clear=lambda adam: None), "gradients of earlier passes are still there"),
    (_improve(cut=lambda p, v: None), "the gradient is not cut"),
    (
        _improve(cut=lambda p, v: torch.nn.utils.clip_grad_norm_(p.parameters(), 1.0)),
        "only the policy's gradient is cut",
    ),
    (_improve(rate=lambda c, update, epoch: 1.0), "the learning rate stays as it is"),
    (
        _improve(rate=lambda c, update, epoch: 1 - (update - 1) / c.updates),
        "the learning rate falls once an update",
    ),
    (
        _improve(
            rate=lambda c, update, epoch: 1 - (update * c.epochs + epoch) / (c.updates * c.epochs)
        ),
        "as if updates are counted from 0",
    ),
    (_improve(before=_read_again), "old log-probabilities are computed again"),
    (_improve(step=lambda adam: None), "the step is missing"),
    (_improve(told=lambda found: found[-1]), "the metrics of the last pass"),
    (_improve(told=lambda found: found), "The metrics are a list of 1; they should be a dict"),
]

# ---- my_ppo --------------------------------------------------------------------------------------


def ppo_plainly(policy, reward_model, tokenizer, prompts, config, steps, judge=None):
    reference = frozen_copy(policy)
    value_model = new_value_model(policy, reward_model, config.seed)
    adam = torch.optim.Adam([*policy.parameters(), *value_model.parameters()], eps=1e-5)
    for update in range(1, config.updates + 1):
        asked = batch_of(prompts, config.batch_size, config.seed, update)
        seeds = [seed_of("ppo", config.seed, update, row) for row in range(config.batch_size)]
        sequences, logprobs, ended, texts = steps.draw(policy, tokenizer, asked, seeds, config)
        scores, ref_logprobs, values = steps.score_and_read(
            reference, value_model, reward_model, sequences, config, steps
        )
        batch = Rollout(asked, texts, sequences, ended, scores, logprobs, ref_logprobs, values)
        scores, batch.rewards = steps.shaped_rewards(
            scores, ended, logprobs, ref_logprobs, batch.mask, config.beta, config.no_end_penalty
        )
        batch.advantages, batch.returns = steps.advantages_and_returns(
            batch.rewards, values, batch.mask, config.gamma, config.lam
        )
        record = describe(batch, scores, config.beta, "ppo", update, config.updates)
        record |= steps.improve(policy, value_model, batch, adam, update, config, steps)
        if judge:
            record["judge/mark"] = mean_mark(batch, judge)
        yield record


def ppo_as_a_list(*given, **named):
    return list(ppo_plainly(*given, **named))


def ppo_from_another(*given):
    yield from ppo_plainly(*given)


class Parts:
    """A loop in an object: what happens once, and one update."""

    def __init__(self, policy, reward_model, tokenizer, prompts, config, steps, judge=None):
        self.policy, self.scorer, self.tokenizer = policy, reward_model, tokenizer
        self.prompts, self.config, self.steps, self.judge = prompts, config, steps, judge
        self.reference = frozen_copy(policy)
        self.values = new_value_model(policy, reward_model, config.seed)
        groups = [{"params": list(m.parameters())} for m in (policy, self.values)]
        self.adam = torch.optim.AdamW(groups, lr=config.learning_rate, eps=1e-5, weight_decay=0)

    def batch(self, update):
        c = self.config
        asked = batch_of(self.prompts, c.batch_size, c.seed, update)
        seeds = [seed_of("ppo", c.seed, update, row) for row, _ in enumerate(asked)]
        rows, old, ended, texts = self.steps.draw(self.policy, self.tokenizer, asked, seeds, c)
        models = self.reference, self.values, self.scorer
        scores, ref, values = self.steps.score_and_read(*models, rows, c, self.steps)
        return Rollout(asked, texts, rows, ended, scores, old, ref, values)

    def record(self, update):
        c, b = self.config, self.batch(update)
        kl = b.logprobs, b.ref_logprobs, b.mask, c.beta, c.no_end_penalty
        scores, b.rewards = self.steps.shaped_rewards(b.scores, b.ended, *kl)
        signal = b.rewards, b.values, b.mask, c.gamma, c.lam
        b.advantages, b.returns = self.steps.advantages_and_returns(*signal)
        told = describe(b, scores, c.beta, "ppo", update, c.updates)
        given = self.policy, self.values, b, self.adam, update, c, self.steps
        marked = {"judge/mark": mean_mark(b, self.judge)} if self.judge else {}
        return {**told, **self.steps.improve(*given), **marked}


def ppo_by_parts(policy, reward_model, tokenizer, prompts, config, steps, judge=None):
    parts = Parts(policy, reward_model, tokenizer, prompts, config, steps, judge)
    for update in range(1, config.updates + 1):
        yield parts.record(update)


def ppo_mapped(policy, reward_model, tokenizer, prompts, config, steps, judge=None):
    parts = Parts(policy, reward_model, tokenizer, prompts, config, steps, judge)
    return map(parts.record, range(1, config.updates + 1))


def ppo_counted_from_0(policy, reward_model, tokenizer, prompts, config, steps, judge=None):
    parts = Parts(policy, reward_model, tokenizer, prompts, config, steps, judge)
    records, done = [], 0
    while done < config.updates:
        records.append(parts.record(done + 1))
        done += 1
    return tuple(records)


RIGHT["my_ppo"] = [
    ppo_plainly,
    ppo_as_a_list,
    ppo_from_another,
    ppo_by_parts,
    ppo_mapped,
    ppo_counted_from_0,
]


def _ppo(change, each=lambda parts: None, update_of=lambda update: update):
    def function(*given):
        parts = Parts(*given)
        change(parts)
        for update in range(1, parts.config.updates + 1):
            each(parts)
            yield parts.record(update_of(update))

    return function


def _adam(models, **settings):
    def change(parts):
        some = [w for name in models for w in getattr(parts, name).parameters()]
        parts.adam = torch.optim.AdamW(some, **{"eps": 1e-5, "weight_decay": 0.0} | settings)

    return change


def _of_policy(parts):
    parts.reference = parts.policy


def _reference_again(parts):
    parts.reference = frozen_copy(parts.policy)


def _from_the_policy(parts):
    parts.values = ScalarModel.from_policy(parts.policy, parts.config.seed, zero_head=True)
    _adam(("policy", "values"))(parts)


class OfAllPrompts(Parts):
    def batch(self, update):
        batch = super().batch(update)
        batch.prompts = self.prompts
        return batch


def ppo_of_all_prompts(*given):
    parts = OfAllPrompts(*given)
    for update in range(1, parts.config.updates + 1):
        yield parts.record(update)


def ppo_with_the_usual_settings(policy, scorer, tokenizer, prompts, config, *given):
    """Discount, lambda and penalty are written down, not taken from the settings."""
    usual = replace(config, gamma=1.0, lam=0.95, no_end_penalty=1.0)
    return ppo_plainly(policy, scorer, tokenizer, prompts, usual, *given)


def ppo_that_needs_a_judge(*given):
    for record in ppo_plainly(*given):
        if given[-1] is None:
            given[-1](None, "")
        yield record


BOTH = "policy", "values"
WRONG["my_ppo"] = [
    (ppo_of_all_prompts, "the Rollout holds all prompts"),
    (lambda *given: ppo_plainly(*given[:6]), "The metrics lack 'judge/mark'"),
    (ppo_with_the_usual_settings, "config.gamma"),
    (ppo_that_needs_a_judge, "NoneType"),
    (_ppo(_of_policy), "the reference is not frozen"),
    (_ppo(lambda parts: None, _reference_again), "copied anew in each update"),
    (_ppo(lambda parts: None, _adam(BOTH)), "the optimiser is made anew"),
    (_ppo(_adam(("policy",))), "Adam has only the policy's parameters"),
    (_ppo(_adam(("values",))), "Adam has only the value network's parameters"),
    (_ppo(_adam(BOTH, eps=1e-8)), "Adam has its default eps"),
    (_ppo(_adam(BOTH, weight_decay=0.01)), "the weights decay"),
    (_ppo(_from_the_policy), "begins as a copy of the policy with a new head"),
    (lambda *given: None, "`yield record` in every update"),
    (lambda *given: [{}], "The metrics lack 'objective/scores'"),
]
