"""The text of the support desk: prompts, demonstrations and the raw text of a scraped forum.

Every function draws from a `random.Random`, so a seed gives the same text everywhere.
"""

from random import Random

from rlhf_lab.records import Demonstration, Prompt
from rlhf_lab.tasks.support_desk.world import Problem, Product, World

PROMPT = "Customer: {message}\nAgent:"

# Who writes in the forum, and how often. The base model learns all of them.
FORUM = {
    "helpful": 36, "curt": 10, "rude": 12, "off topic": 8, "wrong fix": 10,
    "wrong product": 5, "promising": 10, "vague": 6, "piling": 3,
}
# Who wrote the demonstrations: a mixed crew; most help, some are curt or promise too much.
CREW = {"helpful": 52, "curt": 16, "promising": 16, "vague": 6, "wrong fix": 7, "rude": 3}


def prompt(world: World, rng: Random, product: Product, problem: Problem,
           apart: bool = False, id: str = "") -> Prompt:
    """One customer message with the facts that the judge needs.

    apart=True takes a phrasing that no training text ever uses.
    """
    says = world.phrases["customer"]
    ask = question(world, rng, product, problem, apart)
    opener, closer, aside = rng.choice(says["openers"]), rng.choice(says["closers"]), ""
    if rng.random() < 0.12:
        other = rng.choice([q for q in world.products if q.kind == product.kind and q != product])
        aside = rng.choice(says["asides"]).format(q=other)
    message = " ".join(part for part in (opener, ask if opener else capital(ask), aside, closer) if part)
    facts = {"product": product.name, "kind": product.kind, "problem": problem.id}
    return Prompt(id, PROMPT.format(message=message), facts)


def question(world: World, rng: Random, product: Product, problem: Problem,
             apart: bool = False) -> str:
    """What the customer has to say, as people write: the kind of product is often left out, and
    words are contracted."""
    says = world.phrases["customer"]
    named = product.name if rng.random() < 0.2 else str(product)
    if not apart and rng.random() < 0.25:
        ask = rng.choice(says["plain"]).format(p=named, symptom=third_person(rng.choice(problem.symptom)))
    else:
        ask = rng.choice(problem.apart if apart else problem.asks).format(p=named)
    if not apart and rng.random() < 0.35:
        for long, short in says["contractions"]:
            ask = ask.replace(long, short)
    return ask


def third_person(symptom: str) -> str:
    """A symptom as the customer says it, who has a phone of their own."""
    return symptom.replace("your phone", "my phone").replace("please you", "please me").replace(
        "you wanted", "I wanted").replace("disappointed you", "disappointed me")


def prompts(world: World, seed: int, count: int, held_out: bool = False,
            apart: bool = False, name: str = "prompt") -> list[Prompt]:
    """`count` prompts that go round the combinations in a shuffled order."""
    rng = Random(f"{name}/{seed}")
    pairs = world.combinations(held_out)
    order = [pair for _ in range(count // len(pairs) + 1) for pair in rng.sample(pairs, len(pairs))]
    return [prompt(world, rng, *pair, apart=apart, id=f"{name}-{i:05d}")
            for i, pair in enumerate(order[:count])]


def response(world: World, rng: Random, product: Product, problem: Problem, writer: str) -> str:
    """What one kind of writer answers (see FORUM and CREW)."""
    says = world.phrases["agent"]

    def say(template: str, about: Product = product, fix: Problem = problem) -> str:
        step = rng.choice(fix.step)
        return template.format(p=about, step=step, Step=capital(step),
                               symptom=rng.choice(fix.symptom))

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
            parts = [*maybe("greetings", 0.35),
                     say("For your {p}, please {step}.", about=other_product(world, rng, product)),
                     *ending]
        case "promising":
            parts = [*opening, *([say(frame)] if rng.random() < 0.7 else []),
                     say(rng.choice(says["promises"])), *ending]
        case "vague":
            parts = [*opening, say(rng.choice(says["vague"])), *ending]
        case "piling":
            more = [other_problem(world, rng, product, problem) for _ in range(2)]
            steps = rng.sample([problem, *more], 3)
            parts = [*opening, *(say("{Step}.", fix=fix) for fix in steps)]
    return " ".join(parts)


def demonstrations(world: World, seed: int, count: int) -> list[Demonstration]:
    """Prompt-response pairs by the demonstration crew, on combinations that are not held out."""
    rng = Random(f"demonstrations/{seed}")
    pairs = prompts(world, seed, count, name="demonstration")
    return [Demonstration(p, response(world, rng, *facts_of(world, p), pick(rng, CREW)))
            for p in pairs]


def raw_text(world: World, seed: int, count: int) -> list[str]:
    """`count` documents of forum threads, questions and answers from manuals, and shop notes."""
    rng = Random(f"raw text/{seed}")
    pairs = world.combinations(held_out=False)
    return [document(world, rng, *rng.choice(pairs)) for _ in range(count)]


def document(world: World, rng: Random, product: Product, problem: Problem) -> str:
    """One document of the raw text."""
    kind = rng.random()
    if kind < 0.62:  # a forum thread
        asked = prompt(world, rng, product, problem).text
        return f"{asked} {response(world, rng, product, problem, pick(rng, FORUM))}"
    if kind < 0.92:  # a manual's questions and answers: two, so that matching has to be local
        pairs = [(product, problem), rng.choice(world.combinations(held_out=False))]
        return "\n".join(
            f"Question: {capital(question(world, rng, a, b))}\n"
            f"Answer: The {a} {rng.choice(b.symptom)}: {rng.choice(b.step)}." for a, b in pairs)
    names = [str(p) for p in rng.sample(world.products, rng.choice([2, 3, 4]))]
    again = names if rng.random() < 0.5 else rng.sample(names, len(names))
    return f"In stock: {', '.join(names)}.\nSold today: {', '.join(again)}."


def facts_of(world: World, asked: Prompt) -> tuple[Product, Problem]:
    """The product and the problem that a prompt is about."""
    facts = asked.facts
    return Product(facts["product"], facts["kind"]), world.problems[facts["problem"]]


def other_problem(world: World, rng: Random, product: Product, problem: Problem) -> Problem:
    return rng.choice([p for p in world.problems.values() if product.kind in p.kinds and p != problem])


def other_product(world: World, rng: Random, product: Product) -> Product:
    return rng.choice([p for p in world.products if p != product])


def pick(rng: Random, shares: dict[str, int]) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
