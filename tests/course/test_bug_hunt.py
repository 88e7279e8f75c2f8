"""The bug hunt: the key fits the recorded runs, every fault is found by the measurement that the
notebook names and by no other, and a diagnosis is answered without telling the solution."""

import gzip

import pytest
import torch

from rlhf_lab import maths
from rlhf_lab.course.bug_hunt import alarms_of, overview, recorded_runs, token_row
from rlhf_lab.course.diagnosis import (
    CHOICES,
    EVIDENCE,
    MEASUREMENTS,
    SHOWS,
    diagnose,
    measured,
    verdict,
)
from rlhf_lab.course.exercises import nb05b_bug_hunt as checks
from rlhf_lab.disk.data import data_folder
from rlhf_lab.errors import UserError
from rlhf_lab.studies.bug_hunt import ARMS, BETA, DROPOUT, END, HEALTHY, LABELS, PLACE, RETURNS

BOTH = [recorded_runs(seed=seed) for seed in (0, 1)]
RUNS = BOTH[0]
KEY = {arm.name: arm.fault for arm in ARMS}
each = pytest.mark.parametrize("name", RUNS)
either = pytest.mark.parametrize("seed", (0, 1))


def of(seed, fault):
    """The run with this fault and seed."""
    [name] = [arm.name for arm in ARMS if arm.fault == fault]
    return BOTH[seed][name]


# ---- the key fits the data -----------------------------------------------------------------------


@each
@either
def test_only_the_measurement_of_its_fault_is_off(name, seed):
    run = BOTH[seed][name]
    off = [what for what, one in MEASUREMENTS.items() if not one.fine(one.of(run))]
    assert off == ([] if KEY[name] == HEALTHY else [SHOWS[KEY[name]]])


@either
def test_every_reading_is_far_from_the_border(seed):
    table = measured(BOTH[seed])
    for fault, column in SHOWS.items():
        others = table[column].drop([of(seed, fault).name] if fault != LABELS else [])
        if column in ("first log-ratio", "bill", "last return"):
            assert others.max() < 3e-4
            assert table.loc[of(seed, fault).name, column] > 0.1
        elif fault == END:
            assert others.min() == 1 and table.loc[of(seed, fault).name, column] < 0.1


@either
def test_with_the_wrong_sign_the_kl_is_paid_out_and_grows(seed):
    run = of(seed, BETA)
    for record in run.metrics:
        price = 0.05 * record["objective/kl"]
        assert record["objective/rlhf_reward"] == pytest.approx(
            record["objective/scores"] + price, abs=1e-3
        )
    late = {
        name: sum(r["objective/kl"] for r in some.metrics[-5:]) / 5
        for name, some in BOTH[seed].items()
    }
    assert late.pop(run.name) > 100 and max(late.values()) < 10


@either
def test_the_score_stands_one_token_early_in_every_recorded_response(seed):
    some = of(seed, PLACE).batch
    names = ("reward", "logprob", "ref_logprob", "mask")
    found = checks.score_position(*(some[name] for name in names), 0.05)
    assert found.tolist() == [1] * len(found)


@either
def test_the_returns_are_whitened_advantages_and_values(seed):
    run = of(seed, RETURNS)
    some, healthy = run.batch, of(seed, HEALTHY).batch
    torch.testing.assert_close(
        some["return"], (some["advantage"] + some["value"]) * some["mask"], atol=1e-3, rtol=1e-3
    )
    _, returns = maths.gae(healthy["reward"], healthy["value"], healthy["mask"])
    torch.testing.assert_close(healthy["return"], returns, atol=1e-3, rtol=1e-3)
    assert run.metrics[-1]["loss/value_avg"] == pytest.approx(0.5, abs=0.02)
    lengths = {
        name: sum(r["response/length"] for r in some.metrics[-5:])
        for name, some in BOTH[seed].items()
    }
    assert min(lengths, key=lengths.get) == run.name


@either
def test_with_dropout_training_reads_other_numbers_than_the_sampler_stored(seed):
    run = of(seed, DROPOUT)
    others = [some for name, some in BOTH[seed].items() if name != run.name]
    assert run.metrics[0]["val/log_ratio_first"] > 1
    assert max(some.metrics[0]["val/log_ratio_first"] for some in others) < 1e-3
    late = [sum(r["policy/clipfrac_avg"] for r in some.metrics[-5:]) / 5 for some in others]
    assert min(r["policy/clipfrac_avg"] for r in run.metrics) > 0.02 > 2 * max(late)


@either
def test_the_sampler_runs_past_the_end_token(seed):
    rows = of(seed, END).tokens
    assert (rows.groupby("row").size() == 64).all()
    assert (rows["text"] == "<|endoftext|>").any()


@either
def test_alarms_are_raised_where_the_notebook_says(seed):
    raised = {fault: list(alarms_of(of(seed, fault))["alarm"]) for fault in KEY.values()}
    assert "ratio-not-one" in raised[DROPOUT] and "responses-never-end" in raised[END]
    assert "kl-runaway" in raised[BETA] and raised[PLACE] == []
    assert raised[HEALTHY] == (["reward-flat"] if seed == 0 else [])


def test_what_curves_suggest_does_not_come_again_with_another_seed():
    """The run with the score in the wrong place ends above the healthy one, with longer responses;
    with the other seed below it, with shorter ones."""
    for metric in ("objective/scores", "judge/mark", "response/length"):
        late = [
            [sum(r[metric] for r in of(seed, fault).metrics[-5:]) for fault in (PLACE, HEALTHY)]
            for seed in (0, 1)
        ]
        assert late[0][0] > late[0][1] and late[1][0] < late[1][1]


def test_no_recorded_file_names_a_fault():
    for path in (data_folder() / "bug_hunt").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
            assert not any(fault in text for fault in CHOICES)


# ---- diagnoses -----------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("fault", CHOICES)
def test_a_wrong_diagnosis_is_excluded_and_the_right_one_not_told(name, fault):
    text = verdict(RUNS[name], fault, "curves")
    others = {*CHOICES, *EVIDENCE} - {fault, "answers", "alarms", "curves", SHOWS.get(fault)}
    if fault == KEY[name]:
        assert text.startswith(
            "yes" if fault == HEALTHY else "you named the right fault, but curves"
        )
    elif fault == HEALTHY:
        assert text.startswith("something is wrong") and not any(repr(x) in text for x in others)
    else:
        assert text.startswith(f"excluded by the measurement {SHOWS[fault]!r}")
        assert not any(repr(other) in text for other in others)


@each
def test_only_the_measurement_that_shows_a_fault_is_accepted_as_evidence(name):
    fault = KEY[name]
    if fault == HEALTHY:
        return
    accepted = [e for e in EVIDENCE if verdict(RUNS[name], fault, e).startswith("yes: ")]
    assert accepted == [SHOWS[fault]]
    assert "Name the evidence" in verdict(RUNS[name], fault)


def test_what_is_not_there_to_choose_is_refused_with_what_is(capsys):
    diagnose(RUNS["run A"])
    assert capsys.readouterr().out.startswith("run A: not diagnosed yet")
    with pytest.raises(UserError, match="no fault 'gremlins': choose from"):
        diagnose(RUNS["run A"], "gremlins")
    with pytest.raises(UserError, match="no evidence 'a feeling': choose from"):
        diagnose(RUNS["run A"], LABELS, "a feeling")


# ---- what the notebook uses ----------------------------------------------------------------------


@each
def test_a_batch_is_the_token_table_and_is_0_on_padding(name):
    run = RUNS[name]
    some = run.batch
    lengths = run.tokens.groupby("row").size()
    assert some["mask"].sum(1).tolist() == lengths.tolist()
    assert some["reward"].shape == some["mask"].shape == (len(lengths), lengths.max())
    assert not some["reward"][~some["mask"]].any()
    row = token_row(run, 1, last=3)
    place = int(lengths[1])
    torch.testing.assert_close(
        torch.tensor(row["value"].tolist()), some["value"][1, place - 3 : place], atol=1e-3, rtol=0
    )
    with pytest.raises(UserError, match=r"no row 99: .* has rows 0 to 5"):
        token_row(run, 99)


def test_the_overview_has_a_column_for_each_run_and_one_scale_along_a_row():
    axes = overview(RUNS).axes
    assert [a.get_title(loc="left") for a in axes[: len(RUNS)]] == list(RUNS)
    for start in range(0, len(axes), len(RUNS)):
        assert len({a.get_ylim() for a in axes[start : start + len(RUNS)]}) == 1


def test_a_missing_run_is_told_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(UserError, match=r"no run A of seed 3 in .*rlhf-lab study bug_hunt"):
        recorded_runs(tmp_path, seed=3)
