"""The runs of the bug hunt, in small: each fault is where it should be and nowhere else."""

import pytest
import torch

from rlhf_lab import maths
from rlhf_lab.cli import study as command
from rlhf_lab.disk.data import shipped
from rlhf_lab.evaluate import respond
from rlhf_lab.models import load_policy
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.studies import bug_hunt
from rlhf_lab.studies.ground import Ground
from rlhf_lab.studies.results import lines, place_of

MASK = torch.tensor([[True, True, True], [True, True, False]])
LOGPROBS = torch.tensor([[-1.0, -0.5, -0.2], [-0.3, -0.1, 0.0]])
REFERENCE = torch.tensor([[-2.0, -0.3, -0.6], [-0.8, -0.2, 0.0]])
SCORES, KL = torch.tensor([1.0, -2.0]), torch.tensor([1.2, 0.6])  # KL: the rows of the two, summed


@pytest.fixture(scope="module")
def small():
    """Two updates of four responses, of which the first is watched."""
    patch = pytest.MonkeyPatch()
    for name, value in {"UPDATES": 2, "BATCH": 4, "WATCHED": 1, "ROWS": 2, "ANSWERED": 2}.items():
        patch.setattr(bug_hunt, name, value)
    yield
    patch.undo()


def tables(ground, arm):
    place = place_of(ground.folder, arm.name, 0)
    return {name: lines(place / f"{name}.jsonl.gz") for name in ("metrics", "answers", "tokens")}


def test_a_run_without_a_fault_is_the_packages_own(small, tmp_path):
    ground = Ground(tmp_path)
    [arm] = [arm for arm in bug_hunt.ARMS if arm.fault == bug_hunt.HEALTHY]
    summary = bug_hunt.run_arm(ground, arm, 0)
    found = tables(ground, arm)
    plain = train_ppo(
        load_policy(shipped("sft")),
        bug_hunt.ScalarModel.load(shipped("reward_model")),
        ground.tokenizer,
        ground.ppo_prompts(0),
        PPOConfig(updates=2, batch_size=4, seed=0),
    )
    for mine, theirs in zip(found["metrics"], plain, strict=True):
        for name in ("objective/scores", "loss/policy_avg", "loss/value_avg", "objective/kl"):
            assert mine[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-5)
    assert summary["arm"] == {"name": arm.name}
    assert [row["update"] for row in found["answers"]] == [0, 0, 1, 1, 2, 2]
    assert {row["row"] for row in found["tokens"]} == {0, 1}
    for row in (0, 1):  # the tokens are those that the rewards are for
        some = [line for line in found["tokens"] if line["row"] == row]
        assert some[-1]["text"] == "<|endoftext|>"
        assert sum(line["reward"] for line in some) == pytest.approx(some[0]["score"], abs=1e-3)


def test_without_an_end_token_of_its_own_the_sampler_runs_on(small, tmp_path):
    ground = Ground(tmp_path)
    [arm] = [arm for arm in bug_hunt.ARMS if arm.fault == bug_hunt.END]
    bug_hunt.run_arm(ground, arm, 0)
    found = tables(ground, arm)
    assert [row["response/ended"] for row in found["metrics"]] == [0.0, 0.0]
    assert "<|endoftext|>" in [line["text"] for line in found["tokens"]]


def test_the_rewards_of_the_faults_by_hand():
    paid = bug_hunt.kl_rewarded(SCORES, LOGPROBS, REFERENCE, MASK, 0.5)
    torch.testing.assert_close(paid.sum(1), SCORES + 0.5 * KL)
    early = bug_hunt.score_one_early(SCORES, LOGPROBS, REFERENCE, MASK, 0.5)
    torch.testing.assert_close(early.sum(1), SCORES - 0.5 * KL)  # the bill is right
    right = maths.kl_rewards(SCORES, LOGPROBS, REFERENCE, MASK, 0.5)
    torch.testing.assert_close(early - right, torch.tensor([[0.0, 1.0, -1.0], [-2.0, 2.0, 0.0]]))


def test_only_the_returns_are_whitened():
    rewards = maths.kl_rewards(SCORES, LOGPROBS, REFERENCE, MASK, 0.5)
    values = torch.tensor([[0.1, 0.2, 0.3], [-0.4, 0.5, 9.0]])
    advantages, returns = bug_hunt.returns_whitened(rewards, values, MASK)
    torch.testing.assert_close(advantages, maths.gae(rewards, values, MASK)[0])
    rest = (returns - values)[MASK]
    torch.testing.assert_close(rest.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(rest.std(correction=0), torch.tensor(1.0))
    assert returns[1, 2] == 0


def test_dropout_stays_on_in_training_and_the_sampler_does_not_use_it():
    policy = bug_hunt.parts_of(bug_hunt.DROPOUT, 0).policy.eval()
    tokens = torch.arange(20, 40)[None]
    one, other = (policy(input_ids=tokens).logits for _ in range(2))
    assert (one - other).abs().max() > 0.1
    prompts = Ground.__dataclass_fields__["task"].default_factory().prompts(0, 2)
    texts = [
        respond(model, bug_hunt.load_tokenizer(bug_hunt.base_model()), prompts).texts
        for model in (policy, load_policy(shipped("sft")))
    ]
    assert texts[0] == texts[1]


def test_the_command_knows_the_arms_by_their_neutral_names():
    assert list(command.arms_of("bug_hunt")) == [arm.name for arm in bug_hunt.ARMS]
    assert [arm.fault for arm in bug_hunt.ARMS].count(bug_hunt.HEALTHY) == 1
