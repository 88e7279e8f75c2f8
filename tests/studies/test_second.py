"""The study of second opinions, in small."""

import json

import pytest

from rlhf_lab.cli import study as command
from rlhf_lab.disk.data import base_model
from rlhf_lab.models import load_policy, load_tokenizer, save_policy
from rlhf_lab.studies import second
from rlhf_lab.studies.ground import Ground

TINY = second.Arm("tiny", 3, 0.05, right=True, updates=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("second")
    patch.setattr(second, "MANY", 6)
    save_policy(load_policy(base_model()), load_tokenizer(base_model()), folder / "sft_0")
    ground = Ground(folder, demonstrations=8, prompts=20, batch_size=4, judged=3)
    learned, learn = [], Ground.learn

    def watched(self, rankings, drawn, seed, member=0, as_base=False):
        learned.append(([r.prompt.id for r in rankings], member, as_base))
        return learn(self, rankings, drawn, seed, member, as_base)

    patch.setattr(Ground, "learn", watched)
    yield ground, second.run_arm(ground, TINY, 0), learned
    patch.undo()


def test_the_second_ones_learn_from_other_prompts_and_begin_apart(run):
    ground, _, learned = run
    prompts = [p.id for p in ground.task.prompts(0, 20)]  # the first tenth is left out
    assert learned == [
        (prompts[2:5], 0, False),
        (prompts[8:11], 1, False),
        (prompts[8:11], 1, True),
        (prompts[8:14], 1, True),
    ]


def test_who_is_asked_and_what_they_say(run):
    ground, summary, _ = run
    asked = {"first", "second, as SFT", "second, as base", "second, as base, 6"}
    assert set(summary["change"]) == set(summary["wins"]) == asked | {"judge"}
    assert set(summary["known"]) == asked
    change, mark = summary["change"]["judge"], summary["mark"]
    assert change[0] == pytest.approx(mark["policy"][0] - mark["sft"][0], abs=1e-5)
    assert summary["sd"] == pytest.approx(float(ground.rivals(0).mark_table().std()))
    assert all(0 <= share[0] <= 1 for share in (summary["wins"] | summary["known"]).values())
    assert second.run_arm(ground, TINY, 0) == json.loads(json.dumps(summary))


def test_the_command_says_what_changed():
    assert list(command.arms_of("second")) == [arm.name for arm in second.ARMS]
    summary = {"change": {"judge": (-2.0, -3, -1), "first": (1.5, 1, 2)}, "kl": (30.0, 20, 40)}
    assert command.line("60 rankings, beta 0", 1, summary) == (
        "60 rankings, beta 0, seed 1: judge -2.00, first +1.50 at 30.0 nats"
    )
