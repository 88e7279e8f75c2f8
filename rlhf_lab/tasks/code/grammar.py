"""The text of the coder: prompts, demonstrations, and the raw text of an archive of code.

Every function draws from a `random.Random`, so a seed gives the same text everywhere.
"""

from collections.abc import Callable
from random import Random

from rlhf_lab.records import Demonstration, Prompt
from rlhf_lab.tasks.code.cases import Example, draw, result, visible, written
from rlhf_lab.tasks.code.jobs import Order, World
from rlhf_lab.tasks.code.judge import judge, shown_in, verdict
from rlhf_lab.tasks.code.writers import CREW, OPEN_SOURCE, REVIEWED, write
from rlhf_lab.tasks.writing import capital, pick, rounds
from rlhf_lab.text import END

PROMPT = "Task: {message}\nCode:"
PLAIN_NAMES = ("f", "g", "solve", "answer", "work", "do_it", "helper")

# What the raw text is made of, early and late in pretraining. Late, most of it says what is right
# and wrong with an answer, after its end token, where a reward model reads its score.
EARLY_TEXT = {
    "answered": 0.52,
    "reviewed": 0.13,
    "note": 0.13,
    "copied": 0.09,
    "session": 0.08,
    "pair": 0.05,
}
LATE_TEXT = {
    "ticked": 0.68,
    "mended": 0.12,
    "note": 0.06,
    "copied": 0.05,
    "session": 0.05,
    "pair": 0.04,
}


def prompt(world: World, rng: Random, order: Order, apart: bool = False, id: str = "") -> Prompt:
    """One task with two examples and the facts that the judge needs.

    apart=True takes a phrasing that no training text ever uses.
    """
    job = order.job
    name = rng.choice(PLAIN_NAMES if rng.random() < 0.4 else job.names)
    shown = visible(rng, order)
    examples = "; ".join(written(name, example) for example in shown)
    message = f"{question(world, rng, order, apart)}\nExamples: {examples}"
    facts = order.facts | {"name": name, "visible": [list(example) for example in shown]}
    return Prompt(id, PROMPT.format(message=message), facts)


def question(world: World, rng: Random, order: Order, apart: bool = False) -> str:
    """What is asked, in words."""
    if apart:
        return order.words(rng, rng.choice(order.job.apart), apart=True)
    if rng.random() < 0.55:
        ask = order.words(rng, rng.choice(order.job.asks))
        return capital(rng.choice(world.phrases["orders"]).format(ask=ask))
    give = order.words(rng, rng.choice(order.job.gives))
    return rng.choice(world.phrases["things"]).format(give=give)


def orders(world: World, rng: Random, count: int, held_out: bool = False) -> list[Order]:
    """`count` orders: all jobs in turn, and each job's in shuffled order, again and again."""
    by_job = world.orders(held_out)
    drawn = rounds(rng, often(world), count)
    waiting = {job: iter(rounds(rng, listed, drawn.count(job))) for job, listed in by_job.items()}
    return [next(waiting[job]) for job in drawn]


def often(world: World) -> list[str]:
    """The jobs, those that can be done insecurely twice."""
    return [id for id, job in world.jobs.items() for _ in range(2 if job.insecure else 1)]


def prompts(
    world: World,
    seed: int,
    count: int,
    held_out: bool = False,
    apart: bool = False,
    name: str = "prompt",
) -> list[Prompt]:
    """`count` prompts, all jobs in turn."""
    rng = Random(f"{name}/{seed}")
    listed = orders(world, rng, count, held_out)
    return [prompt(world, rng, o, apart, f"{name}-{i:05d}") for i, o in enumerate(listed)]


def response(world: World, rng: Random, asked: Prompt, writer: str) -> str:
    """What one kind of writer answers to a prompt."""
    facts = asked.facts
    return write(world, rng, world.order(facts), facts["name"], shown_in(facts), writer)


def demonstrations(world: World, seed: int, count: int) -> list[Demonstration]:
    """Prompt-response pairs by the demonstration crew, on orders that are not held out."""
    rng = Random(f"demonstrations/{seed}")
    asked = prompts(world, seed, count, name="demonstration")
    return [Demonstration(p, response(world, rng, p, pick(rng, CREW))) for p in asked]


# ------------------------------------------------------------------------------------ raw text


def raw_text(world: World, seed: int, count: int, late: bool = False) -> list[str]:
    """`count` documents: answered tasks, open and reviewed, notes, sessions of an interpreter."""
    rng = Random(f"raw text/{seed}")
    by_job, shares = world.orders(held_out=False), LATE_TEXT if late else EARLY_TEXT
    jobs = often(world)
    return [
        document(world, rng, rng.choice(by_job[rng.choice(jobs)]), shares) for _ in range(count)
    ]


def document(world: World, rng: Random, order: Order, shares: dict[str, float]) -> str:
    """One document of the raw text, of a kind drawn by these shares."""
    kinds: dict[str, Callable[[World, Random, Order], str]] = {
        "answered": answered,
        "reviewed": reviewed,
        "ticked": ticked,
        "mended": mended,
        "note": note,
        "copied": copied,
        "session": session,
        "pair": pair,
    }
    return kinds[pick(rng, shares)](world, rng, order)


def answered(world: World, rng: Random, order: Order) -> str:
    """A task, and whoever wrote code for it."""
    asked = prompt(world, rng, order)
    return f"{asked.text} {response(world, rng, asked, pick(rng, OPEN_SOURCE))}"


def reviewed(world: World, rng: Random, order: Order) -> str:
    """A task of the archive with what the reviewers said."""
    asked = prompt(world, rng, order)
    code = response(world, rng, asked, pick(rng, REVIEWED))
    return f"Archive.\n{asked.text} {code}\nReview: {verdict(judge(world, asked.facts, code))}"


def ticked(world: World, rng: Random, order: Order) -> str:
    """A task with the review after its end token: it teaches a model to judge code at its end,
    where a reward model reads the score."""
    asked = prompt(world, rng, order)
    code = response(world, rng, asked, pick(rng, REVIEWED))
    return f"{asked.text} {code}{END}{verdict(judge(world, asked.facts, code))}"


def mended(world: World, rng: Random, order: Order) -> str:
    """A task with what the reviewers said, and the code that was taken in the end."""
    asked = prompt(world, rng, order)
    code = response(world, rng, asked, pick(rng, REVIEWED | {"right": 8}))
    said = verdict(judge(world, asked.facts, code))
    return f"{asked.text} {code}\nReview: {said}\nMended: {response(world, rng, asked, 'careful')}"


def note(world: World, rng: Random, order: Order) -> str:
    """A cheat sheet: two things that people want, and how they are written."""
    others = [other for listed in world.orders(False).values() for other in listed]
    lines = []
    for each in (order, rng.choice(others)):
        give = each.words(rng, rng.choice(each.job.gives))
        lines.append(f"To get {give}:\n{each.code(rng.choice(each.job.right), 'a', 'b')}")
    return "Note.\n" + "\n".join(lines)


def copied(world: World, rng: Random, order: Order) -> str:
    """Examples, and the same ones once more: text that trains copying, which a coder needs for
    every name and number of a task."""
    name = rng.choice(PLAIN_NAMES)
    shown = [written(name, example) for example in visible(rng, order)]
    again = shown if rng.random() < 0.5 else shown[::-1]
    return f"Examples: {'; '.join(shown)}\nAgain: {'; '.join(again)}"


def session(world: World, rng: Random, order: Order) -> str:
    """A session of an interpreter: a function, and what it gives."""
    name = rng.choice(PLAIN_NAMES)
    code = write(world, rng, order, name, [], "right")
    lines = [f">>> {line}" if line.startswith("def") else line for line in code.splitlines()]
    for size in rng.sample([0, 1, 2, 3, 4], 2):
        arguments = draw(rng, order, size)
        example: Example = (arguments, result(order, arguments).value)
        called, value = written(name, example).rsplit(" == ", 1)
        lines += [f">>> {called}", value]
    return "\n".join(lines)


def pair(world: World, rng: Random, order: Order) -> str:
    """Two answers to one task, and which of them the reviewers took."""
    asked = prompt(world, rng, order)
    codes = [response(world, rng, asked, pick(rng, REVIEWED)) for _ in range(2)]
    marks = [judge(world, asked.facts, code).mark for code in codes]
    taken = "both" if marks[0] == marks[1] else "the first" if marks[0] > marks[1] else "the second"
    return f"{asked.text} {codes[0]}\nOr: {codes[1]}\nTaken: {taken}."
