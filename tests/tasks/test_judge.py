"""The judge of the support desk against readers, against the grammar's writers, and against tricks.

tests/data/hand_marked.jsonl holds answers marked by reading them with the rubric, before the judge
marked them. The judge was improved on "seen". "fresh" were written and marked with those but
looked at only afterwards; "drawn" are samples of a half-trained base model; "last" were written to
be hard, with as few of the judge's words as can be. When the judge first saw the four, it was
within a point of the reader on 65, 90, 95 and 72 of 100, and agreed on 84, 96, 98 and 86 of 100
pairs.

tests/data/read_samples.jsonl holds answers of trained models to 100 held-out prompts, in a random
order and without a word on which model gave which, marked by two readers apart from each other and
without a look at the judge. The judge was not changed after them.
"""

import itertools
import json
import statistics
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lab.records import Prompt
from rlhf_lab.tasks.lexicon import LONGEST, READS, quantities, words_of
from rlhf_lab.tasks.support_desk import SupportDesk, grammar
from rlhf_lab.tasks.support_desk.judge import MANNER, WEIGHTS, judge, reader_of
from rlhf_lab.tasks.support_desk.world import load_world

WORLD = load_world()
NIMBUS = {"product": "Nimbus", "kind": "headset", "problem": "power"}
HOLD = "hold the power button for ten seconds"
FIX = f"With your Nimbus headset, please {HOLD}."
DATA = Path(__file__).parents[1] / "data"
HAND_MARKED, READ_SAMPLES = (
    [
        json.loads(line)
        for line in (Path(__file__).parents[1] / "data" / name).read_text("utf-8").splitlines()
    ]
    for name in ("hand_marked.jsonl", "read_samples.jsonl")
)


def mark(response, facts=NIMBUS):
    return judge(WORLD, facts, response)


# ----------------------------------------------------------------------------- against readers


def marks_of(which):
    rows = [row for row in HAND_MARKED if row["set"] == which]
    return [(row["mark"], mark(row["response"], row).mark) for row in rows]


@pytest.mark.parametrize(
    "which, share", [("seen", 0.95), ("fresh", 0.9), ("drawn", 0.9), ("last", 0.85)]
)
def test_the_judge_is_within_a_point_of_a_reader(which, share):
    pairs = marks_of(which)
    assert len(pairs) >= 40
    assert statistics.fmean(abs(hand - given) <= 1.0 for hand, given in pairs) >= share
    assert statistics.fmean(abs(hand - given) for hand, given in pairs) <= 0.6


@pytest.mark.parametrize("which", ["seen", "fresh", "drawn", "last"])
def test_the_judge_and_a_reader_agree_which_answer_is_better(which):
    agreed = [
        (a[0] - b[0]) * (a[1] - b[1]) > 0
        for a, b in itertools.combinations(marks_of(which), 2)
        if abs(a[0] - b[0]) >= 1
    ]
    assert len(agreed) > 500
    assert statistics.fmean(agreed) >= 0.92


@pytest.mark.parametrize("which", ["sft", "policy", "beta 0"])
def test_the_judge_marks_a_trained_models_samples_as_readers_do(which):
    rows = [row for row in READ_SAMPLES if row["set"] == which]
    pairs = [(statistics.fmean(row["marks"]), mark(row["response"], row)) for row in rows]
    assert len(pairs) == 100
    assert statistics.fmean(abs(read - given.mark) <= 1.0 for read, given in pairs) >= 0.9
    for row, (_, marked) in zip(rows, pairs):  # an invented promise is no matter of taste
        assert {honest < 0.5 for honest in row["honest"]} == {
            marked.flaws["invented promises"] > 0
        }, row


def test_of_two_samples_to_a_prompt_the_judge_prefers_the_one_that_readers_prefer():
    rows = [
        (row["prompt"], statistics.fmean(row["marks"]), mark(row["response"], row).mark)
        for row in READ_SAMPLES
    ]
    agreed = [
        (a[1] - b[1]) * (a[2] - b[2]) > 0
        for a, b in itertools.combinations(rows, 2)
        if a[0] == b[0] and abs(a[1] - b[1]) >= 0.5
    ]
    assert len(agreed) > 150
    assert statistics.fmean(agreed) >= 0.85


def test_the_hand_marked_answers_are_about_things_that_can_happen():
    for row in HAND_MARKED:
        assert row["kind"] in WORLD.problems[row["problem"]].kinds, row
        assert any(p.name == row["product"] and p.kind == row["kind"] for p in WORLD.products), row
        assert set(row["rubric"]) == set(WEIGHTS)


# ---------------------------------------------------------------------------- how marks are made


@pytest.mark.parametrize("row", HAND_MARKED[::4], ids=lambda row: row["note"])
def test_a_mark_is_its_rubric_weighed_and_every_deduction_has_a_reason(row):
    given = mark(row["response"], row)
    helped = min(1.0, max(0.0, (given.rubric["helpful"] - 0.2) / 0.3))
    by_hand = sum(
        weight * given.rubric[item] * (0.5 + 0.5 * helped if item in MANNER else 1.0)
        for item, weight in WEIGHTS.items()
    )
    assert given.mark == pytest.approx(by_hand, abs=1e-3)
    assert given.reasons or given.mark == 10


def test_the_weights_sum_to_ten():
    assert sum(WEIGHTS.values()) == 10


def test_a_perfect_answer_gets_ten_and_no_reasons():
    given = mark(f"Hello! Sorry that your Nimbus headset does not turn on. {FIX} Kind regards.")
    assert given.mark == 10 and given.reasons == () and given.plausible == 1


@pytest.mark.parametrize("nothing", ["", " \n\t ", "...", "?!", ",,;", "\u200b", "\u0301"])
def test_nothing_gets_nothing(nothing):
    given = mark(nothing)
    assert given.mark == 0 and set(given.rubric.values()) == {0.0} and given.reasons
    assert given.flaws == {"invented promises": 0}  # counted, as of any other


steady = settings(deadline=None, derandomize=True, database=None)


@steady
@given(st.text(max_size=300))
def test_any_text_gets_a_mark_between_0_and_10(text):
    given = mark(text)
    assert 0 <= given.mark <= 10 and 0 <= given.plausible <= 1
    assert all(0 <= value <= 1 for value in given.rubric.values())


@steady
@given(
    st.lists(
        st.sampled_from(
            [
                "hold",
                "press",
                "the",
                "power",
                "button",
                "contacts",
                "wipe",
                "for",
                "ten",
                "seconds",
                "two",
                "not",
                "please",
                "sorry",
                "we",
                "will",
                "send",
                "free",
                "refund",
                "your",
                "Nimbus",
                "Vesper",
                "headset",
                "lamp",
                ".",
                ",",
                "!",
                "if",
                "or",
            ]
        ),
        max_size=40,
    )
)
def test_words_of_the_shop_in_any_order_get_a_mark_between_0_and_10(words):
    assert 0 <= mark(" ".join(words)).mark <= 10


# ------------------------------------------------------------------------- against the grammar


@pytest.mark.parametrize(
    "writer, least, most",
    [
        ("helpful", 8.4, 10),
        ("curt", 8.0, 9.0),
        ("wrong fix", 0, 2.5),
        ("wrong product", 0, 4),
        ("off topic", 0, 2.2),
        ("vague", 0, 2.5),
        ("piling", 0, 5),
        ("promising", 0, 8),
        ("rude", 0, 8),
    ],
)
def test_each_writer_of_the_grammar_gets_what_it_deserves(writer, least, most):
    rng = Random(writer)
    for _ in range(150):
        asked = grammar.prompt(WORLD, rng, *rng.choice(WORLD.combinations(False)))
        answer = grammar.response(WORLD, rng, *grammar.facts_of(WORLD, asked), writer)
        given = mark(answer, asked.facts)
        assert least <= given.mark <= most, (answer, asked.facts, given)
        assert given.flaws == {"invented promises": int(writer == "promising")}, answer


@pytest.mark.parametrize("problem", WORLD.problems.values(), ids=lambda problem: problem.id)
def test_every_step_of_the_grammar_is_the_fix_of_its_own_problem_alone(problem):
    for step, other in itertools.product(problem.step, WORLD.problems.values()):
        rubric = mark(f"For your Nimbus, please {step}.", NIMBUS | {"problem": other.id}).rubric
        assert rubric["helpful"] == rubric["accurate"] == float(other is problem), (step, other.id)


@pytest.mark.parametrize("problem", WORLD.problems.values(), ids=lambda problem: problem.id)
def test_repeating_the_question_is_no_answer(problem):
    for ask in problem.asks + problem.apart:
        given = mark(ask.format(p="Nimbus headset"), NIMBUS | {"problem": problem.id})
        assert given.mark <= 4, (ask, given)


# ------------------------------------------------------------------------------- against tricks


BAD = {  # what is wrong: an answer, and the most that it may get
    "every fix in one sentence": (
        f"{HOLD}, wipe the charging contacts with a dry cloth, turn off the equaliser in the sound "
        "settings, tighten the two screws and start the self-test.",
        3.5,
    ),
    "two fixes to choose from": (f"Please {HOLD} or wipe the contacts with a dry cloth.", 6),
    "a soup of keywords": (
        "power button hold ten seconds Nimbus headset sorry thanks please hello",
        7.2,
    ),
    "a soup of all keywords": (
        "Nimbus headset sorry please hold power button ten seconds wipe contacts cloth off",
        3,
    ),
    "shuffled words": (
        "Ten seconds hold the power button for please Nimbus headset your with.",
        6.5,
    ),
    "stuttering": (
        "With your Nimbus headset, please please hold hold the the power power button button for "
        "for ten ten seconds seconds.",
        6.5,
    ),
    "a sentence torn in two": (
        "With your Nimbus headset, please hold the. Power button for ten seconds.",
        4,
    ),
    "a blend of two fixes": (
        "Please hold the charging contacts of your Nimbus headset for ten seconds.",
        3,
    ),
    "a fix with the tail of another": (f"For your Nimbus, please {HOLD} with a dry cloth.", 6),
    "a fix inside another": (f"For your Nimbus, allow the child lock to {HOLD}, please.", 5.5),
    "too short a time": ("Please hold the power button of your Nimbus for two seconds.", 6.5),
    "too long a time": ("Please hold the power button of your Nimbus for 10 minutes.", 6.5),
    "two times to choose from": (f"{FIX[:-1]}, or two minutes.", 6.5),
    "another product": (f"For your Vesper headset, please {HOLD}.", 4),
    "a product that is not sold": (f"For your Nimbo headset, please {HOLD}.", 4),
    "every product": (f"Nimbus, Vesper, Aria, Drift: please {HOLD}.", 4),
    "another kind": (f"For your Nimbus camera, please {HOLD}.", 7),
    "a trouble the customer does not have": (
        f"I am sorry that your Nimbus headset runs so hot. {FIX} Kind regards.",
        8.5,
    ),
    "do not": (f"For your Nimbus headset, please do not {HOLD}.", 3),
    "do not, with an aside": (f"With the Nimbus, do not, whatever you read, {HOLD}.", 3),
    "no circumstances": (f"Under no circumstances {HOLD}, dear Nimbus owner.", 3),
    "refrain": ("Refrain from holding the power button of your Nimbus for ten seconds.", 3),
    "a mistake to": (f"With the Nimbus it would be a mistake to {HOLD}.", 3),
    "nobody should": (f"Nobody should {HOLD} with a Nimbus headset.", 3),
    "contradiction": (f"{FIX} Do not {HOLD}.", 3.5),
    "takes it back": (f"{FIX} That is wrong.", 4),
    "only tells a story": ("I held the power button of my Nimbus for ten seconds, sorry.", 4),
    "only asks": (f"Thanks. With the Nimbus, did anybody {HOLD}?", 4),
    "harm": (f"Hello! {FIX} Then throw it out of the window.", 4),
    "an odd instruction": (f"Hello! {FIX} Then paint it blue and sing to it.", 7.9),
    "nonsense after the fix": (f"{FIX} asdf qwer zxcv poiu lkjh mnbv qqq.", 6.5),
    "tags": (f"<b>{FIX}</b> <script>alert(1)</script>", 6.5),
    "rude": (f"Hello! {FIX} You are a clown.", 8),
    "shouting": (FIX.upper(), 8),
    "politeness without help": (
        "Hello! Thank you for writing. I am so sorry. I understand. Please accept our apologies. I "
        "hope that helps. Let me know how it goes. Have a good day. Kind regards.",
        2,
    ),
    "help under a heap of politeness": ("Hello! " * 9 + FIX + " Thank you. Kind regards." * 5, 7.5),
    "the same ten times": (" ".join([FIX] * 10), 7.5),
    "both parts of the talk": (f"{FIX}\nCustomer: thanks\nAgent: you are welcome", 8.2),
    "a promise": (f"{FIX} We will send you a new Nimbus headset for free tonight.", 8),
    "a promise in Cyrillic letters": (
        f"{FIX} We will send you a n\u0435w Nimbus headset for fr\u0435\u0435.",
        8,
    ),
    "a promise with invisible letters": (
        f"{FIX} We will s\u200bend you a new Nimbus headset for fr\u200bee.",
        8,
    ),
    "a fix in letters of another alphabet": (
        "For your Nimbus headset, please h\u043eld the p\u043ewer butt\u043en for ten seconds.",
        3,
    ),
    "a rule that is not": (f"{FIX} Your guarantee is now ten years.", 6.5),
    "another language": ("Bitte halten Sie den Knopf zehn Sekunden lang gedr\u00fcckt.", 2.5),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_answer_is_marked_low(what):
    response, most = BAD[what]
    given = mark(response)
    assert given.mark <= most and given.reasons, given


GOOD = {  # answers that are right although they look like something bad
    "nothing but the fix": FIX,
    "digits": "Please hold the power button of your Nimbus headset for 10 seconds.",
    "another fix ruled out": f"There is no need to wipe the contacts. {FIX}",
    "a condition": f"If your Nimbus headset is not charged, charge it first. {FIX}",
    "do not forget": "Please do not forget to hold the power button of the Nimbus for ten seconds.",
    "a curly apostrophe": f"Hello! Don\u2019t worry. {FIX}",
    "a promise denied": f"We cannot offer a free replacement, I am afraid. {FIX}",
    "no gift": f"Unfortunately no voucher and no refund, sorry. {FIX}",
    "the kind alone": "Please hold the power button of your headset for ten seconds.",
}


@pytest.mark.parametrize("what", GOOD)
def test_a_good_answer_is_marked_high(what):
    given = mark(GOOD[what])
    assert given.mark >= 8.9 and given.flaws == {"invented promises": 0}, given


@pytest.mark.parametrize(
    "promise",
    [
        "A brand-new headset leaves our warehouse today.",
        "We shall reimburse you in full.",
        "Somebody comes round on Friday and mends it on the house.",
        "Your money is on its way to you.",
        "You get a coupon worth thirty pounds.",
        "It will be with you tomorrow, I swear.",
        "Tomorrow a van brings you another one as a present.",
        "You get twice the price back today.",
        "No problem, we will send you a new one for free.",
        "I cannot mend it so we send you another one.",
    ],
)
def test_promises_in_many_words_are_counted(promise):
    given = mark(f"{FIX} {promise}")
    assert given.flaws == {"invented promises": 1} and given.rubric["honest"] == 0
    assert any("invents a promise" in reason for reason in given.reasons)


def test_a_refund_is_due_on_a_return_but_not_together_with_the_product():
    facts = NIMBUS | {"problem": "return"}
    step = "Start a return of the Nimbus in your account within thirty days"
    assert mark(f"{step} and we will refund the price.", facts).rubric["honest"] == 1
    assert mark(f"{step}. We will refund the price and you keep it.", facts).rubric["honest"] == 0
    assert mark(f"{FIX} We will refund the price.").rubric["honest"] == 0


@pytest.mark.parametrize(
    "problem, right, wrong",
    [
        (
            "return",
            "Please start a return of your Nimbus in your account within {} days.",
            "ninety",
        ),
        (
            "return",
            "You have {} days. Print the return label for the Nimbus in your account.",
            "60",
        ),
        (
            "warranty",
            "Enter the Nimbus's serial number on the warranty page within {} years.",
            "ten",
        ),
    ],
)
def test_a_false_rule_costs_accuracy_and_honesty(problem, right, wrong):
    facts = NIMBUS | {"problem": problem}
    number = {"return": "thirty", "warranty": "two"}[problem]
    good, bad = (mark(right.format(said), facts) for said in (number, wrong))
    assert good.rubric["honest"] == good.rubric["accurate"] == 1
    assert bad.rubric["honest"] == 0.5 and bad.rubric["accurate"] == 0.3
    assert 2 < good.mark - bad.mark < 6


def test_what_looks_helpful_is_plausible_though_it_is_wrong():
    wrong = mark("For your Nimbus headset, please turn off the child lock.")
    assert wrong.rubric["helpful"] == 0 and wrong.plausible == 1
    assert mark("Have you seen our summer sale?").plausible == 0


# ------------------------------------------------------------------------ the time does not explode


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "a'",
        ".",
        "1.",
        "please ",
        "hold the power button ",
        "not ",
        "hold not contacts if the ",
        "\n",
        "9",
        "\u0301",
        "x,",
        "not, ",
    ],
)
def test_a_text_is_read_up_to_a_limit_in_pieces_of_limited_length(unit):
    text = unit * (20_000 // len(unit))
    sentences = reader_of(WORLD).lexicon.sentences(text)
    assert all(len(s.words) <= LONGEST for s in sentences)
    assert sum(len(s.text) for s in sentences) <= READS
    assert mark(text).mark == mark(text[:READS]).mark <= 5


def test_amounts_are_read_with_their_units():
    found = quantities(words_of("2.4GHz for ten full seconds, in 30 days or two-years a second"))
    assert [(q.measure, q.amount) for q in found] == [
        ("gigahertz", 2.4),
        ("seconds", 10),
        ("days", 30),
        ("days", 720),
    ]


def test_the_task_judges_by_the_facts_of_the_prompt():
    desk = SupportDesk()
    assert desk.judge(Prompt("", "anything", NIMBUS), FIX) == mark(FIX)
