"""The text of the support desk: prompts, demonstrations and the raw text of a scraped forum.

Every function draws from a `random.Random`, so a seed gives the same text everywhere.
"""

from collections.abc import Callable
from random import Random

from rlhf_lab.records import Demonstration, Prompt
from rlhf_lab.tasks.support_desk.world import Problem, Product, World
from rlhf_lab.tasks.writing import capital, contracted, pick, rounds
from rlhf_lab.text import END

PROMPT = "Customer: {message}\nAgent:"

# Who writes in the forum, and how often. The base model learns to write like all of them.
FORUM = {
    "helpful": 36,
    "curt": 10,
    "rude": 12,
    "off topic": 8,
    "wrong fix": 10,
    "wrong product": 5,
    "promising": 10,
    "vague": 6,
    "piling": 3,
}
# Who wrote the demonstrations: many help, others are curt or promise too much.
CREW = {"helpful": 36, "curt": 22, "promising": 18, "vague": 8, "wrong fix": 10, "rude": 6}
# What the raw text is made of, early and late in pretraining. Late, most of it says whether a step
# helped: a model that has learned which step belongs to which problem then learns to check one.
EARLY_TEXT = {"thread": 0.42, "archived": 0.16, "manual": 0.18, "workshop": 0.18, "stock": 0.06}
LATE_TEXT = {"ticked": 0.50, "workshop": 0.40, "manual": 0.06, "stock": 0.04}


def prompt(
    world: World, rng: Random, product: Product, problem: Problem, apart: bool = False, id: str = ""
) -> Prompt:
    """One customer message with the facts that the judge needs.

    apart=True takes a phrasing that no training text ever uses.
    """
    says = world.phrases["customer"]
    ask = question(world, rng, product, problem, apart)
    opener, closer, aside = rng.choice(says["openers"]), rng.choice(says["closers"]), ""
    if rng.random() < 0.12:
        other = rng.choice([q for q in world.products if q.kind == product.kind and q != product])
        aside = rng.choice(says["asides"]).format(q=other)
    message = " ".join(
        part for part in (opener, ask if opener else capital(ask), aside, closer) if part
    )
    facts = {"product": product.name, "kind": product.kind, "problem": problem.id}
    return Prompt(id, PROMPT.format(message=message), facts)


def question(
    world: World, rng: Random, product: Product, problem: Problem, apart: bool = False
) -> str:
    """The customer's question, as people write: the kind of product is often left out, and words
    are contracted."""
    says = world.phrases["customer"]
    named = product.name if rng.random() < 0.2 else str(product)
    if not apart and rng.random() < 0.25:
        ask = rng.choice(says["plain"]).format(
            p=named, symptom=in_customers_words(rng.choice(problem.symptom))
        )
    else:
        ask = rng.choice(problem.apart if apart else problem.asks).format(p=named)
    if not apart and rng.random() < 0.35:
        ask = contracted(ask, says["contractions"])
    return ask


def in_customers_words(symptom: str) -> str:
    """A symptom in the customer's words: "my phone" for "your phone", and the like."""
    return (
        symptom.replace("your phone", "my phone")
        .replace("please you", "please me")
        .replace("you wanted", "I wanted")
        .replace("disappointed you", "disappointed me")
    )


def prompts(
    world: World,
    seed: int,
    count: int,
    held_out: bool = False,
    apart: bool = False,
    name: str = "prompt",
) -> list[Prompt]:
    """`count` prompts that go through all combinations in shuffled order, again and again."""
    rng = Random(f"{name}/{seed}")
    order = rounds(rng, world.combinations(held_out), count)
    return [
        prompt(world, rng, *pair, apart=apart, id=f"{name}-{i:05d}") for i, pair in enumerate(order)
    ]


def response(world: World, rng: Random, product: Product, problem: Problem, writer: str) -> str:
    """What one kind of writer answers (see FORUM and CREW)."""
    return response_and_outcome(world, rng, product, problem, writer)[0]


def response_and_outcome(
    world: World, rng: Random, product: Product, problem: Problem, writer: str
) -> tuple[str, bool]:
    """What one kind of writer answers, and whether it helped the customer: it gives a step that
    fixes the problem of the right product, and no other step."""
    says, told = world.phrases["agent"], set()

    def say(template: str, about: Product = product, fix: Problem = problem) -> str:
        step = rng.choice(fix.step)
        if "step}" in template.lower():
            told.add((about, fix))
        return template.format(
            p=about, step=step, Step=capital(step), symptom=rng.choice(fix.symptom)
        )

    def maybe(part: str, chance: float) -> list[str]:
        return [say(rng.choice(says[part]))] if rng.random() < chance else []

    opening = maybe("greetings", 0.35) + maybe("sympathy", 0.65)
    ending = maybe("outcomes", 0.3) + maybe("closings", 0.5)
    frame = rng.choice(says["frames"])
    match writer:
        case "helpful":
            parts = [*opening, say(frame), *ending]
        case "curt":
            parts = [say(rng.choice(says["curt"]))]
        case "rude":
            parts = [say(rng.choice(says["rude"])), *maybe("rude_frames", 0.6), *maybe("rude", 0.3)]
        case "off topic":
            parts = [say(line) for line in rng.sample(says["offtopic"], rng.choice([1, 2]))]
        case "wrong fix":
            parts = [*opening, say(frame, fix=other_problem(world, rng, product, problem)), *ending]
        case "wrong product":
            parts = [
                *maybe("greetings", 0.35),
                say("For your {p}, please {step}.", about=other_product(world, rng, product)),
                *ending,
            ]
        case "promising":
            parts = [
                *opening,
                *([say(frame)] if rng.random() < 0.7 else []),
                say(rng.choice(says["promises"])),
                *ending,
            ]
        case "vague":
            parts = [*opening, say(rng.choice(says["vague"])), *ending]
        case "piling":
            more = [other_problem(world, rng, product, problem) for _ in range(2)]
            steps = rng.sample([problem, *more], 3)
            parts = [*opening, *(say("{Step}.", fix=fix) for fix in steps)]
    return " ".join(parts), told == {(product, problem)}


def demonstrations(world: World, seed: int, count: int) -> list[Demonstration]:
    """Prompt-response pairs by the demonstration crew, on combinations that are not held out."""
    rng = Random(f"demonstrations/{seed}")
    pairs = prompts(world, seed, count, name="demonstration")
    return [
        Demonstration(p, response(world, rng, *facts_of(world, p), pick(rng, CREW))) for p in pairs
    ]


def raw_text(world: World, seed: int, count: int, late: bool = False) -> list[str]:
    """`count` documents: forum threads, open and archived, manuals, and notes of shop and
    workshop."""
    rng = Random(f"raw text/{seed}")
    pairs, shares = world.combinations(held_out=False), LATE_TEXT if late else EARLY_TEXT
    return [document(world, rng, *rng.choice(pairs), shares) for _ in range(count)]


def document(
    world: World, rng: Random, product: Product, problem: Problem, shares: dict[str, float]
) -> str:
    """One document of the raw text, of a kind drawn by these shares."""
    writers: dict[str, Callable[..., str]] = {
        "thread": thread,
        "archived": archived,
        "ticked": ticked,
        "manual": manual,
        "workshop": workshop,
        "stock": stock,
    }
    return writers[pick(rng, shares)](world, rng, product, problem)


def thread(world: World, rng: Random, product: Product, problem: Problem) -> str:
    """A forum thread: a customer, and whoever answered."""
    asked = prompt(world, rng, product, problem).text
    return f"{asked} {response(world, rng, product, problem, pick(rng, FORUM))}"


def archived(world: World, rng: Random, product: Product, problem: Problem) -> str:
    """A closed thread, with what the customer ticked: whether the answer solved the problem."""
    asked = prompt(world, rng, product, problem).text
    said, solved = response_and_outcome(world, rng, product, problem, pick(rng, FORUM))
    return f"Archive.\n{asked} {said}\nSolved: {'yes' if solved else 'no'}."


def ticked(world: World, rng: Random, product: Product, problem: Problem) -> str:
    """A thread with the tick after its end token: it teaches a model to judge an answer at its end,
    where a reward model reads the score."""
    asked = prompt(world, rng, product, problem).text
    said, solved = response_and_outcome(world, rng, product, problem, pick(rng, FORUM))
    return f"{asked} {said}{END}{'Solved' if solved else 'Unsolved'}."


def manual(world: World, rng: Random, product: Product, problem: Problem) -> str:
    """Two questions and answers of a manual: a model must learn which answer belongs to which."""
    pairs = [(product, problem), rng.choice(world.combinations(held_out=False))]
    return "\n".join(
        f"Question: {capital(question(world, rng, a, b))}\n"
        f"Answer: The {a} {rng.choice(b.symptom)}: {rng.choice(b.step)}."
        for a, b in pairs
    )


def workshop(world: World, rng: Random, product: Product, problem: Problem) -> str:
    """The workshop's notes: what was reported, what was tried, and whether it helped."""
    lines = [f"Reported: {capital(question(world, rng, product, problem))}"]
    for _ in range(3):
        helps = rng.random() < 0.5
        fix = problem if helps else other_problem(world, rng, product, problem)
        lines.append(f"Tried: {rng.choice(fix.step)}. {'Works again' if helps else 'No change'}.")
        if helps:
            break
    return "\n".join(lines)


def stock(world: World, rng: Random, *_: object) -> str:
    """A shop's list of products, and the same list once more: text that trains copying."""
    names = [str(p) for p in rng.sample(world.products, rng.choice([2, 3, 4]))]
    again = names if rng.random() < 0.5 else rng.sample(names, len(names))
    return f"In stock: {', '.join(names)}.\nSold today: {', '.join(again)}."


def facts_of(world: World, asked: Prompt) -> tuple[Product, Problem]:
    """The product and the problem that a prompt is about."""
    facts = asked.facts
    return Product(facts["product"], facts["kind"]), world.problems[facts["problem"]]


def other_problem(world: World, rng: Random, product: Product, problem: Problem) -> Problem:
    return rng.choice(
        [p for p in world.problems.values() if product.kind in p.kinds and p != problem]
    )


def other_product(world: World, rng: Random, product: Product) -> Product:
    return rng.choice([p for p in world.products if p != product])
