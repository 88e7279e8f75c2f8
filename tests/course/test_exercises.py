"""The exercises' checks: right answers, usual mistakes, odd answers, the notebooks' own cells."""

import functools
import linecache
import re
from pathlib import Path

import answers_04
import nbformat
import pandas as pd
import pytest
import torch

from rlhf_lab import intervals, maths
from rlhf_lab.compare.measure import paired
from rlhf_lab.course.exercises import check
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
from rlhf_lab.course.exercises.examine import judge, recognise
from rlhf_lab.sequences import Sequences
from rlhf_lab.studies.overoptimisation import overoptimisation
from rlhf_lab.tasks.film_reviews import rated_pairs
from rlhf_lab.tasks.film_reviews.ratings_file import Sentence
from rlhf_lab.tasks.phrases import find

EXERCISES = {
    exercise.name: exercise
    for exercise in (
        tour.WIN_SHARE,
        tour.BEST_OF_N_MARK,
        feedback.PREFERRED,
        feedback.AGREEMENT,
        sft.LABEL_MASK,
        sft.SEQUENCE_LOGPROB,
        reward.PAIR_LOSS,
        reward.KWISE_LOSS,
        reward.PAIR_ACCURACY,
        ppo_rewards.KL_REWARDS,
        ppo_advantages.GAE,
        ppo_losses.WHITEN,
        ppo_losses.CLIPPED_POLICY_LOSS,
        ppo_losses.CLIPPED_VALUE_LOSS,
        microscope.CLIPPED_TOKENS,
        microscope.RESPONSE_KL,
        bug_hunt.FIRST_RATIO_CHECK,
        bug_hunt.SCORE_POSITION,
        bug_hunt.LAST_RETURN_GAP,
        hacking.FOOLED,
        hacking.MARK_AT_KL,
        fits.FALLEN,
        fits.BEST_OF_N_VALUE,
        rounds.CLUSTERED_INTERVAL,
        rounds.PAIRED_DIFFERENCE,
        roads.RLOO_ADVANTAGES,
        roads.DPO_LOSS,
        constitution.RANK_BY_RULES,
        constitution.PROMISES,
        scaling.PIECE_LOSSES,
        scaling.BEST_ACCURACY,
        reading.DRAW,
        reading.TOKEN_LOGPROBS,
        reading.SCORE_AND_READ,
        learning.SHAPED_REWARDS,
        learning.ADVANTAGES_AND_RETURNS,
        learning.PPO_LOSS,
        loop.IMPROVE,
        loop.MY_PPO,
    )
}
MISTAKES = [
    pytest.param(exercise, mistake, id=f"{name}-{number}")
    for name, exercise in EXERCISES.items()
    for number, mistake in enumerate(exercise.mistakes)
]
NOTEBOOKS = sorted(Path(__file__).parents[2].glob("notebooks/*.ipynb"))


@pytest.mark.parametrize("name", EXERCISES)
def test_the_right_function_is_right_and_earns_nothing_if_it_is_the_labs(name, capsys):
    result = judge(EXERCISES[name], EXERCISES[name].right)
    assert result.right and result.attempted
    assert result.text.startswith("Right. ") and "\n" not in result.text
    _, borrowed = loop.STEPS.get(name, (None, EXERCISES[name].right))
    for some in (borrowed, lambda *given: borrowed(*given), functools.partial(borrowed)):
        result = getattr(check, name)(some)
        assert not result.right and "of the lab. Write these lines yourself" in result.text
        assert capsys.readouterr().out == result.text + "\n"


ALIASES = {
    "gae": lambda *given: maths.gae(*given),
    "kl_rewards": maths.kl_rewards,
    "whiten": lambda x, mask: (lambda twin: twin(x, mask))(maths.whiten),
    "clipped_policy_loss": maths.clipped_policy_loss,
}


@pytest.mark.parametrize("name", ALIASES)
def test_the_packages_twin_under_another_name_earns_nothing(name):
    assert f"It calls {name} of the lab" in getattr(check, name)(ALIASES[name]).text


@pytest.mark.parametrize("exercise, mistake", MISTAKES)
def test_every_usual_mistake_is_told_by_its_own_sentence(exercise, mistake):
    result = judge(exercise, exercise.written(mistake))
    assert not result.right and result.text.startswith("Not yet. ")
    assert mistake.sentence in result.text


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
def test_there_is_a_check_for_each_exercise_and_no_two_sentences_are_alike(exercise):
    assert callable(getattr(check, exercise.name))
    sentences = [mistake.sentence for mistake in exercise.mistakes]
    assert len(set(sentences)) == len(sentences)
    right = [exercise.right(*case.inputs.values()) for case in exercise.cases]
    assert recognise(exercise, right, right) == ()


# ---- cases ---------------------------------------------------------------------------------------

WITH_GRADIENT = [exercise for exercise in EXERCISES.values() if exercise.gradient]
MASKED = [exercise for exercise in EXERCISES.values() if exercise.mask]


def _gradient_at(exercise, inputs):
    leaves = {**inputs, exercise.gradient: inputs[exercise.gradient].clone().requires_grad_()}
    exercise.right(*leaves.values()).sum().backward()
    return leaves[exercise.gradient].grad


@pytest.mark.parametrize(
    "exercise, case",
    [
        pytest.param(exercise, case, id=f"{exercise.name}-{case.name}")
        for exercise in WITH_GRADIENT
        for case in exercise.cases
    ],
)
def test_no_case_lies_on_a_kink(exercise, case):
    """Each number moved by a little moves the gradient by a little: it does not jump."""
    before = _gradient_at(exercise, case.inputs)
    for name, x in case.inputs.items():
        floats = isinstance(x, torch.Tensor) and x.is_floating_point()
        if not floats and not isinstance(x, float):
            continue
        nudges = torch.eye(x.numel()).view(-1, *x.shape) if floats else [1.0]
        for nudge in nudges:
            for step in (1e-3, -1e-3):
                after = _gradient_at(exercise, {**case.inputs, name: x + step * nudge})
                assert (after - before).abs().max() < 0.02 * max(before.abs().max(), 1e-9)


@pytest.mark.parametrize("exercise", MASKED, ids=[exercise.name for exercise in MASKED])
def test_a_masked_exercise_has_the_cases_at_the_edge(exercise):
    """A row without padding, padding beside it that holds nan and inf, and both kinds of row."""
    masks = [case.inputs[exercise.mask] for case in exercise.cases]
    assert any(mask.all(1).any() for mask in masks[:-1]) or masks[0].shape[0] == 1
    assert any((mask[:, -1] & ~mask.all(1)).any() or mask.all(1).any() for mask in masks)
    floats = [
        x
        for case in exercise.cases
        for x in case.inputs.values()
        if isinstance(x, torch.Tensor) and x.is_floating_point()
    ]
    assert any(x.isnan().any() for x in floats) and any(x.isinf().any() for x in floats)
    for case in exercise.cases:  # what stands there moves nothing
        answer = exercise.right(*case.inputs.values())
        parts = answer if isinstance(answer, tuple) else (answer,)
        assert all(part.isfinite().all() for part in parts)


def test_padding_may_be_the_end_token_wherever_there_are_tokens():
    assert any(case.inputs["end_id"] == case.inputs["pad_id"] for case in sft.LABEL_MASK.cases)
    tokens, mask = (
        next(
            case.inputs[name]
            for case in sft.SEQUENCE_LOGPROB.cases
            if case.name == "padding that has the id of the end token"
        )
        for name in ("tokens", "mask")
    )
    assert set(tokens[~mask & (torch.arange(5) > 2)].tolist()) == {sft.END}


# ---- odd answers ---------------------------------------------------------------------------------

GAE, LOSS, MASK = ppo_advantages.GAE, ppo_losses.CLIPPED_POLICY_LOSS, sft.LABEL_MASK
TEXT, RANKS = constitution.PROMISES, constitution.RANK_BY_RULES


def _in_place(rewards, values, mask, gamma, lam):
    rewards *= mask
    return GAE.right(rewards, values, mask, gamma, lam)


def _crash(*inputs):
    return {}["no such key"]


def _stub(*inputs):
    raise NotImplementedError("your lines go here")


ODD = {
    "returns nothing": (GAE, lambda *x: None, "does it end with a return?"),
    "one of two": (
        GAE,
        lambda *x: GAE.right(*x)[0],
        "Return 2 tensors, advantages and returns, in this order; you return a "
        "tensor of shape (1, 3).",
    ),
    "one is a number": (
        GAE,
        lambda *x: (GAE.right(*x)[0], 1.0),
        "Your returns is one number; it should be a tensor of shape (1, 3).",
    ),
    "a list": (
        MASK,
        lambda *x: MASK.right(*x).tolist(),
        "is a list of 1; it should be a torch tensor",
    ),
    "numpy": (
        LOSS,
        lambda *x: LOSS.right(*x).numpy(),
        "no gradient flows through it: return the tensor",
    ),
    "a float": (
        LOSS,
        lambda *x: LOSS.right(*x).item(),
        "no gradient flows through it: return the tensor",
    ),
    "a shape": (LOSS, lambda *x: LOSS.right(*x)[None], "has shape (1,); it should be ()"),
    "integers": (MASK, lambda *x: MASK.right(*x).long(), "has dtype int64; it should be bool"),
    "nan": (LOSS, lambda *x: LOSS.right(*x) * float("nan"), "holds nan"),
    "infinity": (LOSS, lambda *x: LOSS.right(*x) + float("inf"), "holds an infinity"),
    "changes its input": (GAE, _in_place, "changes its input rewards in place"),
    "cuts the gradient": (
        LOSS,
        lambda *x: LOSS.right(*x).detach(),
        "no gradient flows through them to new_logprobs",
    ),
    "another gradient": (
        LOSS,
        lambda *x: LOSS.right(*x) + x[0][x[3]].sum() - x[0][x[3]].detach().sum(),
        "but not their gradient with respect to new_logprobs",
    ),
    "padding counts": (
        LOSS,
        lambda new, old, A, mask, epsilon: (
            LOSS.right(new, old, A, mask, epsilon) + A.mean() - A[mask].mean()
        ),
        "Values on padding change your answer",
    ),
    "padding is not 0": (
        GAE,
        lambda *x: tuple(y + 3 * ~x[2] for y in GAE.right(*x)),
        "It is right on the real tokens",
    ),
    "crashes": (GAE, _crash, "It stopped with KeyError: 'no such key'"),
    "takes other arguments": (GAE, lambda x: x, "It stopped with TypeError"),
    "is 1 or 0": (
        TEXT,
        lambda *x: int(TEXT.right(*x)),
        "Your answer is a value of type int; it should be True or False.",
    ),
    "is a tensor": (
        TEXT,
        lambda *x: torch.ones(()) > 0,
        "tensor of shape (); it should be True or False",
    ),
    "is no function": (GAE, torch.zeros(2), "Give the check the function itself, check.gae(gae)"),
}


@pytest.mark.parametrize("exercise, function, says", ODD.values(), ids=ODD)
def test_odd_answers_get_a_line_that_helps(exercise, function, says):
    result = judge(exercise, function)
    assert not result.right and result.attempted
    assert result.text.startswith("Not yet. ") and says in result.text


def _first_padding(scores, logprobs, ref_logprobs, mask, beta):
    rewards = -beta * (logprobs - ref_logprobs).masked_fill(~mask, 0)
    for b in range(len(scores)):
        rewards[b, (~mask[b]).nonzero()[0] - 1] += scores[b]
    return rewards


def _smallest_of_padding(scores, logprobs, ref_logprobs, mask, beta):
    rewards = -beta * (logprobs - ref_logprobs).masked_fill(~mask, 0)
    for b, row in enumerate(mask):
        rewards[b, row.logical_not().nonzero().min() - 1] += scores[b]
    return rewards


def _after_the_last(rewards, values, mask, gamma, lam):
    return [rewards[:, n] + gamma * values[:, n + 1] for n in range(rewards.shape[1])]


KL = ppo_rewards.KL_REWARDS
CRASHES = {
    "no padding in a full row": (KL, _first_padding, "A row of this input has no padding."),
    "a maximum of nothing": (KL, _smallest_of_padding, "the maximum or minimum of an empty tensor"),
    "a column too far": (GAE, _after_the_last, "there is no column mask.sum(1)"),
    "shapes": (roads.RLOO_ADVANTAGES, lambda r: r - r.mean(1), "x[:, None] turns (B,) into (B, 1)"),
    "a mean of bools": (tour.WIN_SHARE, lambda m, r: (m > r).mean(), "floats first, with .float()"),
    "argmax of bools": (
        sft.LABEL_MASK,
        lambda tokens, starts, end_id, pad_id: (tokens == end_id).argmax(1),
        "This function does not take True and False",
    ),
    "1 - mask": (LOSS, lambda *x: (1 - x[3]).sum(), "~mask negates a mask"),
    "if of a tensor": (
        LOSS,
        lambda new, old, A, mask, epsilon: -A if (A > 0) else A,
        "need a single True or False",
    ),
    "nothing in a list": (
        scaling.PIECE_LOSSES,
        lambda losses, mask, size: torch.stack([]),
        "A list that should hold tensors is empty",
    ),
    "fewer arguments": (LOSS, lambda new, old: new, "keep all of them, in this order"),
}


@pytest.mark.parametrize("exercise, function, says", CRASHES.values(), ids=CRASHES)
def test_an_error_is_explained(exercise, function, says):
    result = judge(exercise, function)
    assert not result.right and result.attempted
    assert "It stopped with " in result.text and says in result.text, result.text


def test_an_error_in_one_input_does_not_hide_a_mistake_in_the_others():
    def function(scores, logprobs, ref_logprobs, mask, beta):
        rewards = -beta * (logprobs - ref_logprobs).masked_fill(~mask, 0)
        rewards[torch.arange(len(scores)), mask.sum(1)] += scores
        return rewards

    text = judge(KL, function).text
    assert "It stopped with IndexError" in text and "The score is one column too far" in text


def test_nan_in_the_gradient_of_padding_is_told_to_an_answer_that_is_right():
    def function(new, old, A, mask, epsilon):
        ratio = (new - old).exp()
        return torch.maximum(-A * ratio, -A * ratio.clamp(1 - epsilon, 1 + epsilon))[mask].mean()

    result = judge(LOSS, function)
    assert result.right and "One more thing: where padding holds nan or inf" in result.text
    assert "One more thing" not in judge(LOSS, LOSS.right).text


def test_a_crash_names_the_line_of_the_cell():
    cell = "def gae(rewards, values, *others):\n    x = rewards + 1\n    return x / missing\n"
    names = {}
    exec(compile(cell, "<cell>", "exec"), names)
    linecache.cache["<cell>"] = (len(cell), None, cell.splitlines(True), "<cell>")
    text = judge(GAE, names["gae"]).text
    assert "NameError: name 'missing' is not defined\n" in text
    assert "in line 3 of your cell: return x / missing" in text


def test_an_answer_is_shown_beside_the_right_one():
    text = judge(GAE, GAE.written(GAE.mistakes[0])).text
    assert "rewards           [[-0.1, 0.05, 1.0]]" in text
    assert "your advantages   [[1.24, 1.2, 1.0]]" in text  # the last delta is 1.0 + 0.6 - 0.6
    assert "right advantages  [[0.6985, 0.63, 0.4]]" in text
    assert (
        "It differs on 5 of 5 inputs, of which this is the first (one response that fills its row):"
        in text
    )


def test_a_stub_is_told_in_one_line_that_it_is_one(capsys):
    result = check.gae(_stub)
    assert not result.right and not result.attempted
    assert capsys.readouterr().out == (
        "Not attempted yet: write gae in the cell above, run it, then run this check.\n"
    )


def test_a_result_adds_nothing_to_the_cell():
    from IPython.core.interactiveshell import InteractiveShell

    shown = InteractiveShell.instance().display_formatter.format(check.gae(GAE.right))
    assert shown == ({}, {})


def test_inputs_are_copies_and_stay_as_they_are():
    before = [{name: str(x) for name, x in case.inputs.items()} for case in GAE.cases]
    judge(GAE, _in_place)
    assert before == [{name: str(x) for name, x in case.inputs.items()} for case in GAE.cases]


def test_nbgrader_sees_a_failure(monkeypatch):
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    wrong, words = answers_04.WRONG["gae"][0]
    with pytest.raises(AssertionError, match=words):
        check.gae(wrong)
    with pytest.raises(AssertionError, match="Not attempted yet"):
        check.gae(_stub)
    assert check.gae(answers_04.RIGHT["gae"][0]).right


def test_the_label_mask_is_the_one_that_training_uses():
    prompts, responses = [[11, 12], [13, 14, 15]], [[21, 22, 1], [23, 1]]
    batch = Sequences.of_tokens(prompts, responses, pad_id=0)
    mask = MASK.right(batch.tokens, batch.starts, 1, 0)
    assert torch.equal(mask.sum(1), batch.mask.sum(1))
    assert torch.equal(batch.tokens[mask], batch.response_tokens[batch.mask])


def test_a_fall_is_the_one_that_the_study_reports():
    for case in fits.FALLEN.cases:
        run = pd.DataFrame({"judge/mark": case.inputs["marks"].tolist()})
        run[["arm", "seed", "update", "objective/kl"]] = 0
        [row] = overoptimisation(run, case.inputs["window"]).itertuples()
        assert fits.fallen(**case.inputs).item() == pytest.approx(row.fell, nan_ok=True)


def test_intervals_are_those_that_the_lab_reports():
    """With Student's t, which the lab takes in place of 1.96."""
    for exercise, lab in (
        (rounds.CLUSTERED_INTERVAL, intervals.interval),
        (rounds.PAIRED_DIFFERENCE, paired),
    ):
        for case in exercise.cases:
            found = exercise.right(*case.inputs.values(), times="t")
            assert [float(x) for x in found] == pytest.approx(lab(*case.inputs.values()))


def test_pieces_add_up_to_the_token_mean_of_the_lab():
    for case in scaling.PIECE_LOSSES.cases:
        losses, mask, _ = case.inputs.values()
        found = scaling.piece_losses(**case.inputs).sum()
        torch.testing.assert_close(found, maths.masked_mean(losses, mask))


def test_the_best_accuracy_is_the_ceiling_of_two_sentences():
    for case in scaling.BEST_ACCURACY.cases:
        pair = [
            Sentence(i, str(i), tuple(int(r) for r in given), sheet=i)
            for i, given in enumerate(case.inputs.values())
        ]
        flattered = rated_pairs.ceiling(pair).high.accuracy
        assert scaling.best_accuracy(**case.inputs).item() == pytest.approx(flattered)


DENIED = {
    "one word of a phrase",
    "parts of longer words",
    "denied",
    "denied two words before",
    "denied three words before",
    "denied four words before",
}


def test_ranks_and_promises_by_hand():
    ranks = [RANKS.right(*case.inputs.values()).tolist() for case in RANKS.cases]
    assert ranks == [[3, 1, 2], [1, 3, 1], [2, 4, 2, 1], [3, 1, 1], [4, 3, 1, 2, 5]]
    for checker in (TEXT.right, find):  # the package's checker agrees on these
        told = [bool(checker(*case.inputs.values())) for case in TEXT.cases]
        assert told == [case.name not in DENIED for case in TEXT.cases]


# ---- the notebooks -------------------------------------------------------------------------------


def _exercises_in(path: Path):
    """(notebook's name, imports, stub, check, solution) for each check in a notebook."""
    cells = nbformat.read(path, as_version=4).cells
    tags = [cell.metadata.get("tags", []) for cell in cells]
    imports = "\n".join(
        line
        for cell in cells
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if re.match(r"(import|from) ", line)
    )
    for i in (i for i, tag in enumerate(tags) if "check" in tag):
        stub = max((j for j in range(i) if "exercise" in tags[j]), default=None)
        solution = min((j for j in range(i, len(cells)) if "solution" in tags[j]), default=None)
        yield pytest.param(
            imports,
            stub is not None and cells[stub],
            cells[i],
            solution is not None and cells[solution],
            id=f"{path.stem}-{cells[i].id}",
        )


FOUND = [found for path in NOTEBOOKS for found in _exercises_in(path)]


@pytest.mark.parametrize("imports, stub, checked, solution", FOUND)
def test_an_exercise_in_a_notebook(imports, stub, checked, solution):
    """The stub is not attempted, and the solution written beneath it is right."""
    assert stub and solution, "a check needs a stub before it and a solution after it"
    assert stub.source.count("### BEGIN SOLUTION") == stub.source.count("### END SOLUTION") == 1
    assert stub.metadata.nbgrader.solution and not stub.metadata.nbgrader.grade
    assert checked.metadata.nbgrader.grade and checked.metadata.nbgrader.locked
    [code] = re.findall(r"```python\n(.*?)```", solution.source, re.DOTALL)
    for written, right in ((stub.source, False), (code, True)):
        names = {}
        exec(imports + "\n" + written, names)
        *before, last = checked.source.strip().splitlines()
        exec("\n".join(before), names)
        result = eval(last, names)
        assert result.right is right, result.text
        assert result.attempted is right, result.text


def test_grade_ids_are_unique():
    for path in NOTEBOOKS:
        ids = [
            cell.metadata.nbgrader.grade_id
            for cell in nbformat.read(path, as_version=4).cells
            if "nbgrader" in cell.metadata
        ]
        assert len(set(ids)) == len(ids)
