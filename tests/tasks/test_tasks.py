"""The tasks: what is drawn from them, what is kept apart, and the simulated labellers."""

import hashlib
import inspect
import re
import statistics
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import tiny_task
from helpers import refusal
from tiny_task import ColourTask

from rlhf_lab.errors import UserError
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.runs.pretrain import Mixture
from rlhf_lab.tasks import TASKS, Task, load_task
from rlhf_lab.tasks.folder import read_folder
from rlhf_lab.tasks.labellers import Guidelines, Labeller, ranks_of
from rlhf_lab.tasks.support_desk import SupportDesk, grammar

DESK = SupportDesk()
EVERY = [*map(load_task, TASKS), ColourTask()]
HELD_OUT = DESK.held_out()
FROZEN = {  # sha256 of the held-out prompts of a task: the main set, and those apart
    "support_desk": (
        "7d3bfab81510bc888742fb51200a7b8d85e97bd2a667a619cd5b61090dadc108",
        "f634113e657fd58c390e8df6c960cf68996b48077683f52b7ac98f5a42062d2a",
    ),
    "assistant": (
        "e543277b8fd119d2df58a8c69dd6cd2f56a965d5bd0e67bac8272570f9063bd8",
        "1764d0a052cb299e31412c31e4acebcfc62ea9cd7517e18dbbddfb5a74e30bb7",
    ),
    "code": (
        "e01fa861b2e1b7b461dd57fb14dc1ce56c2fdd614459e7a2ffe7bc51e19725ac",
        "5abbead954758e973011db8e4497c80d5d4b76b29c372c6b8ca0d7f94443fcf6",
    ),
    "stories": (
        "34f6971192337ebf399f3ebba741fac93bebe143c0dd95d8e049768231d35d65",
        "a224c989786f8100f586f88f2d24720787791e35de2ce06f243ac43b078c47a2",
    ),
}
TAILS = {  # odd endings, so that a judge has to choose among several reasons
    "support_desk": " Wipe the contacts. Turn off the child lock and equaliser.",
    "assistant": " Put salt on it. The moff eats moths or snails.",
    "code": "\n    return {3, 'b', 1}",
    "stories": " Then Milo the owl and Nils the cat came, and a ghost, and a pickle.",
}


# ----------------------------------------------------------------------- every task keeps its word


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_a_task_has_all_that_the_pipeline_asks_of_it(task):
    for name, wanted in inspect.getmembers(Task, inspect.isfunction):
        if not name.startswith("_"):
            given = inspect.signature(getattr(task, name))
            assert list(given.parameters) == list(inspect.signature(wanted).parameters)[1:]
    assert task.name and all(isinstance(labeller, Labeller) for labeller in task.labellers)
    prompt = next(iter(task.held_out().values()))[0]
    mark = task.judge(prompt, "It is red.")
    assert isinstance(prompt, Prompt) and isinstance(mark, Mark)
    assert all(set(labeller.weights) <= set(mark.rubric) for labeller in task.labellers)
    assert all(labeller.unchecked in {"", *mark.rubric} for labeller in task.labellers)
    assert set(task.truth) | set(task.manner) <= set(mark.rubric)
    assert not set(task.truth) & set(task.manner)
    assert isinstance(task.guidelines, Guidelines) and task.guidelines.text.strip()


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_a_message_gets_the_form_that_prompts_have(task):
    before, after = task.prompt_of("What now? {0} %s").split("What now? {0} %s")
    prompts = task.prompts(0, 50) + next(iter(task.held_out().values()))
    assert all(p.text.startswith(before) and p.text.endswith(after) for p in prompts)


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
@pytest.mark.parametrize("draw", ["raw_text", "demonstrations", "prompts"])
def test_a_seed_gives_the_same_and_another_seed_gives_others(task, draw):
    first, again, other = (getattr(task, draw)(seed, 50) for seed in (3, 3, 4))
    assert len(first) == 50 and first == again != other


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_held_out_prompts_never_occur_elsewhere(task):
    held_out = {prompt.text for prompts in task.held_out().values() for prompt in prompts}
    seen = {p.text for p in task.prompts(0, 3000)}
    seen |= {d.prompt.text for d in task.demonstrations(0, 3000)}
    assert held_out and not held_out & seen
    raw = "\n\n".join(task.raw_text(0, 2000) + task.raw_text(0, 2000, late=True))
    assert not [text for text in held_out if text in raw]


@pytest.mark.parametrize("task", EVERY, ids=lambda task: task.name)
def test_ids_name_one_prompt_each(task):
    prompts = [p for listed in task.held_out().values() for p in listed] + task.prompts(0, 400)
    assert len({p.id for p in prompts}) == len(prompts)


@pytest.mark.parametrize("name", TASKS)
def test_the_held_out_prompts_are_frozen(name):
    held_out = load_task(name).held_out()
    texts = [[prompt.text for prompt in prompts] for prompts in held_out.values()]
    assert list(held_out) == ["held-out", "apart"] and list(map(len, texts)) == [500, 150]
    found = [hashlib.sha256("\n\n".join(listed).encode()).hexdigest() for listed in texts]
    assert tuple(found) == FROZEN[name]


@pytest.mark.parametrize("name", TASKS)
def test_marks_and_reasons_do_not_hang_on_the_process(name):
    code = (
        f"from rlhf_lab.tasks import load_task; t = load_task({name!r})\n"
        "for p, r in ((x.prompt, x.response) for x in t.demonstrations(3, 60)): "
        f"print(t.judge(p, r + {TAILS[name]!r}))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    ]
    assert outputs[0] == outputs[1] and outputs[0].count("Mark(") == 60


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("facts", [{}, {"kind": "fact", "job": "none", "tone": "loud"}])
def test_a_prompt_of_no_task_is_refused_in_one_line_or_marked_with_a_reason(name, facts):
    task = load_task(name)
    prompt = Prompt("typed", task.prompt_of("What is love?"), facts)
    assert f"the task {name}" in refusal(task.judge, prompt, "def f(x):\n    return x")
    if name == "code":  # what is not Python fails whatever was asked
        assert task.judge(prompt, "It is love.").reasons == ("is not Python",)


def test_a_mixture_reads_as_much_of_each_task():
    alone, both = Mixture([DESK]), Mixture([DESK, ColourTask()])
    assert alone.raw_text(5, 30, late=True) == DESK.raw_text(5, 30, late=True)
    texts = both.raw_text(5, 30)
    assert sorted(texts) == sorted(DESK.raw_text(5, 15) + ColourTask().raw_text(5, 15))
    assert texts == both.raw_text(5, 30) != both.raw_text(6, 30)
    first = [text in DESK.raw_text(5, 15) for text in texts]
    assert any(first[:8]) and not all(first[:8]) and len(both.raw_text(5, 7)) == 7


def test_a_task_takes_some_fifty_lines():
    assert len(Path(tiny_task.__file__).read_text("utf-8").splitlines()) < 70


def test_a_task_is_loaded_by_name():
    assert load_task("support_desk").name == "support_desk"
    with pytest.raises(UserError, match="no task called 'chess'"):
        load_task("chess")


def test_the_tiny_judge_marks_by_hand():
    prompt = ColourTask().held_out()["held-out"][0]
    assert prompt.facts["colour"] == "red"
    judge = ColourTask().judge
    assert judge(prompt, "It is red.").mark == 10
    assert judge(prompt, "It has the colour red, I think.").mark == 8
    assert judge(prompt, "It is blue.").mark == 2
    assert judge(prompt, "It is red or blue.").rubric == {"right": 0.0, "short": 0.0}
    assert judge(prompt, "").mark == 0


# ----------------------------------------------------------------------- the files of a folder

PROMPT = b"prompt\nWhere is my parcel?\n"


@pytest.mark.parametrize(
    ("prompts", "shown", "says"),
    [
        (
            b"Prompt \nWhere is it?\n",
            b"",
            "p.csv, row 1: .* in the file, rename 'Prompt ' to 'prompt'",
        ),
        (b"question\nWhere is my parcel?\n", b"", "p.csv, row 1: .*; rename them in the file$"),
        (
            b"prompt,response,completion\na,b,c\n",
            b"",
            "p.csv, row 1: .*: keep the columns of one of them$",
        ),
        (
            b"prompt,by\nWhere?,Ann\n ,Ann\n",
            b"",
            "p.csv, row 2, field 'prompt': .* leave the row out$",
        ),
        (
            b"prompt,by\nWhere is it, please?,Ann\n",
            b"",
            "p.csv, row 1: 3 cells under a header of 2",
        ),
        (b"PK\x03\x04 and so on", b"", "p.csv is a workbook .* save the sheet as CSV"),
        (PROMPT, b'{"prompt": "Where?", "answer": "Here."}\n', "d.jsonl, line 1: .* in the file$"),
        (PROMPT, b'{"prompt": "Who?", "response": null}\n', "d.jsonl, line 1, field .*: is null"),
    ],
)
def test_errors_in_a_tasks_files_advise_no_option_it_refuses(tmp_path, prompts, shown, says):
    (tmp_path / "p.csv").write_bytes(prompts)
    (tmp_path / "d.jsonl").write_bytes(shown)
    (tmp_path / "task.toml").write_text(
        'name = "tea"\nprompts = "p.csv"\ndemonstrations = "d.jsonl"\n'
    )
    task = read_folder(tmp_path)
    with pytest.raises(UserError, match=says) as caught:
        task.demonstrations() if shown else task.prompts()
    assert not re.search("--|skip_bad|columns=|layout=", str(caught.value))


# ------------------------------------------------------------------------- the support desk's text


def combination(prompt):
    return prompt.facts["product"], prompt.facts["problem"]


def test_held_out_combinations_are_never_drawn_for_training():
    kept = {combination(p) for prompts in HELD_OUT.values() for p in prompts}
    drawn = {combination(p) for p in DESK.prompts(0, 5000)}
    drawn |= {combination(d.prompt) for d in DESK.demonstrations(0, 5000)}
    assert len(kept) > 50 and not kept & drawn
    assert len(drawn) == len(DESK.world.combinations(held_out=False))
    assert len(kept) == len(DESK.world.combinations(held_out=True))


def test_raw_text_never_asks_about_a_held_out_combination(monkeypatch):
    asked = []
    question = grammar.question

    def listen(world, rng, product, problem, apart=False):
        asked.append((product, problem))
        return question(world, rng, product, problem, apart)

    monkeypatch.setattr(grammar, "question", listen)
    DESK.raw_text(0, 2000), DESK.raw_text(0, 2000, late=True)
    assert len(asked) > 4000
    assert not set(asked) & set(DESK.world.combinations(held_out=True))


def test_phrasings_apart_are_in_no_training_text_and_in_no_other_set():
    training = "\n".join(
        DESK.raw_text(0, 4000) + [p.text for p in DESK.prompts(0, 4000) + HELD_OUT["held-out"]]
    ).lower()
    for product in DESK.world.products:
        training = training.replace(str(product).lower(), "{p}")
    known = DESK.world.problems["power"].asks[0]
    assert known in training  # so that the search below would find what is there
    for problem in DESK.world.problems.values():
        assert not any(apart.lower() in training for apart in problem.apart)


def test_contractions_break_no_word():
    text = "\n".join(DESK.raw_text(0, 4000) + [p.text for p in DESK.prompts(0, 4000)])
    assert "n't " in text and not re.findall(r"\w*n't\w+", text)


@pytest.mark.parametrize("writer", grammar.FORUM)
def test_an_archived_thread_is_ticked_as_the_judge_would(writer):
    rng = Random(writer)
    for _ in range(60):
        asked = grammar.prompt(DESK.world, rng, *rng.choice(DESK.world.combinations(False)))
        said, solved = grammar.response_and_outcome(
            DESK.world, rng, *grammar.facts_of(DESK.world, asked), writer
        )
        rubric = DESK.judge(asked, said).rubric
        right = rubric["helpful"] >= 0.5 and (rubric["accurate"] >= 0.5 or writer == "promising")
        assert solved == right, (asked.text, said)  # a promise makes a right step no less right


def test_the_workshop_says_what_helped():
    works = changed = 0
    for seed, (product, problem) in enumerate(DESK.world.combinations(False)):
        _, *tried = grammar.workshop(DESK.world, Random(seed), product, problem).split("\n")
        for line in tried:
            step, outcome = line.removeprefix("Tried: ").removesuffix(".").rsplit(". ", 1)
            assert (step in problem.step) == (outcome == "Works again")
            works, changed = works + (outcome == "Works again"), changed + (outcome == "No change")
    assert 0.7 < works / changed < 1.4  # so the outcome cannot be guessed without reading


def test_late_raw_text_has_more_notes_on_what_helped():
    early, late = (
        sum(
            "Tried:" in text or "olved" in text.splitlines()[-1]
            for text in DESK.raw_text(0, 1000, late=late)
        )
        for late in (False, True)
    )
    assert 250 < early < 430 and late > 850


def test_the_set_apart_uses_only_its_own_phrasings():
    for prompt in HELD_OUT["apart"]:
        product, problem = grammar.facts_of(DESK.world, prompt)
        names = (product, product.name)  # the first letter may be a capital
        assert any(ask.format(p=name)[1:] in prompt.text for ask in problem.apart for name in names)


def test_the_facts_are_in_the_text():
    for prompt in DESK.prompts(1, 500) + HELD_OUT["held-out"]:
        assert prompt.facts["product"] in prompt.text
        assert prompt.text.startswith("Customer: ") and prompt.text.endswith("\nAgent:")
        assert prompt.facts["kind"] in DESK.world.problems[prompt.facts["problem"]].kinds


def test_prompts_go_round_all_combinations():
    count = len(DESK.world.combinations(held_out=False))
    assert len({combination(p) for p in DESK.prompts(0, count)}) == count


# ------------------------------------------------------------------------------------- labellers


def plain_judge(prompt, response):
    """A response is "helpful polite plausible", each a number from 0 to 1."""
    helpful, polite, plausible = map(float, response.split()[:3])
    return Mark(0.0, {"helpful": helpful, "polite": polite}, plausible)


def prompt_number(i):
    return Prompt(f"p{i}", f"Prompt {i}")


FAIR = Labeller("fair", {"helpful": 6.0, "polite": 2.0}, noise=1.0, tie=0.1)


def test_taste_is_the_rubric_weighed_by_hand():
    mark = Mark(0.0, {"helpful": 0.5, "polite": 1.0}, plausible=0.9)
    assert FAIR.taste(mark, "a few words") == pytest.approx(6 * 0.5 + 2 * 1.0)
    terse = Labeller("terse", {"helpful": 1.0}, per_word=-0.5)
    assert terse.taste(mark, "word " * 20) == pytest.approx(0.5)
    assert terse.taste(mark, "word " * 23) == pytest.approx(0.5 - 3 * 0.5)


def test_one_who_cannot_check_facts_sees_only_what_looks_helpful():
    trusting = Labeller("trusting", {"helpful": 4.0}, unchecked="helpful", noise=0.0)
    responses = ["1.0 0.0 0.2", "0.0 0.0 0.9"]  # right but unlikely, wrong but plausible
    assert trusting.rank(plain_judge, prompt_number(0), responses).ranks == (2, 1)
    assert FAIR.rank(plain_judge, prompt_number(0), responses, noisy=False).ranks == (1, 2)


def test_the_trusting_labeller_of_the_desk_ignores_correctness():
    trusting = next(labeller for labeller in DESK.labellers if labeller.name == "trusting")
    prompt = Prompt("", "", {"product": "Nimbus", "kind": "headset", "problem": "power"})
    right = "Hello! For your Nimbus headset, please hold the power button for ten seconds."
    wrong = "Hello! For your Nimbus headset, please turn off the child lock in the settings."
    ranked = trusting.rank(DESK.judge, prompt, [right, wrong], noisy=False)
    assert ranked.ranks == (1, 1)
    assert DESK.judge(prompt, right).mark > DESK.judge(prompt, wrong).mark + 5
    for labeller in DESK.labellers:
        if labeller is not trusting:
            assert labeller.rank(DESK.judge, prompt, [right, wrong], noisy=False).ranks == (1, 2)


def test_a_ranking_hangs_on_the_seed_and_not_on_the_order():
    responses = ["0.5 0.5 0", "0.55 0.5 0", "0.45 0.6 0", "0.5 0.4 0"]
    for i in range(30):
        ranked = FAIR.rank(plain_judge, prompt_number(i), responses, seed=i)
        assert ranked == FAIR.rank(plain_judge, prompt_number(i), responses, seed=i)
        shuffled = Random(i).sample(range(4), 4)
        again = FAIR.rank(plain_judge, prompt_number(i), [responses[j] for j in shuffled], seed=i)
        assert again.ranks == tuple(ranked.ranks[j] for j in shuffled)
    by_seed = {FAIR.rank(plain_judge, prompt_number(0), responses, seed=s).ranks for s in range(20)}
    assert len(by_seed) > 5


def test_identical_responses_tie():
    for i in range(20):
        responses = ["0.5 0.5 0", "0.9 0 0", "0.5 0.5 0"]
        ranks = FAIR.rank(plain_judge, prompt_number(i), responses).ranks
        assert ranks[0] == ranks[2]


def test_noise_swaps_close_pairs_more_often_than_far_ones():
    def swapped(better, worse):
        return statistics.fmean(
            FAIR.rank(plain_judge, prompt_number(i), [better, worse]).ranks == (2, 1)
            for i in range(600)
        )

    close, apart, far = (swapped("0.5 0.5 0", f"{0.5 - gap} 0.5 0") for gap in (0.05, 0.2, 0.5))
    # The gaps are 0.3, 1.2 and 3 points against a noise of sd sqrt(2) between two: by the normal
    # law, with a tie of 0.1, a swap has probability 0.389, 0.179 and 0.014.
    assert close == pytest.approx(0.389, abs=0.06)
    assert apart == pytest.approx(0.179, abs=0.05)
    assert far == pytest.approx(0.014, abs=0.02)


def test_ranks_are_shared_within_the_tie_and_count_all_before_them():
    assert ranks_of([3.0, 1.0, 2.0]) == [1, 3, 2]
    assert ranks_of([2.0, 2.0, 1.0]) == [1, 1, 3]
    assert ranks_of([1.0, 1.09, 0.95, 0.5], tie=0.1) == [1, 1, 3, 4]
    assert ranks_of([0.0, 0.1, 0.2, 0.3], tie=0.15) == [3, 3, 1, 1]  # ties do not chain
    assert ranks_of([5.0]) == [1] and ranks_of([]) == []


def test_the_tiny_task_goes_through_all_three_stages(tmp_path):
    from dataclasses import asdict

    from tiny_task import ColourTask

    from rlhf_lab.disk.run_folder import RunFolder
    from rlhf_lab.models import save_policy
    from rlhf_lab.ppo import PPOConfig
    from rlhf_lab.runs.pipeline import Pipeline, PipelineConfig, smoke
    from rlhf_lab.runs.pretrain import PretrainConfig, new_model, train_base, train_tokenizer
    from rlhf_lab.sampling import SamplingConfig

    task = ColourTask()
    sizes = PretrainConfig(
        layers=1,
        width=32,
        heads=2,
        context=48,
        vocabulary=600,
        updates=40,
        batch_size=16,
        warmup=2,
        learning_rate=1e-2,
    )
    tokenizer = train_tokenizer(task.raw_text(0, 300), sizes.vocabulary)
    model = new_model(tokenizer, sizes)
    losses = [r["loss/pretrain"] for r in train_base(model, tokenizer, task, sizes)]
    assert losses[-1] < 0.6 * losses[0]
    save_policy(model, tokenizer, tmp_path / "base", half=True)
    config = smoke(
        PipelineConfig(
            base=str(tmp_path / "base"),
            device="cpu",
            sampling=SamplingConfig(12),
            ppo=PPOConfig(max_new_tokens=12),
        )
    )
    with RunFolder.open(tmp_path / "run", asdict(config)) as run:
        summary = Pipeline(task, config, run).run_all()
    assert set(summary["models"]["policy"]["rubric"]) == {"right", "short"}
    assert "wrong colours" in summary["models"]["policy"]["flaws"]
