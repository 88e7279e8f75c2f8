"""Attempts at a reward: watched on the way, kept in a file, compared at equal KL."""

import copy

import pytest

from rlhf_lab.course.attempts import (
    CONFIG,
    WATCHED,
    Attempt,
    Attempts,
    Watch,
    at_kl,
    compared,
    load_attempts,
)
from rlhf_lab.course.own_reward import as_scorer
from rlhf_lab.disk.data import data_folder
from rlhf_lab.errors import UserError
from rlhf_lab.evaluate import respond
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.sampling import SamplingConfig

SHORT = SamplingConfig(max_new_tokens=6)
PROMPTS = [Prompt(str(i), f"say {i}:") for i in range(4)]


def attempt(title, kl, marks, scores=None, seed=1):
    """A run with one kl a look for all prompts; marks: for each look one number a prompt."""
    looks = [
        {"update": 3 * u, "kl": [k] * len(m), "marks": m, "scores": (scores or marks)[u]}
        for u, (k, m) in enumerate(zip(kl, marks))
    ]
    return Attempt(title, seed, looks)


def test_a_run_is_watched_and_its_answers_are_those_of_the_moment(gpt2, tokenizer):
    def letters(prompt, text):
        return len(text)

    judge = lambda prompt, text: Mark(float(len(text) % 11), {})  # noqa: E731
    scorer = as_scorer(letters, respond(gpt2, tokenizer, PROMPTS, 2, config=SHORT))
    reference = respond(gpt2, tokenizer, PROMPTS, config=SHORT)
    watch = Watch(copy.deepcopy(gpt2), tokenizer, PROMPTS, judge, 2, SHORT)
    run = Attempt("letters", 1)
    config = PPOConfig(updates=3, batch_size=4, max_new_tokens=6, learning_rate=1e-2)
    records = list(
        run.watch(train_ppo(gpt2, scorer, tokenizer, PROMPTS, config), gpt2, scorer, watch)
    )
    assert len(records) == 3
    assert [look["update"] for look in run.looks] == [0, 2, 3]
    assert run.table("kl")[0].abs().max() < 1e-4 < run.table("kl")[-1].mean()
    rows = run.samples(2)
    assert rows["prompt"].nunique() == 2 and len(rows) == 6
    first = rows[rows["update"] == 0]["response"].tolist()
    assert first == [text for [text] in reference.texts[:2]]
    assert run.table("scores")[0].tolist() == pytest.approx(
        scorer(PROMPTS, [text for [text] in reference.texts]), abs=1e-4
    )


def test_a_mark_at_equal_kl_lies_between_two_looks_for_every_prompt():
    run = attempt("a", [0.0, 0.5, 1.5, 0.9, 3.0], [[5, 9], [7, 8], [9, 4], [0, 0], [1, 1]])
    assert at_kl(run, 0.75).tolist() == pytest.approx([7.5, 7.0])
    assert at_kl(run, 1.5).tolist() == pytest.approx([9, 4])
    assert at_kl(run, 9.0).isnan().all()


def test_attempts_stand_beside_the_learned_reward_model_at_equal_kl():
    learned = [attempt("learned", [0.0, 2.0], [[4, 4, 4, 4], [m, m, m, m]], seed=m) for m in (8, 6)]
    mine = attempt("mine", [0.0, 1.0, 3.0], [[4] * 4, [6, 5, 6, 5], [3, 1, 2, 6]])
    near = attempt("near", [0.0, 0.2], [[4] * 4, [5] * 4])
    table = compared([mine, near], learned, kl=1.0)
    assert table.index.tolist() == [
        ("the SFT policy", "", ""),
        ("learned", "8", ""),
        ("learned", "6", ""),
        ("mine", "1", "1"),
        ("near", "1", "2"),
    ]
    assert table["mark at the end"].tolist()[0] == "4.0 ± 0.0"
    assert table["mark at 1 nats"].tolist()[:3] == ["", "6.0 ± 0.0", "5.0 ± 0.0"]
    own, close = table.iloc[3], table.iloc[4]
    # 5.5 with a standard deviation of .577, four prompts: t = 3.182; the two learned runs have 5.5
    assert own["mark at 1 nats"] == "5.5 ± 0.9" and own["minus the learned one's"] == "+0.0 ± 0.9"
    assert own["KL at the end"] == "3.0" and own["mark at the end"] == "3.0 ± 3.4"
    assert close["mark at 1 nats"] == close["minus the learned one's"] == "not reached"


def test_a_run_with_nan_is_refused_and_the_others_stay(tmp_path):
    kept = Attempts(tmp_path / "a.jsonl")
    kept.add(attempt("fine", [0.0, 1.0], [[5, 5], [6, 6]]))
    with pytest.raises(UserError, match="not finite"):
        kept.add(attempt("odd", [0.0, float("nan")], [[5, 5], [6, 6]]))
    assert [one.title for one in kept.load()] == ["fine"]


def test_fooled_prompts_are_counted_from_the_first_look_to_the_last():
    marks, scores = (
        [[5, 5, 5, 5], [9, 9, 1, 1], [4, 6, 4, 6]],
        [[0.0] * 4, [0.0] * 4, [1, 1, -1, 1]],
    )
    run = attempt("mine", [0.0, 1.0, 2.0], marks, scores)
    learned = [attempt("learned", [0.0, 2.0], [[5] * 4, [6] * 4])]
    assert compared([run], learned)["fooled"].tolist() == ["", "0%", "25%"]


def test_the_learners_formulas_make_the_table():
    learned = [attempt("learned", [0.0, 2.0], [[4, 4], [8, 8]])]
    table = compared([], learned, mark_at_kl=lambda kl, marks, k: 7.0, fooled=lambda *given: 0.5)
    assert table.iloc[1]["mark at 1 nats"] == "7.0 ± 0.0" and table.iloc[1]["fooled"] == "50%"


def test_attempts_on_other_prompts_are_refused():
    learned = [attempt("learned", [0.0, 2.0], [[4, 4], [8, 8]])]
    with pytest.raises(UserError, match="attempt 1 \\(mine\\) answered 3 prompts"):
        compared([attempt("mine", [0.0, 2.0], [[4] * 3, [8] * 3])], learned)


def test_attempts_stay_in_a_file_and_none_is_kept_twice(tmp_path):
    file = tmp_path / "runs" / "attempts.jsonl"
    attempts = Attempts(file)
    assert attempts.load() == []
    one, other = (attempt("mine", [0.0, k], [[4, 4], [8, 8]]) for k in (1.0, 2.0))
    for each in (one, other, one):
        attempts.add(each)
    assert Attempts(file).load() == [one, other]
    assert "answers" not in file.read_text()


@pytest.mark.parametrize(
    "looks, rest",
    [
        ("0", ""),
        ("[]", ', "more": 2'),
        ('[{"update": 0}]', ""),
        ('[{"update": 0, "kl": [1], "marks": [2, 3], "scores": []}]', ""),
        ('[{"update": "0", "kl": [1], "marks": [2], "scores": [3]}]', ""),
        ('[{"update": 0, "kl": [1], "marks": ["2"], "scores": [3]}]', ""),
    ],
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path, looks, rest):
    line = f'{{"title": "a", "seed": 1, "looks": {looks}{rest}}}'
    file = tmp_path / "attempts.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(UserError, match="line 1"):
        Attempts(file).add(attempt("mine", [0.0, 1.0], [[4, 4], [8, 8]]))
    assert file.read_text() == line + "\n"


def test_the_shipped_runs_are_trained_and_watched_as_the_notebook_does():
    learned = load_attempts(data_folder() / "own_reward" / "learned.jsonl")
    assert [run.seed for run in learned] == [1, 2, 3] and CONFIG.seed == 1
    for run in learned:
        assert run.table("marks").shape[1] == WATCHED
        assert [look["update"] for look in run.looks] == [0, 4, 8, 12, CONFIG.updates]
        assert run.looks[0] == learned[0].looks[0]  # the same SFT policy
        assert run.table("kl")[0].abs().max() < 1e-3
