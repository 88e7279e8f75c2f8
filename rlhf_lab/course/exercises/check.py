"""One check for each exercise: `check.gae(gae)` tries the function you wrote and says how it did.

Every function prints its findings and returns a Result, whose `right` is True or False.
`check.gae(check.variant(gae, "k7f3"))` tries it on the numbers of that variant.
"""

from collections.abc import Callable

from rlhf_lab.course.exercises import nb00_tour as tour
from rlhf_lab.course.exercises import nb01_sft as sft
from rlhf_lab.course.exercises import nb02_rankings as feedback
from rlhf_lab.course.exercises import nb03_reward as reward
from rlhf_lab.course.exercises import nb04_advantages as ppo_advantages
from rlhf_lab.course.exercises import nb04_losses as ppo_losses
from rlhf_lab.course.exercises import nb04_rewards as ppo_rewards
from rlhf_lab.course.exercises import nb05_microscope as microscope
from rlhf_lab.course.exercises import nb05b_bug_hunt as bug_hunt
from rlhf_lab.course.exercises import nb06_hacking as hacking
from rlhf_lab.course.exercises import nb06b_fits as fits
from rlhf_lab.course.exercises import nb07_rounds as rounds
from rlhf_lab.course.exercises import nb08_roads as roads
from rlhf_lab.course.exercises import nb09_constitution as constitution
from rlhf_lab.course.exercises import nb10_scaling as scaling
from rlhf_lab.course.exercises import nb14_learning as learning
from rlhf_lab.course.exercises import nb14_loop as loop
from rlhf_lab.course.exercises import nb14_reading as reading
from rlhf_lab.course.exercises.examine import Result, examine
from rlhf_lab.course.exercises.variants import variant  # noqa: F401  for notebooks: check.variant

# ---- 00 tour -------------------------------------------------------------------------------------


def win_share(function: Callable) -> Result:
    """win_share(marks, rival_marks): (B,), (B,) -> (), from 0 to 1, ties half."""
    return examine(tour.WIN_SHARE, function)


def best_of_n_mark(function: Callable) -> Result:
    """best_of_n_mark(scores, marks): two (B, n) -> (), in points."""
    return examine(tour.BEST_OF_N_MARK, function)


# ---- 01 supervised fine-tuning -------------------------------------------------------------------


def label_mask(function: Callable) -> Result:
    """label_mask(tokens, starts, end_id, pad_id): (B, T), (B,), int, int -> bool (B, T)."""
    return examine(sft.LABEL_MASK, function)


def sequence_logprob(function: Callable) -> Result:
    """sequence_logprob(logits, tokens, mask): (B, T, V), (B, T), bool (B, T) -> (B,)."""
    return examine(sft.SEQUENCE_LOGPROB, function)


# ---- 02 collecting rankings ----------------------------------------------------------------------


def preferred(function: Callable) -> Result:
    """preferred(ranks): int (B, K), 1 the best, 0 unranked -> bool (B, K, K), True where response
    i beats response j."""
    return examine(feedback.PREFERRED, function)


def agreement(function: Callable) -> Result:
    """agreement(first, second): two int (B, K), all ranked -> (), from 0 to 1, ties half."""
    return examine(feedback.AGREEMENT, function)


# ---- 03 the reward model -------------------------------------------------------------------------


def pair_loss(function: Callable) -> Result:
    """pair_loss(chosen_scores, rejected_scores): (B,), (B,) -> ()."""
    return examine(reward.PAIR_LOSS, function)


def kwise_loss(function: Callable) -> Result:
    """kwise_loss(scores, ranks): (B, K), int (B, K), 1 the best, 0 unranked -> ()."""
    return examine(reward.KWISE_LOSS, function)


def pair_accuracy(function: Callable) -> Result:
    """pair_accuracy(scores, ranks): (B, K), int (B, K) -> (), equal scores half."""
    return examine(reward.PAIR_ACCURACY, function)


# ---- 04 policy gradients and PPO -----------------------------------------------------------------


def kl_rewards(function: Callable) -> Result:
    """kl_rewards(scores, logprobs, ref_logprobs, mask, beta): (B,), three (B, N), float ->
    (B, N), 0 on padding."""
    return examine(ppo_rewards.KL_REWARDS, function)


def gae(function: Callable) -> Result:
    """gae(rewards, values, mask, gamma, lam): three (B, N), two floats -> advantages and returns,
    each (B, N) and 0 on padding."""
    return examine(ppo_advantages.GAE, function)


def whiten(function: Callable) -> Result:
    """whiten(x, mask): (B, N), bool (B, N) -> (B, N), 0 on padding."""
    return examine(ppo_losses.WHITEN, function)


def clipped_policy_loss(function: Callable) -> Result:
    """clipped_policy_loss(new_logprobs, logprobs, advantages, mask, epsilon): four (B, N), float
    -> ()."""
    return examine(ppo_losses.CLIPPED_POLICY_LOSS, function)


def clipped_value_loss(function: Callable) -> Result:
    """clipped_value_loss(new_values, values, returns, mask, epsilon): four (B, N), float -> ()."""
    return examine(ppo_losses.CLIPPED_VALUE_LOSS, function)


# ---- 05 under the microscope ---------------------------------------------------------------------


def clipped_tokens(function: Callable) -> Result:
    """clipped_tokens(new_logprobs, logprobs, advantages, epsilon): three (B, N), float -> bool
    (B, N), True where the clip leaves no gradient."""
    return examine(microscope.CLIPPED_TOKENS, function)


def response_kl(function: Callable) -> Result:
    """response_kl(logprobs, ref_logprobs, mask): three (B, N) -> (B,), in nats."""
    return examine(microscope.RESPONSE_KL, function)


# ---- 05b a bug hunt ------------------------------------------------------------------------------


def first_ratio_check(function: Callable) -> Result:
    """first_ratio_check(logprobs, new_logprobs, mask): three (B, N) -> (), never below 0."""
    return examine(bug_hunt.FIRST_RATIO_CHECK, function)


def score_position(function: Callable) -> Result:
    """score_position(rewards, logprobs, ref_logprobs, mask, beta): four (B, N), float -> (B,)."""
    return examine(bug_hunt.SCORE_POSITION, function)


def last_return_gap(function: Callable) -> Result:
    """last_return_gap(returns, rewards, mask): three (B, N) -> (), never below 0."""
    return examine(bug_hunt.LAST_RETURN_GAP, function)


# ---- 06 reward hacking ---------------------------------------------------------------------------


def fooled(function: Callable) -> Result:
    """fooled(scores_before, scores_after, marks_before, marks_after): four (P,) -> (), the share of
    prompts with a higher score and a lower mark."""
    return examine(hacking.FOOLED, function)


def mark_at_kl(function: Callable) -> Result:
    """mark_at_kl(kl, marks, wanted): two (U,), float -> (), nan where it is not reached."""
    return examine(hacking.MARK_AT_KL, function)


# ---- 06b fits, ensembles, noisy labels -----------------------------------------------------------


def fallen(function: Callable) -> Result:
    """fallen(marks, window): (U,), int -> (), the share of what was won that was lost again."""
    return examine(fits.FALLEN, function)


def best_of_n_value(function: Callable) -> Result:
    """best_of_n_value(scores, marks, n): two (M,), int -> (), in points."""
    return examine(fits.BEST_OF_N_VALUE, function)


# ---- 07 round two --------------------------------------------------------------------------------


def clustered_interval(function: Callable) -> Result:
    """clustered_interval(table): (P, S) -> mean, low and high, each ()."""
    return examine(rounds.CLUSTERED_INTERVAL, function)


def paired_difference(function: Callable) -> Result:
    """paired_difference(first, second): two (P, S) on the same prompts -> mean of first less
    second, low and high, each ()."""
    return examine(rounds.PAIRED_DIFFERENCE, function)


# ---- 08 other roads ------------------------------------------------------------------------------


def rloo_advantages(function: Callable) -> Result:
    """rloo_advantages(rewards): (prompts, group) -> the same."""
    return examine(roads.RLOO_ADVANTAGES, function)


def answer_kl(function: Callable) -> Result:
    """answer_kl(first, second, ref_first, ref_second): (V,), (V, V), (V,), (V, V) -> ()."""
    return examine(roads.ANSWER_KL, function)


def dpo_loss(function: Callable) -> Result:
    """dpo_loss(chosen_logprobs, rejected_logprobs, ref_chosen, ref_rejected, dpo_beta): four (B,),
    float -> ()."""
    return examine(roads.DPO_LOSS, function)


# ---- 09 a constitution ---------------------------------------------------------------------------


def rank_by_rules(function: Callable) -> Result:
    """rank_by_rules(kept, weights): (K, R) from 0 to 1, (R,) -> (K,), 1 the best, equal totals
    share a rank."""
    return examine(constitution.RANK_BY_RULES, function)


def promises(function: Callable) -> Result:
    """promises(sentence, phrases, negations): text, two tuples of texts -> bool."""
    return examine(constitution.PROMISES, function)


# ---- 10 scaling up -------------------------------------------------------------------------------


def piece_losses(function: Callable) -> Result:
    """piece_losses(token_losses, mask, size): (B, N), bool (B, N), int -> (M,), one for each piece
    of `size` rows."""
    return examine(scaling.PIECE_LOSSES, function)


def best_accuracy(function: Callable) -> Result:
    """best_accuracy(first, second): ratings (A,), (B,) -> (), from 1/2 to 1, ties half."""
    return examine(scaling.BEST_ACCURACY, function)


# ---- 14 PPO from an empty cell -------------------------------------------------------------------


def draw(function: Callable) -> Result:
    """draw(policy, tokenizer, prompts, seeds, config) -> Sequences, logprobs (B, N), ended (B,)
    bool, and B texts."""
    return examine(reading.DRAW, function)


def token_logprobs(function: Callable) -> Result:
    """token_logprobs(model, sequences, temperature) -> (B, N), 0 on padding."""
    return examine(reading.TOKEN_LOGPROBS, function)


def score_and_read(function: Callable) -> Result:
    """score_and_read(reference, value_model, reward_model, sequences, config, steps) -> scores
    (B,), ref_logprobs and values (B, N), without gradients."""
    return examine(reading.SCORE_AND_READ, function)


def shaped_rewards(function: Callable) -> Result:
    """shaped_rewards(scores, ended, logprobs, ref_logprobs, mask, beta, penalty): (B,), bool (B,),
    three (B, N), two floats -> the lowered scores (B,) and the rewards (B, N)."""
    return examine(learning.SHAPED_REWARDS, function)


def advantages_and_returns(function: Callable) -> Result:
    """advantages_and_returns(rewards, values, mask, gamma, lam): three (B, N), two floats -> two
    (B, N), the first whitened."""
    return examine(learning.ADVANTAGES_AND_RETURNS, function)


def ppo_loss(function: Callable) -> Result:
    """ppo_loss(policy, value_model, batch, config, steps) -> the loss () and a dict of metrics."""
    return examine(learning.PPO_LOSS, function)


def improve(function: Callable) -> Result:
    """improve(policy, value_model, batch, adam, update, config, steps) -> a dict of metrics."""
    return examine(loop.IMPROVE, function)


def my_ppo(function: Callable) -> Result:
    """my_ppo(policy, reward_model, tokenizer, prompts, config, steps, judge=None): yields a record
    for each update."""
    return examine(loop.MY_PPO, function)
