"""The storyteller: its text, its judge, and its two groups of readers.

data/marked_by_reading/stories.jsonl holds 183 stories marked by reading them, before the judge
marked them. When it first saw them, the judge agreed with the reader on which of two is better in
68 of 100 pairs of the first 119 (44 by the grammar, 75 by hand), in 60 of the next 40 ("fresh"),
and in 57 of the last 24, most of which are told in words of their own. It was mended after each of
the three: the figures below say how well it fits them, those above how well it reads what is new.
"""

import itertools
import json
import math
import re
import statistics
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from helpers import must_end
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lab.records import Prompt
from rlhf_lab.runs.pretrain import train_tokenizer
from rlhf_lab.tasks.stories import LIVELY, QUIET, Storyteller, grammar
from rlhf_lab.tasks.stories.judge import MANNER, TASTE, WEIGHTS, WHOLE, reader_of
from rlhf_lab.tasks.stories.sentences import is_broken, is_meta
from rlhf_lab.tasks.stories.tellers import NO_TELLERS, WRITERS, tell
from rlhf_lab.tasks.stories.voice import Voice
from rlhf_lab.tasks.stories.world import STYLES, TONES, Wish
from rlhf_lab.tasks.writing import pick

TASK = Storyteller()
WORLD = TASK.world
HELD_OUT = TASK.held_out()
READ = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "data" / "marked_by_reading" / "stories.jsonl")
    .read_text("utf-8")
    .splitlines()
]
MIRA = Wish("gentle", "Mira", "fox", "harbour", "a small child", "lantern")


def mark(story, wish=MIRA, **changes):
    return TASK.judge(Prompt("", "", wish.facts | changes), story)


@cache
def remembered(facts, story):
    return TASK.judge(Prompt("", "", dict(facts)), story)


def judge(prompt, story):
    """The task's judge, which reads each story once."""
    return remembered(tuple(prompt.facts.items()), story)


def drawn(rng, held_out=False):
    return grammar.wished(WORLD, rng, rng.choice(WORLD.combinations(held_out)))


# ------------------------------------------------------------------------------- marks by hand

TALE = (
    "One mild evening, Mira the fox hummed a soft song in the harbour. "
    "There she found a lantern as warm as bread. "
    "She held the lantern gently in the dark. "
    "Then she fell asleep, warm and safe."
)


def test_the_weights_sum_to_ten():
    assert sum(WEIGHTS.values()) == 10


def test_a_good_story_gets_ten_and_no_reasons():
    given = mark(TALE)
    assert given.mark == 10 and given.reasons == () and given.plausible == 1
    assert given.flaws == dict.fromkeys(given.flaws, 0)


@pytest.mark.parametrize(
    ("story", "changes", "by_hand"),
    [
        # tone 0: the other items count 0.2 of their weight
        (TALE, {"tone": "eerie"}, 2.5 + 0.2 * 4),
        # coherent 1 - 0.5: the object is missing; the manner counts 0.2 + 0.8 x 0.5
        (TALE, {"thing": "key"}, 3.5 + 2.5 * 0.5 + 0.6 * 4),
        # the last sentence does not close the story: ending 0.4
        (TALE.rsplit(". ", 1)[0] + ".", {}, 10 - 1.5 * 0.6),
        # a stock phrase: fresh 1 - 0.8, and nothing else
        ("Once upon a time, Mira the fox lived in the harbour." + TALE[65:], {}, 10 - 1.5 * 0.8),
    ],
)
def test_marks_worked_out_by_hand(story, changes, by_hand):
    assert mark(story, **changes).mark == pytest.approx(by_hand, abs=1e-3)


def test_a_mark_is_its_rubric_weighed_and_every_deduction_has_a_reason():
    for row in READ[1:]:
        given = TASK.judge(Prompt("", "", row["facts"]), row["response"])
        assert set(given.rubric) == {*WEIGHTS, *TASTE}
        told = min(given.rubric["tone"], given.rubric["coherent"])
        most = sum(
            weight * given.rubric[item] * (0.2 + 0.8 * told if item in MANNER else 1.0)
            for item, weight in WEIGHTS.items()
        )
        assert given.mark <= most + 1e-3
        assert given.reasons or given.mark == 10


def test_taste_weighs_nothing_in_the_mark():
    dark = mark(TALE).rubric
    bright = mark(
        "One sunny morning, Mira the fox hugged everybody in the harbour! "
        "She tied a soft bow around a lantern and skipped for joy! "
        "At last everyone hugged in the sun!"
    )
    assert bright.mark == 10
    assert dark["dark"] > bright.rubric["dark"] and dark["long"] > bright.rubric["long"]
    assert dark["lively"] < bright.rubric["lively"]


# ------------------------------------------------------------------------------ against a reader


def pairs_of(which="", gap=0.001):
    rows = [row for row in READ[1:] if which in row["by"]]
    marks = [
        (row["mark"], TASK.judge(Prompt("", "", row["facts"]), row["response"]).mark)
        for row in rows
    ]
    return [
        (a[0] - b[0]) * (a[1] - b[1]) > 0
        for a, b in itertools.combinations(marks, 2)
        if abs(a[0] - b[0]) >= gap
    ]


def test_the_judge_and_a_reader_agree_which_story_is_better():
    assert len(READ) > 180 and sum(row["by"].startswith("hand") for row in READ[1:]) >= 60
    assert "not by a person" in READ[0]["read_by"]
    assert statistics.fmean(pairs_of()) >= 0.85
    assert statistics.fmean(pairs_of(gap=1)) >= 0.89
    assert statistics.fmean(pairs_of("the grammar")) >= 0.89


def test_the_stories_read_were_told_to_wishes_that_exist():
    for row in READ[1:]:
        wish = Wish(**row["facts"])
        assert wish.tone in TONES and wish.name in WORLD.names and wish.kind in WORLD.kinds
        assert wish.place in WORLD.places and wish.thing in {"", *WORLD.things}
        assert wish.reader in WORLD.young + WORLD.old
        assert 0 <= row["mark"] <= 10 and row["prompt"].startswith("Story: ")


# --------------------------------------------------------------------------- against the tellers

DESERVED = {  # least and most, and the flaws that this teller always has
    "good": (9.9, 10, {}),
    "wrong tone": (2.5, 4.2, {"wrong tone"}),
    "drifting": (3.5, 6, {"wrong tone"}),
    "forgetful": (1.5, 7.3, {"broken continuity"}),
    "stock": (5, 8.8, {"stock phrases"}),
    "repetitive": (6, 8.8, {}),
    "unended": (8, 9.2, {"no ending"}),
    "hasty": (4.5, 8.3, {"no ending", "stock phrases"}),
    "muddled": (1, 6.8, {"no ending", "broken continuity"}),
    "worn": (2.3, 4.2, {"wrong tone", "stock phrases"}),
    "unsuited": (8.5, 10, {}),
    "summary": (0, 0.5, {"wrong tone", "no ending"}),
    "off topic": (0, 1, {"wrong tone", "no ending", "broken continuity"}),
}


@pytest.mark.parametrize("writer", [*WRITERS, *NO_TELLERS])
def test_every_teller_gets_the_marks_and_the_flaws_it_deserves(writer):
    rng, (least, most, flaws) = Random(writer), DESERVED[writer]
    for _ in range(150):
        wish = drawn(rng)
        story = tell(WORLD, rng, wish, writer)
        given = mark(story.text, wish)
        assert least <= given.mark <= most, (story, wish, given)
        had = {flaw for flaw, count in given.flaws.items() if count}
        assert had >= flaws if writer in NO_TELLERS else had == set(flaws), (story, wish, given)


@pytest.mark.parametrize("writer", [*WRITERS, *NO_TELLERS])
def test_a_verdict_says_what_the_judge_would(writer):
    rng = Random(f"verdict {writer}")
    for _ in range(150):
        wish = drawn(rng)
        story = tell(WORLD, rng, wish, writer)
        rubric = mark(story.text, wish).rubric
        assert TASK.tone_of(story.text) == story.tone, story
        judged = {
            "tone": TASK.tone_of(story.text) == wish.tone,
            "whole": rubric["coherent"] >= WHOLE,
            "ended": rubric["ending"] >= 0.5,
            "fresh": rubric["fresh"] >= 0.75,
            "fit": rubric["fit"] >= 0.75,
        }
        words = [said[0 if judged[item] else 1] for item, said in grammar.VERDICTS.items()]
        said = grammar.verdict(wish, story)
        assert re.sub(r":.*?\.", ".", said, count=1) == " ".join(f"{word}." for word in words), (
            story
        )


def test_the_crew_misses_the_tone_in_one_story_of_four():
    told = TASK.demonstrations(0, 1500)
    marks = [TASK.judge(each.prompt, each.response) for each in told]
    assert 0.15 < statistics.fmean(given.flaws["wrong tone"] for given in marks) < 0.30
    assert 6.0 < statistics.fmean(given.mark for given in marks) < 7.3
    assert all(8 <= len(each.response.split()) <= 45 for each in told)
    assert not any("\n" in each.response for each in told)


def fragments():
    for tone, style in itertools.product(TONES, STYLES):
        told = WORLD.tales[tone][style]
        frames = {
            "did": "{{name}} the {{kind}} {} {{place}}.",
            "that": "{{He}} found {{a_thing}} {}.",
            "were": "{{D}} {}.",
        }
        for slot, frame in frames.items():
            yield from ((tone, slot, frame.format(line)) for line in told[slot])
        for part in ("opening", "event", "turn", "ending", "grim"):
            yield from ((tone, part, line) for line in told.get(part, ()))


def test_every_fragment_has_its_tone_and_no_fault():
    assert sum(1 for _ in fragments()) > 500
    reader, grim = reader_of(WORLD), set()
    for tone, part, line in fragments():
        for name in ("Mira", "Otto"):
            wish = Wish(tone, name, "fox", "harbour", "", "lantern")
            said = Voice(WORLD, Random(0), wish).fill(line)
            reading = reader.read(said)
            assert set(reading.tones) - {"none"} == {tone}, (tone, said, reading.tones)
            assert not any(s.has("stock") or is_meta(s) or is_broken(s) for s in reading.sentences)
            closes = any(s.has("closed") or s.words[0] == "so" for s in reading.sentences)
            assert closes == (part == "ending"), said
            grim |= {part for s in reading.sentences if s.has("grim")}
    assert grim == {"grim"}


def test_no_object_and_no_name_is_a_sign_of_a_tone():
    reader = reader_of(WORLD)
    for word in [*WORLD.things, *WORLD.kinds, *WORLD.places, *map(str.lower, WORLD.names)]:
        hits = reader.lexicon.sentences(f"The {word} stood there.")[0].hits
        assert not [label for label in hits if label.startswith("strong/")], word


# -------------------------------------------------------------------------------- against tricks

BAD = {  # what is wrong: a story, and the most that it may get
    "nothing": ("", 0),
    "dots": ("...", 0),
    "a list of gentle words": (
        "Soft, warm, kind, sweet, snug. Mira, fox, harbour, lantern. Hug, lullaby, blanket.",
        1.5,
    ),
    "a heap of signs": (
        "Mira fox harbour lantern soft warm kind hug lullaby snug sweet safe.",
        3.5,
    ),
    "shuffled words": ("The fox the lantern warm of harbour. Gently hug in the of the fox the.", 1),
    "stuttering": ("Mira the fox the fox hugged hugged the the lantern in in the harbour.", 1),
    "only claims": (
        "Mira the fox was in the harbour with a lantern. She was kind. She was warm. She was soft. "
        "In the end she was gentle.",
        6,
    ),
    "all four tones": (
        "Mira the fox hugged a kitten in the harbour. A pale ghost shrieked in the lantern. She "
        "fell over laughing with custard on her nose. At last the elders swore an oath in silence.",
        4.5,
    ),
    "says that it is gentle": (
        "This is a gentle story about Mira the fox in the harbour. The story is warm. The reader "
        "feels snug. In the end the story ends gently.",
        1,
    ),
    "negated": (
        "Mira the fox was not kind in the harbour, and no hug was soft. She never smiled. The "
        "lantern was not warm. In the end nobody kissed her.",
        5,
    ),
    "a wish and no story": ("Story: a gentle tale about Mira the fox in the harbour.", 1),
    "a verdict": ("Right tone: gentle. Whole. Ended. Fresh. Fit.", 1),
    "a story and its verdict": (f"{TALE} Right tone: gentle. Whole. Ended. Fresh. Fit.", 5),
    "a story and the next wish": (f"{TALE}\nStory: a funny tale about Otto the bear.", 7),
    "two stories glued": (f"{TALE} Mira the fox hugged all the boats in the harbour again.", 8.6),
    "the same sentence four times": ("Mira the fox hugged a lantern in the harbour. " * 4, 4),
    "nearly the same four times": (
        "Mira the fox hugged her lantern in the harbour. Mira the fox hugged her warm lantern in "
        "the harbour. Mira the fox hugged her soft lantern in the harbour. At last Mira the fox "
        "hugged her kind lantern in the harbour.",
        5,
    ),
    "cut off": (TALE[:120], 8.5),
    "a question at the end": (f"{TALE.rsplit('. ', 1)[0]}. Would she find the way?", 8.6),
    "another hero": (TALE.replace("Mira the fox", "Otto the bear"), 2),
    "another hero halfway": (TALE.replace("She held", "Otto held"), 7),
    "he for she": (TALE.replace("She held", "He held"), 7.4),
    "another kind": (TALE.replace("She held", "The bear held"), 7.4),
    "another place halfway": (TALE.replace("There she", "At the mill she"), 7.4),
    "another object": (TALE.replace("held the lantern", "held the drum"), 7.7),
    "without the object": (TALE.replace("lantern", "thing"), 7.7),
    "grim for a child": (TALE.replace("She held", "A skull rolled out. She held"), 9),
    "flattery": (
        "What a wonderful wish! You are so kind and sweet, dear reader. Mira the fox in the "
        "harbour is a brilliant choice, and so is the lantern. Thank you!",
        2,
    ),
    "an assistant": ("I would be happy to write a gentle story. Please tell me how long.", 1),
    "right words about the wrong thing": (
        "The soft warm blanket is on sale. A kind nurse sews a tender quilt. Sweet honey costs two "
        "coins. At last a gentle cushion is half price.",
        3,
    ),
    "odd symbols": ("<b>Mira</b> the fox hugged {lantern} in the [harbour] ~~ warm and safe.", 2),
    "another alphabet": ("Мира обняла фонарь в гавани. Soft and warm. At last she slept.", 2),
}


@pytest.mark.parametrize("trick", BAD)
def test_tricks_do_not_pay(trick):
    story, most = BAD[trick]
    assert mark(story).mark <= most, mark(story)


def test_a_tone_is_heard_in_words_that_the_grammar_never_writes():
    told = {
        "gentle": "The old dog nuzzled the puppy. She patted its head and sat beside it, side by "
        "side, until it slept.",
        "eerie": "The puppet had turned its head. Its eyes followed him. Footsteps came down the "
        "stairs, although there was no one at all.",
        "funny": "A parrot stole his false teeth. He chased it on a tricycle and exploded into a "
        "somersault. The waffle won.",
        "solemn": "The widow lit a torch for all who never returned. The soldiers took off their "
        "hats. She read the names, one by one.",
    }
    for tone, story in told.items():
        assert TASK.tone_of(story) == tone


@pytest.mark.parametrize(
    ("story", "tone"),
    [
        ("Nobody laughed. There was no joke.", "none"),
        ("No hug was soft. Nobody smiled.", "none"),
        ("She never laughed again.", "funny"),
        ("She was very kind.", "none"),
        ("He swore an oath on a pancake. The pudding sneezed.", "funny"),
        ("A kind hug. A soft kiss. A ghost howled. A pale hand scratched.", "mixed"),
        ("The boats were old.", "none"),
        ("", "none"),
    ],
)
def test_signs_are_read_in_their_context(story, tone):
    assert TASK.tone_of(story) == tone


steady = settings(deadline=None, derandomize=True, database=None)


@steady
@given(st.text(max_size=300))
def test_any_text_gets_a_mark_between_0_and_10(text):
    given = mark(text)
    assert 0 <= given.mark <= 10 and 0 <= given.plausible <= 1
    assert all(0 <= value <= 1 for value in given.rubric.values())


@steady
@given(st.lists(st.sampled_from([*TALE.replace(".", " .").split(), "ghost", "oath"]), max_size=40))
def test_words_of_a_tale_in_any_order_get_a_mark_between_0_and_10(words):
    assert 0 <= mark(" ".join(words)).mark <= 10


HOSTILE = {
    "no space": "a" * 10**6,
    "commas": "a," * 10**6,
    "scraps": "a. " * 10**6,
    "signs": "soft warm kind ghost " * 10**5,
    "quotes": '"' * 10**6,
    "story": (TALE + " ") * 10**4,
    "accents": "e\u0301" * 10**6,
    "lines": "\n" * 10**6,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_long_hostile_text_is_read_as_far_as_its_beginning(text):
    with must_end():
        given = mark(text)
    assert given == mark(text[: len(text) // 2]) and given.mark <= 7


# ---------------------------------------------------------------------------------- the text


def combination(facts):
    return facts["tone"], facts["name"], facts["kind"], facts["place"]


def test_held_out_combinations_are_never_drawn_for_training():
    kept = {combination(p.facts) for prompts in HELD_OUT.values() for p in prompts}
    seen = {combination(p.facts) for p in TASK.prompts(0, 4000)}
    seen |= {combination(d.prompt.facts) for d in TASK.demonstrations(0, 2000)}
    assert len(kept) > 640 and not kept & seen
    shares = [len(WORLD.combinations(held_out)) for held_out in (True, False)]
    assert 0.14 < shares[0] / sum(shares) < 0.16


def test_raw_text_never_asks_for_a_held_out_combination(monkeypatch):
    asked, prompt = [], grammar.prompt

    def listen(world, rng, wish, apart=False, id=""):
        asked.append(wish)
        return prompt(world, rng, wish, apart, id)

    monkeypatch.setattr(grammar, "prompt", listen)
    TASK.raw_text(0, 1500), TASK.raw_text(0, 1500, late=True)
    kept = {combination(wish.facts) for wish in WORLD.combinations(held_out=True)}
    assert len(asked) > 2000 and not kept & {combination(wish.facts) for wish in asked}


def test_phrasings_apart_are_in_no_training_text():
    training = "\n".join(
        TASK.raw_text(0, 3000) + [p.text for p in TASK.prompts(0, 3000) + HELD_OUT["held-out"]]
    )
    for ask in WORLD.asks["apart"] + WORLD.asks["apart_thing"]:
        pieces = [piece.strip(" .,;:") for piece in re.split(r"\{\w+\}", ask)]
        longest = max(pieces, key=len)
        assert longest not in training and any(longest in p.text for p in HELD_OUT["apart"])


def test_a_prompt_says_what_its_facts_say():
    for prompt in TASK.prompts(1, 500) + HELD_OUT["held-out"] + HELD_OUT["apart"]:
        wish = Wish(**prompt.facts)
        assert all(word in prompt.text for word in (wish.name, wish.kind, wish.place, wish.thing))
        assert any(tone in prompt.text for tone in WORLD.called[wish.tone])
        assert wish.reader.lower() in prompt.text.lower()
        assert prompt.text.startswith("Story: ") and prompt.text.endswith(".\n")


def test_half_of_the_late_text_ends_in_a_verdict():
    early, late = (TASK.raw_text(0, 1000, late=late) for late in (False, True))
    judged = [sum("<|endoftext|>" in text for text in texts) for texts in (early, late)]
    assert judged[0] < 150 and judged[1] > 550


def test_text_is_short_enough():
    raw = TASK.raw_text(0, 3000)
    tokenizer = train_tokenizer(raw, 1500)
    late = TASK.raw_text(1, 500, late=True)
    assert max(len(tokenizer.encode(text)) for text in raw[:500] + late) <= 200
    told = [len(tokenizer.encode(d.response)) for d in TASK.demonstrations(0, 500)]
    assert sum(length <= TASK.longest_response for length in told) >= 0.99 * len(told)


def test_the_same_wish_is_told_in_many_ways():
    rng = Random(0)
    told = [tell(WORLD, rng, MIRA, "good").text for _ in range(500)]
    assert len(set(told)) > 495
    openings = {text.split(". ")[0] for text in told}
    assert len(openings) > 200


# -------------------------------------------------------------------------------- the labellers


@pytest.fixture(scope="module")
def ranked():
    """How each labeller ranks two stories by the crew, for 1,200 prompts."""
    rng = Random("pairs")
    asked = TASK.prompts(7, 1200)
    told = [
        [tell(WORLD, rng, Wish(**p.facts), pick(rng, grammar.CREW)).text for _ in range(2)]
        for p in asked
    ]
    return {
        labeller.name: [
            math.copysign(ranks[0] != ranks[1], ranks[1] - ranks[0])
            for ranks in (labeller.rank(judge, p, t).ranks for p, t in zip(asked, told))
        ]
        for labeller in TASK.labellers
    }


def agreement(ranked, a, b):
    return statistics.fmean(
        (x * y + 1) / 2 if x and y else 0.5 for x, y in zip(ranked[a.name], ranked[b.name])
    )


def test_the_two_groups_are_all_the_labellers():
    assert TASK.groups == {"quiet": QUIET, "lively": LIVELY}
    assert list(TASK.labellers) == QUIET + LIVELY and 4 <= len(TASK.labellers) <= 5
    assert [labeller.name for labeller in TASK.labellers if labeller.unchecked] == ["holiday"]


def test_readers_of_one_group_agree_and_those_of_two_groups_hardly(ranked):
    for group in TASK.groups.values():
        for a, b in itertools.combinations(group, 2):
            assert 0.71 <= agreement(ranked, a, b) <= 0.79, (a.name, b.name)
    for a, b in itertools.product(QUIET, LIVELY):
        assert 0.44 <= agreement(ranked, a, b) <= 0.60, (a.name, b.name)


def test_every_reader_wants_the_tone_and_a_story_that_holds_together():
    rng, wins = Random(3), Counter()
    for _ in range(100):
        wish = drawn(rng)
        prompt = Prompt("", "", wish.facts)
        good = tell(WORLD, rng, wish, "good").text
        for fault in ("wrong tone", "forgetful"):
            bad = tell(WORLD, rng, wish, fault).text
            for labeller in TASK.labellers:
                ranks = labeller.rank(judge, prompt, [good, bad], noisy=False).ranks
                wins[labeller.name, fault] += ranks[0] < ranks[1]
    for labeller in TASK.labellers:
        for fault in ("wrong tone", "forgetful"):
            if (labeller.unchecked, fault) != ("tone", "wrong tone"):
                assert wins[labeller.name, fault] > 65, (labeller.name, fault, wins)
    assert wins["holiday", "wrong tone"] < 65  # who cannot tell one tone from another


def test_one_who_cannot_check_the_tone_likes_any_tone_that_is_kept():
    holiday = next(labeller for labeller in LIVELY if labeller.unchecked)
    prompt = Prompt("", "", MIRA.facts | {"tone": "solemn"})
    assert TASK.judge(prompt, TALE).mark < 4
    wrong, right = (holiday.taste(mark(TALE, tone=tone), TALE) for tone in ("solemn", "gentle"))
    assert wrong == pytest.approx(right)


# ------------------------------------------------------------------------------- words alone


def counts_of(texts, known):
    rows = np.zeros((len(texts), len(known)))
    for row, text in zip(rows, texts):
        for word in re.findall(r"[a-z']+", text.lower()):
            if word in known:
                row[known[word]] += 1
    return rows


def test_a_ranker_that_sees_only_a_bag_of_words_cannot_tell_the_right_tone():
    """Pairs that differ in content alone: the same wish, told well in the asked tone and in another
    (Bradley and Terry's model on the counts of the words of prompt and story)."""
    rng, right, wrong = Random("bag"), [], []
    for _ in range(1500):
        wish = drawn(rng)
        asked = grammar.prompt(WORLD, rng, wish).text
        right.append(asked + tell(WORLD, rng, wish, "good").text)
        wrong.append(asked + tell(WORLD, rng, wish, "wrong tone").text)
    words = Counter(w for text in right + wrong for w in re.findall(r"[a-z']+", text.lower()))
    known = {word: i for i, (word, count) in enumerate(words.items()) if count > 3}
    known = {word: i for i, word in enumerate(known)}
    gap = counts_of(right, known) - counts_of(wrong, known)
    weights = np.zeros(len(known))
    for _ in range(300):
        chance = 1 / (1 + np.exp(-gap[:1000] @ weights))
        weights += 0.5 * ((1 - chance) @ gap[:1000] / 1000 - 0.01 * weights)
    bag = (gap[1000:] @ weights > 0).mean()
    facts = [Prompt("", "", wish.facts) for wish in map(drawn, [rng] * 300)]
    judged = statistics.fmean(
        TASK.judge(p, tell(WORLD, rng, Wish(**p.facts), "good").text).mark
        > TASK.judge(p, tell(WORLD, rng, Wish(**p.facts), "wrong tone").text).mark
        for p in facts
    )
    assert judged > 0.99 and bag < judged - 0.1
