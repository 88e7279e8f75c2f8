"""Checkers: small functions that check whether a response keeps a rule.

A checker gets the prompt's text, the response and, as named arguments, the settings that the file
of rules has for it. It does not get the facts that a judge has about the prompt (`manual`
looks in the shop's manual instead). To add one, write such a function here and put it into
CHECKERS; its settings are lists of texts (tuple[str, ...]) or whole numbers (int).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from rlhf_lab.tasks.phrases import find, is_denied, places, sentences, words_of
from rlhf_lab.tasks.support_desk.manual import look_up

NEGATIONS = (
    "no",
    "not",
    "never",
    "neither",
    "nor",
    "cannot",
    "can't",
    "don't",
    "doesn't",
    "won't",
    "isn't",
    "aren't",
    "couldn't",
    "wouldn't",
    "shouldn't",
    "mustn't",
    "unable",
    "without",
)


@dataclass(frozen=True)
class Finding:
    """The result of one check. kept: 1 if the rule is kept, down to 0. quotes: the offending parts,
    word for word as in the response. reason: why the rule is broken, or "" if it is not."""

    kept: float = 1.0
    quotes: tuple[str, ...] = ()
    reason: str = ""

    @property
    def broken(self) -> bool:
        return bool(self.reason)


def avoid(
    prompt: str, response: str, phrases: tuple[str, ...], negations: tuple[str, ...] = NEGATIONS
) -> Finding:
    """The response has none of the phrases. A phrase with a negation up to four words before it, in
    the same clause, does not count: "it is no wonder"."""
    quotes = _distinct(response[a:b] for a, b in find(response, phrases, negations))
    return Finding(0.0, quotes, "says " + _listed(quotes)) if quotes else Finding()


def say(
    prompt: str, response: str, phrases: tuple[str, ...], when: tuple[str, ...] = ()
) -> Finding:
    """The response has one of the phrases, not negated. when: the rule applies only if the prompt
    has one of these phrases."""
    asked = find(prompt, when)
    if (when and not asked) or find(response, phrases, NEGATIONS):
        return Finding()
    why = f", though the {asker(prompt)} says {prompt[slice(*asked[0])]!r}" if asked else ""
    return Finding(0.0, (), f"says none of {_listed(phrases)}{why}")


def length(prompt: str, response: str, most: int) -> Finding:
    """The response has at most `most` words; with twice as many, kept is 0. The quotes are the
    sentences that end after the last word allowed."""
    count, beyond = 0, []
    for start, end in sentences(response):
        count += len(response[start:end].split())
        beyond += [response[start:end]] if count > most else []
    if not beyond:
        return Finding()
    kept = max(0.0, 1 - (count - most) / max(most, 1))
    return Finding(kept, tuple(beyond), f"has {count} words, {count - most} too many")


# What a request to the reader begins with: "Please hold ...", "The best thing is to hold ...".
LEADS = (
    "please",
    "can",
    "could",
    "should",
    "must",
    "just",
    "that you",
    "is to",
    "have to",
    "need to",
    "now",
    "then",
    "first",
    "so",
    ",",
    ";",
    ":",
)


def steps(
    prompt: str, response: str, verbs: tuple[str, ...], least: int = 1, most: int = 1
) -> Finding:
    """From `least` to `most` sentences tell the reader to do something: one of the verbs begins
    the sentence, or follows one of LEADS, with no "not" before it. With too few, kept is 0; each
    one too many costs half."""
    told = step_sentences(response, verbs)
    if len(told) < least:
        return Finding(
            0.0,
            (),
            f"gives {len(told) or 'no'} step to try"
            if least == 1
            else f"gives {len(told)} steps to try, of at least {least}",
        )
    if len(told) > most:
        return Finding(
            max(0.0, 1 - (len(told) - most) / 2),
            tuple(told[most:]),
            f"gives {len(told)} steps to try, of at most {most}",
        )
    return Finding()


def step_sentences(response: str, verbs: tuple[str, ...]) -> list[str]:
    """The sentences that tell the reader to do something (see `steps`)."""
    told = []
    for start, end in sentences(response):
        words = [word for word, _ in words_of(response[start:end])]
        after_lead = {end for _, end in places(words, LEADS)}
        if any(
            (at == 0 or at in after_lead) and not is_denied(words, at, NEGATIONS)
            for at, _ in places(words, verbs)
        ):
            told.append(response[start:end])
    return told


# A name comes after one of these and begins with a capital: "my Iris", "the Nimbus headset".
POINTERS = ("my", "the", "this", "your", "our", "a", "an", "no", "with", "about")


def product(
    prompt: str, response: str, kinds: tuple[str, ...], no_names: tuple[str, ...] = ()
) -> Finding:
    """The response names the product that the prompt names first, and no other. With another one,
    kept is 0; without any, it is a half. kinds: what may follow a name ("headset"). no_names: words
    with a capital that do not name a product."""
    asked = products(prompt, kinds, no_names)
    if not asked:
        return Finding()
    name = _name(asked[0])
    spoken = products(response, kinds, no_names)
    others = _distinct(said for said in spoken if _name(said) != name)
    if others:
        why = f"speaks of {_listed(others)}; the {asker(prompt)} has the {asked[0]}"
        return Finding(0.0, others, why)
    if not re.search(rf"\b{re.escape(name)}\b", response):
        return Finding(0.5, (), f"does not name the {asked[0]}")
    return Finding()


def products(text: str, kinds: tuple[str, ...], no_names: tuple[str, ...] = ()) -> list[str]:
    """The products that a text names, in its order, with their kind if the text has it: words with
    a capital after "my", "the" and the like, or before a kind."""
    pointers, kind = "|".join(POINTERS), "|".join(map(re.escape, kinds))
    pattern = re.compile(
        rf"\b(?:(?i:{pointers})\s+(?:new\s+)?"
        rf"(?P<name>[A-Z][\w-]*)(?:\s+(?P<kind>{kind})\b)?"
        rf"|(?P<first>[A-Z][\w-]*)\s+(?P<its_kind>{kind})\b)"
    )
    found = []
    for match in pattern.finditer(text):
        name, its = match["name"] or match["first"], match["kind"] or match["its_kind"]
        if name not in no_names and name.lower() not in POINTERS:
            found.append(f"{name} {its}" if its else name)
    return found


def manual(prompt: str, response: str) -> Finding:
    """The step is the one that the support desk's manual has for what the prompt describes.
    If the manual does not recognise the problem, the rule asks for nothing. With the right step
    among others, kept is a half."""
    problem, right, wrong = look_up(prompt, response)
    if problem is None or (right and not wrong):
        return Finding()
    if wrong:
        why = f"gives a step that is not for {problem!r}"
        return Finding(0.5 if right else 0.0, tuple(wrong), why)
    return Finding(0.0, (), f"does not give the manual's step for {problem!r}")


CHECKERS: dict[str, Callable[..., Finding]] = {
    "avoid": avoid,
    "say": say,
    "length": length,
    "steps": steps,
    "product": product,
    "manual": manual,
}


def asker(prompt: str) -> str:
    """Who asks, by the prompt's label: "user" if it begins with "User: ..."; "prompt" if it has no
    label."""
    label = re.match(r"(\w+): ", prompt)
    return label[1].lower() if label else "prompt"


def _name(product: str) -> str:
    return product.split()[0]


def _distinct(quotes) -> tuple[str, ...]:
    return tuple(dict.fromkeys(quotes))


def _listed(quotes, most: int = 4) -> str:
    shown = ", ".join(repr(quote) for quote in quotes[:most])
    return shown + (", ..." if len(quotes) > most else "")
