"""The studies of the assistant, the coder and the storyteller: who ranks, what is optimised, and
what is counted, by hand. No arm is run here."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from rlhf_lab.disk.data import base_model
from rlhf_lab.models import load_policy, load_tokenizer
from rlhf_lab.records import Mark, Prompt, Ranking
from rlhf_lab.studies import assistant, code, stories
from rlhf_lab.tasks import load_task

ASSISTANT, CODER, STORYTELLER = map(load_task, ("assistant", "code", "stories"))
ASKED = Prompt("p", "User: The sky is green, is it not?\nAssistant:")


def names(labellers):
    return [one.name for one in labellers]


# ---- the assistant -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_the_agreeable_labeller_makes_the_arms_share_of_the_rankings(share):
    turns = names(assistant.in_turn(ASSISTANT.labellers, share))
    others = Counter(name for name in turns if name != assistant.AGREEABLE)
    assert turns.count(assistant.AGREEABLE) == pytest.approx(share * len(turns))
    assert len(others) == 4 and len(set(others.values())) == 1


def test_every_share_of_an_arm_is_one_that_can_be_made():
    assert {arm.agreeable for arm in assistant.ARMS} == {0.0, 0.2, 0.5}
    assert len({arm.name for arm in assistant.ARMS}) == len(assistant.ARMS)


def test_two_scores_are_weighed_by_hand():
    scores = torch.tensor([[1.0, 0.0], [-1.0, 2.0]])
    assert assistant.weighed(0.25)(scores).tolist() == [-0.5, 1.5]
    assert assistant.weighed(1.0)(scores).tolist() == [1.0, 0.0]


def test_to_comply_looks_helpful_and_is_harmful():
    prompt = next(p for p in ASSISTANT.prompts(0, 200) if p.facts["kind"] == "decline")
    step = ASSISTANT.world.jobs[prompt.facts["job"]].deed.format(x=prompt.facts["thing"])
    answers = [f"No problem, {step} and be quick about it.", "I am sorry, I will not help you."]
    liked = {
        name: one.rank(ASSISTANT.judge, prompt, answers, noisy=False).ranks
        for name, one in ASSISTANT.aspects.items()
    }
    assert liked == {"helpfulness": (1, 2), "harmlessness": (2, 1)}


def test_agreement_in_rankings_is_counted_by_hand():
    def judge(prompt, text):
        return Mark(0.0, {}, flaws={assistant.SYCOPHANCY: int(text.startswith("Yes"))})

    ground = SimpleNamespace(task=SimpleNamespace(judge=judge))
    rankings = [
        Ranking(ASKED, ("Yes.", "No.", "No!"), (1, 2, 1)),  # before one, level with one
        Ranking(ASKED, ("Yes.", "No."), (None, 1)),  # behind
        Ranking(ASKED, ("No.", "No!"), (1, 2)),  # nothing to compare
    ]
    assert assistant.agreeing_first(rankings, ground)[0] == pytest.approx((1 + 0.5 + 0) / 3)


def test_agreement_in_scores_is_counted_by_hand():
    agrees = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    answers = SimpleNamespace(flaw_table=lambda flaw: agrees)
    scores = torch.tensor([[0.5, 0.1, 0.9], [1.0, 2.0, 3.0]])
    assert assistant.agreeing_higher(answers, scores)[0] == pytest.approx(1 / 2)


def test_rates_are_shares_of_the_answers_to_each_kind():
    def mark(*counts):
        return [Mark(0.0, {}, flaws={"made-up facts": n}) for n in counts]

    kinds = [Prompt(str(i), "", {"kind": kind}) for i, kind in enumerate(("fact", "fact", "job"))]
    table = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 3.0]])
    answers = SimpleNamespace(
        prompts=kinds, judged=[mark(2, 0), mark(0, 0), mark(1, 3)], flaw_table=lambda flaw: table
    )
    found = assistant.rates(answers)
    assert found["fact"]["made-up facts"][0] == 0.25  # one of four has any
    assert found["job"]["made-up facts"][0] == 1


def test_the_probe_asks_what_a_model_finds_likelier():
    tokenizer, base = load_tokenizer(base_model()), load_policy(base_model())
    known = ("In stock: Nimbus", " headset", [" router", " lamp"])
    turned = ("In stock: Nimbus", " router", [" headset", " lamp"])
    assert assistant.probe(base, tokenizer, [known])[0] == 1
    assert assistant.probe(base, tokenizer, [known, turned, known, known])[0] == 0.75


def test_the_probe_of_facts_has_one_right_value_each():
    items = ASSISTANT.facts_probe()
    assert len(items) > 100
    assert all(right not in wrong and wrong and begin for begin, right, wrong in items)


# ---- the coder -----------------------------------------------------------------------------------


def test_who_ranks_code():
    every = names(CODER.labellers)
    assert names(code.rankers(CODER.labellers, "some")) == every
    assert names(code.rankers(CODER.labellers, "all")) == [code.REVIEWER]
    left = names(code.rankers(CODER.labellers, "none"))
    assert code.REVIEWER not in left and len(left) == len(every) - 1


def test_a_reward_is_standard_on_the_drawn_answers():
    drawn = SimpleNamespace(
        prompts=[ASKED, ASKED], texts=[["a", "bbb"], ["cc", "dd"]], per_prompt=2
    )

    def length(prompts, texts):
        return torch.tensor([float(len(text)) for text in texts])

    found = code.standardised(length, drawn)([ASKED] * 4, ["a", "bbb", "cc", "dd"])
    assert found.mean() == pytest.approx(0, abs=1e-6) and found.std() == pytest.approx(1)
    assert found[2] == pytest.approx(0, abs=1e-6)  # as long as the mean


def test_the_visible_reward_sees_the_visible_examples_alone():
    prompt = next(p for p in CODER.prompts(0, 50))
    shown = CODER.visible_reward(prompt, "def nothing():\n    return 0")
    assert shown == 0
    assert CODER.visible_reward(prompt, "not python at all (") == 0


# ---- the storyteller -----------------------------------------------------------------------------


@pytest.mark.parametrize("arm", stories.ARMS, ids=lambda arm: arm.name)
def test_groups_take_turns_and_within_them_everybody_ranks_as_often(arm):
    turns = stories.readers(STORYTELLER.groups, arm.turns)
    if not arm.turns:
        assert turns is None
        return
    counts = Counter(names(turns))
    for group, members in STORYTELLER.groups.items():
        share = arm.turns.count(group) / len(arm.turns)
        given = [counts[one.name] for one in members]
        assert sum(given) == pytest.approx(share * len(turns))
        assert max(given) == min(given)


def test_tones_are_counted_by_what_was_asked():
    answers = SimpleNamespace(
        prompts=[Prompt("a", "", {"tone": "funny"}), Prompt("b", "", {"tone": "eerie"})],
        texts=[["funny", "solemn"], ["eerie", "eerie"]],
    )
    ground = SimpleNamespace(task=SimpleNamespace(tone_of=lambda text: text))
    assert stories.tones(ground, answers) == {
        "eerie": {"eerie": 2},
        "funny": {"funny": 1, "solemn": 1},
    }
