"""Feedback from written rules: checkers by hand, critiques and revisions, rankings, the file."""

import ast
import re
from dataclasses import replace

import pytest
import torch

from rlhf_lab.constitution import checkers
from rlhf_lab.constitution.critique import check, critique
from rlhf_lab.constitution.model_critic import AFTER, BEFORE, ModelCritic, answer_tokens
from rlhf_lab.constitution.ranking import (
    broken_shares,
    conflicts,
    kept_table,
    rank_by_rules,
    weights_of,
)
from rlhf_lab.constitution.revise import demonstrations_from, revise, revise_all
from rlhf_lab.constitution.rules import Rule, read_rules, without
from rlhf_lab.course.exercises.nb09_constitution import PROMISES, RANK_BY_RULES
from rlhf_lab.disk.data import base_model, data_folder
from rlhf_lab.models import load_policy, load_tokenizer
from rlhf_lab.records import Prompt
from rlhf_lab.reward import encode
from rlhf_lab.tasks import load_task
from rlhf_lab.tasks import phrases as words
from rlhf_lab.tasks.support_desk import manual
from rlhf_lab.tasks.writing import pick
from tests.helpers import refusal

ASKED = Prompt(
    "1", "Customer: Hi, my Iris does not turn on. My old Pinnacle camera works fine.\nAgent:"
)
CALM = Prompt("2", "Customer: I want to cancel my order of the Slate tablet.\nAgent:")
HELP = (
    "Hello! Sorry for the trouble with your Iris camera. Please hold the power button for ten "
    "seconds."
)
PROMISE = "We will send you a new Iris camera for free tonight."


@pytest.fixture(scope="module")
def rules():
    return read_rules()


@pytest.fixture(scope="module")
def by_name():
    return {rule.name: rule for rule in read_rules(also=["the manual's step"])}


@pytest.fixture(scope="module")
def desk():
    """Prompts with four responses each, good and bad, as writers of the forum give them."""
    from random import Random

    from rlhf_lab.tasks.support_desk import grammar

    world, rng = load_task("support_desk").world, Random(3)
    prompts = grammar.prompts(world, 5, 60)

    def write(prompt):
        writer = pick(rng, grammar.FORUM)
        return grammar.response(world, rng, *grammar.facts_of(world, prompt), writer)

    return prompts, [[write(prompt) for _ in range(4)] for prompt in prompts]


def found(rule, response, prompt=ASKED):
    return check(rule, [prompt.text], [response])[0]


# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Hello! Use the 2.4 GHz band. Done", ["Hello!", "Use the 2.4 GHz band.", "Done"]),
        ("  Is that so?!  No ", ["Is that so?!", "No"]),
        ("", []),
        ("...", ["..."]),
    ],
)
def test_sentences_by_hand(text, expected):
    assert [text[a:b] for a, b in words.sentences(text)] == expected


def test_a_phrase_is_found_as_it_stands_and_not_across_sentences():
    text = "We give you the FULL refund. Full. Refund."
    assert [text[a:b] for a, b in words.find(text, ["full refund"])] == ["FULL refund"]


@pytest.mark.parametrize("case", PROMISES.cases, ids=lambda case: case.name)
def test_phrases_and_negations_as_in_the_exercise(case):
    assert bool(words.find(*case.inputs.values())) == PROMISES.right(**case.inputs)


# ---- checkers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "response, quotes",
    [
        (PROMISE, ["for free"]),
        ("You will get twice the price back today.", ["twice the price", "price back"]),
        ("I promise that it will NEVER happen again.", ["I promise", "NEVER happen again"]),
        ("It is not your fault, we guarantee a new one.", ["we guarantee"]),
        ("I cannot promise you a refund.", []),
        ("We cannot give you a full refund.", []),
        ("There is no replacement, and I can\u2019t send a voucher.", []),
        ("Free one gigabyte of storage.", []),  # another kind of free
        ("The voucherless shop promised nothing.", []),  # parts of words
        (HELP, []),
    ],
)
def test_promises_by_hand(by_name, response, quotes):
    finding = found(by_name["no promises"], response)
    assert list(finding.quotes) == quotes and finding.broken == bool(quotes)
    assert finding.kept == (0.0 if quotes else 1.0)
    assert all(quote in response and repr(quote) in finding.reason for quote in quotes)


@pytest.mark.parametrize(
    "response, told",
    [
        ("Please hold the power button for ten seconds.", 1),
        ("Wipe the contacts with a dry cloth and plug it in again.", 1),  # two verbs, one sentence
        ("To solve this with the Iris camera, open the settings.", 1),
        ("The best thing is to turn off the child lock.", 1),
        ("I suggest that you make your phone forget it, then pair again.", 1),
        ("Let it run the self-test once.", 1),
        ("Please hold the button. Clean the vents. You can open the app.", 3),
        ("Do not hold the power button.", 0),
        ("Please do not open the case.", 0),
        ("Please be patient. Let me know how it goes.", 0),
        ("Let us see why it does not turn on.", 0),
        ("We will send you a new one and you keep the old one.", 0),
        ("Learn to use it.", 0),
        ("", 0),
    ],
)
def test_steps_by_hand(by_name, response, told):
    rule = by_name["one step"]
    assert len(checkers.step_sentences(response, rule.settings["verbs"])) == told
    assert found(rule, response).kept == {0: 0.0, 1: 1.0, 3: 0.0}[told]


def test_a_pile_of_steps_is_kept_by_half_and_quoted_from_the_second_on(by_name):
    finding = found(by_name["one step"], "Please hold the button. Clean the vents.")
    assert finding.kept == 0.5 and finding.quotes == ("Clean the vents.",)


@pytest.mark.parametrize(
    "response, kept, quotes",
    [
        ("Restart the Iris.", 1.0, ()),
        ("Restart your Iris camera.", 1.0, ()),
        ("Restart it.", 0.5, ()),
        ("Restart your camera.", 0.5, ()),
        ("Irises bloom.", 0.5, ()),
        ("Restart your Argus camera.", 0.0, ("Argus camera",)),
        ("Your Iris is fine. Pinnacle camera or Iris camera?", 0.0, ("Pinnacle camera",)),
        ("Delete the Iris from the Bluetooth list.", 1.0, ()),
    ],
)
def test_the_product_by_hand(by_name, response, kept, quotes):
    finding = found(by_name["the right product"], response)
    assert (finding.kept, finding.quotes) == (kept, quotes) and finding.broken == (kept < 1)


def test_the_product_is_the_one_that_the_customer_named(by_name):
    """All prompts, those in phrasings that no training text has too."""
    task, settings = load_task("support_desk"), by_name["the right product"].settings
    for prompts in (task.prompts(3, 800), *task.held_out().values()):
        for prompt in prompts:
            name, *kind = checkers.products(prompt.text, **settings)[0].split()
            assert name == prompt.facts["product"] and kind in ([], [prompt.facts["kind"]])


def test_nothing_is_asked_about_a_product_that_nobody_named(by_name):
    nameless = Prompt("", "Customer: help!")
    assert not found(by_name["the right product"], "Restart it.", nameless).broken


@pytest.mark.parametrize(
    "prompt, response, broken",
    [
        ("It is annoying.", "Restart it.", True),
        ("It is ANNOYING!", "I understand.", False),
        ("It is annoying.", "I am not sorry.", True),
        ("It hums.", "Restart it.", False),
    ],
)
def test_sympathy_is_asked_for_where_the_customer_is_annoyed(by_name, prompt, response, broken):
    assert found(by_name["sympathy"], response, Prompt("", prompt)).broken == broken


@pytest.mark.parametrize(
    "prompt, who",
    [
        ("Customer: It is annoying.\nAgent:", "the customer"),
        ("Human: It is annoying.\n\nAssistant:", "the human"),
        ("It is annoying: help!", "the prompt"),
        ("annoying:that", "the prompt"),
    ],
)
def test_a_critique_calls_who_asks_what_the_prompt_calls_them(by_name, prompt, who):
    reason = found(by_name["sympathy"], "Restart it.", Prompt("", prompt)).reason
    assert reason.endswith(f", though {who} says 'annoying'")


@pytest.mark.parametrize(
    "response, broken",
    [("Hi, thank you.", False), ("Thanks!", False), ("This will do.", True), ("Restart it.", True)],
)
def test_a_greeting_by_hand(by_name, response, broken):  # "This" holds "hi", but is no greeting
    assert found(by_name["a greeting"], response).broken == broken


@pytest.mark.parametrize("count, kept", [(4, 1.0), (5, 0.75), (7, 0.25), (8, 0.0), (20, 0.0)])
def test_length_by_hand(count, kept):
    finding = checkers.length("", "one two. " * (count // 2) + "three" * (count % 2), most=4)
    assert finding.kept == kept
    beyond = ["one two."] * (count // 2 - 2) + ["three"] * (
        count % 2
    )  # the first two are four words
    assert list(finding.quotes) == beyond


@pytest.mark.parametrize(
    "response, quotes",
    [
        ("That is not my problem.", ["not my problem"]),
        ("It is your own fault.", ["your own fault"]),
        ("Do not bother us with this.", ["Do not bother us"]),
        ("It is not your fault.", []),
        ("Obviously, only a fool would ask.", ["Obviously", "a fool"]),
        ("A full charge helps.", []),
    ],
)
def test_insults_by_hand(by_name, response, quotes):
    assert list(found(by_name["no insults"], response).quotes) == quotes


def test_excuses_by_hand(by_name):
    assert found(by_name["no excuses"], "I am not sure what to say.").broken
    assert not found(by_name["no excuses"], "Please wait until it ships.").broken


@pytest.mark.parametrize(
    "response, kept",
    [
        ("Please hold the power button for ten seconds.", 1.0),
        ("Keep the power button of the Iris pressed for ten seconds!", 1.0),
        ("Clear the dust from the air vents.", 0.0),
        ("Hello!", 0.0),
        ("Hold the power button for ten seconds. Turn off the child lock.", 0.5),
    ],
)
def test_the_manual_by_hand(by_name, response, kept):
    finding = found(by_name["the manual's step"], response)
    assert finding.kept == kept and finding.broken == (kept < 1)
    assert all("power button" not in quote for quote in finding.quotes)


def test_the_manual_makes_out_the_problem_from_the_customers_words_alone():
    for prompt in (p for p in load_task("support_desk").prompts(3, 400)):
        assert manual.problem_in(prompt.text) == prompt.facts["problem"]
    assert manual.problem_in("Customer: my Iris hates me.\nAgent:") is None


def test_what_the_manual_does_not_make_out_it_asks_nothing_of(by_name):
    unheard_of = Prompt("", "Customer: my Iris hates me.")
    assert not found(by_name["the manual's step"], "Hello!", unheard_of).broken


# ---- critique and revision -----------------------------------------------------------------------


def test_a_critique_by_hand(rules):
    result = critique(ASKED, PROMISE, rules)
    assert [rule.name for rule, _ in result.broken] == ["no promises", "one step", "a greeting"]
    assert result.weight == pytest.approx(3 + 3 + 0.5)
    assert result.lines()[0] == (
        "no promises: says 'for free'. (Promise nothing that the shop has not promised.)"
    )
    assert critique(ASKED, HELP, rules).broken == [] and critique(ASKED, HELP, rules).weight == 0


def test_a_clean_response_is_returned_untouched(rules):
    clean = HELP.replace("! S", "!  S")  # even its white space
    revision = revise(critique(ASKED, clean, rules), others=["Hello!"])
    assert revision.text == clean and revision.edits == () and revision.sample == 0
    assert revision.after == revision.before


def test_exactly_the_sentence_of_the_quote_is_struck(rules):
    text = f"{HELP} You get a voucher of fifty euros. Kind regards."
    revision = revise(critique(ASKED, text, rules))
    assert revision.text == f"{HELP} Kind regards."
    assert revision.edits == ("struck 'You get a voucher of fifty euros.'",)
    assert [rule.name for rule, _ in revision.before.broken] == ["no promises"]


def test_what_a_rule_asks_for_is_put_in_behind_the_greeting(rules):
    revision = revise(critique(ASKED, "Good day! Please hold the power button.", rules))
    assert revision.text == (
        "Good day! Sorry for the trouble with your Iris. Please hold the power button."
    )
    assert revise(critique(ASKED, "Hold the power button.", rules)).text == (
        "Hello! Sorry for the trouble with your Iris. Hold the power button."
    )
    assert revise(critique(CALM, "Hello, press cancel.", rules)).edits == (
        "put in 'Sorry for the trouble with your Slate tablet.'",
    )


def test_an_ending_is_put_in_at_the_end():
    rule = Rule("bye", "Say goodbye.", 1.0, "say", {"phrases": ("bye",)}, add="Bye.", at="end")
    assert revise(critique(ASKED, "Hold it. Wait.", [rule])).text == "Hold it. Wait. Bye."
    assert revise(critique(ASKED, "", [rule])).text == "Bye."


def test_an_edit_that_breaks_a_heavier_rule_is_not_made(rules):
    """The only sentence with a step promises something too: struck, there would be no step."""
    text = "Hello! For your Iris, please hold the power button, and you get a voucher."
    step_first = [replace(r, weight=9.0) if r.name == "one step" else r for r in rules]
    assert revise(critique(ASKED, text, step_first)).text == text
    promise_first = [replace(r, weight=9.0) if r.name == "no promises" else r for r in rules]
    revised = revise(critique(ASKED, text, promise_first))
    assert "voucher" not in revised.text and "power button" not in revised.text


def test_another_sample_is_taken_where_edits_are_not_enough(rules):
    others = ["These things happen.", "Please hold the power button for ten seconds."]
    revision = revise(critique(ASKED, PROMISE, rules), others)
    assert revision.sample == 2 and revision.after.broken == []
    assert revision.text == f"Hello! Sorry for the trouble with your Iris. {others[1]}"
    assert others[1] in revision.edits[0]


def test_revisions_break_no_more_than_the_responses(rules, desk):
    revisions = revise_all(*desk, rules)
    for revision in revisions:
        assert revision.after.weight <= revision.before.weight + 1e-9
        assert revision.after == critique(revision.prompt, revision.text, rules)
    assert sum(r.after.weight for r in revisions) < 0.3 * sum(r.before.weight for r in revisions)
    assert {r.sample > 0 for r in revisions} == {True, False}  # both ways to mend were taken


def test_a_revision_has_no_words_but_the_policys_and_the_rules_own(rules, desk):
    """Sentence by sentence: what there was, less what was struck, and what was put in."""
    for revision, texts in zip(revise_all(*desk, rules), desk[1]):
        source, revised = (
            [text[a:b] for a, b in words.sentences(text)]
            for text in (texts[revision.sample], revision.text)
        )
        done = [re.fullmatch(r"(struck|put in) ('.*'|\".*\")", edit) for edit in revision.edits]
        for edit in filter(None, done):
            sentence = ast.literal_eval(edit[2])
            source.remove(sentence) if edit[1] == "struck" else source.append(sentence)
            own = [rule.add.split("{")[0] for rule in rules if rule.add]
            assert edit[1] == "struck" or sentence.startswith(tuple(own))
        assert sorted(source) == sorted(revised)


def test_demonstrations_are_the_revisions(rules, desk):
    revisions = revise_all(desk[0][:5], desk[1][:5], rules)
    shown = demonstrations_from(revisions)
    assert [(d.prompt, d.response) for d in shown] == [(r.prompt, r.text) for r in revisions]


# ---- rankings ------------------------------------------------------------------------------------

FIRST = Rule("first", "Say one.", 2.0, "say", {"phrases": ("one",)})
SECOND = Rule("second", "Say two.", 1.0, "say", {"phrases": ("two",)})
SHORT = Rule("short", "Be short.", 1.5, "length", {"most": 2})


def test_a_ranking_by_hand():
    texts = ["two", "one", "one two", "nothing", "two!"]
    [ranking] = rank_by_rules([ASKED], [texts], [FIRST, SECOND])
    assert ranking.ranks == (3, 2, 1, 5, 3) and ranking.responses == tuple(texts)
    assert ranking.labeller == "constitution" and ranking.prompt == ASKED
    [turned] = rank_by_rules([ASKED], [texts[::-1]], [FIRST, SECOND])
    assert turned.ranks == ranking.ranks[::-1]


def test_rankings_go_into_the_reward_model(rules, desk):
    data = encode(load_tokenizer(base_model()), rank_by_rules(*desk, rules))
    assert data.ranks.shape == (60, 4) and bool((data.ranks.min(1).values == 1).all())


@pytest.mark.parametrize("case", RANK_BY_RULES.cases, ids=lambda case: case.name)
def test_ranks_are_those_of_the_exercise(case):
    kept, weights = case.inputs["kept"].double(), case.inputs["weights"].double()
    rules = [Rule(str(i), "", float(w), "say") for i, w in enumerate(weights)]

    def critic(rule, prompts, responses):
        return [checkers.Finding(float(kept[int(text), int(rule.name)])) for text in responses]

    [ranking] = rank_by_rules([ASKED], [[str(k) for k in range(len(kept))]], rules, critic)
    assert list(ranking.ranks) == RANK_BY_RULES.right(kept, weights).tolist()


def test_conflicts_by_hand():
    """Three pairs of responses of 1, 1 and 3 words: in two of them "one" stands against "two"."""
    rules = [FIRST, SECOND, SHORT]
    kept = kept_table([ASKED], [["one", "two", "a long two"]], rules)
    assert kept.tolist() == [[[1, 0, 1], [0, 1, 1], [0, 1, 0.5]]]
    assert weights_of(rules).tolist() == [2.0, 1.0, 1.5]
    listed = {(c.first, c.second): (c.share, c.wins) for c in conflicts(kept, rules)}
    # in all "one" keeps 3.5, "two" 2.5, "a long two" 1.75: the first rule wins both of its
    # conflicts, and the second loses to the third, for which "a long two" is worse than "one"
    assert listed == {
        ("first", "second"): (pytest.approx(2 / 3), 1.0),
        ("second", "short"): (pytest.approx(1 / 3), 0.0),
    }
    even = conflicts(kept[:, :, :2], [replace(FIRST, weight=1.0), SECOND])
    assert [(c.wins, round(c.share, 3)) for c in even] == [(0.5, 0.667)]
    assert conflicts(kept[:, :, :1], [FIRST]) == []


def test_broken_shares_by_hand():
    shares = broken_shares([ASKED, CALM], [["one", "two"], ["two", "a long one"]], [FIRST, SHORT])
    assert shares == {"first": 0.5, "short": 0.25}


# ---- the file ------------------------------------------------------------------------------------


def test_the_shipped_file(rules):
    weights = [rule.weight for rule in rules]
    assert len(rules) == 8 and weights == sorted(weights, reverse=True)
    assert "the manual's step" not in [rule.name for rule in rules]
    assert len(read_rules(also=["the manual's step"])) == 9
    assert [r.name for r in without(rules, "short")] == [r.name for r in rules if r.name != "short"]
    assert "no rule 'long'" in refusal(without, rules, "long")


def test_no_rule_but_the_manuals_reads_the_facts(rules, desk):
    prompts, texts = desk
    bare = [Prompt(prompt.id, prompt.text) for prompt in prompts]
    every = read_rules(also=["the manual's step"])  # it looks them up in the customer's words
    assert torch.equal(kept_table(bare, texts, every), kept_table(prompts, texts, every))


def test_an_edited_file_changes_the_ranking(tmp_path):
    path = tmp_path / "rules.toml"
    text = (data_folder() / "constitution.toml").read_text(encoding="utf-8")
    pair = [[f"{HELP} Kind regards from all of us here.", HELP.replace("Hello! ", "")]]
    path.write_text(text, encoding="utf-8")
    assert rank_by_rules([ASKED], pair, read_rules(path))[0].ranks == (1, 2)
    path.write_text(text.replace("most = 35", "most = 16"), encoding="utf-8")
    assert rank_by_rules([ASKED], pair, read_rules(path))[0].ranks == (1, 2)
    heavier = text.replace("most = 35", "most = 16").replace(
        'says = "Say it in 35 words or fewer."\nweight = 0.5', 'says = "Be short."\nweight = 5'
    )
    assert heavier != text
    path.write_text(heavier, encoding="utf-8")
    assert rank_by_rules([ASKED], pair, read_rules(path))[0].ranks == (2, 1)


GOOD = 'name = "a"\nsays = "Be short."\nweight = 1\ncheck = "length"\nmost = 3'


@pytest.mark.parametrize(
    "text, wanted",
    [
        (f"[[rule]]\n{GOOD}\nmots = 3", ["rule 'a'", "'mots'", "did you mean 'most'?"]),
        (f"[[rule]]\n{GOOD}".replace('"length"', '"lenght"'), ["rule 'a'", "'check'", "'lenght'"]),
        (f"[[rule]]\n{GOOD}".replace("= 1", "= 0"), ["rule 'a'", "'weight'", "0", "above 0"]),
        (f"[[rule]]\n{GOOD}".replace("= 1", "= inf"), ["'weight'", "inf"]),
        (f"[[rule]]\n{GOOD}".replace("= 1", "= true"), ["'weight'", "True"]),
        (f"[[rule]]\n{GOOD}".replace("weight = 1", ""), ["'weight'", "missing"]),
        (f"[[rule]]\n{GOOD}".replace("= 3", '= "3"'), ["'most'", "a text: give a number"]),
        (f"[[rule]]\n{GOOD}".replace("= 3", "= -3"), ["'most'", "-3"]),
        (f"[[rule]]\n{GOOD}".replace("= 3", "= true"), ["'most'", "true"]),
        (f"[[rule]]\n{GOOD}".replace("= 3", "= 2026-11-24"), ["'most'", "a date"]),
        (f"[[rule]]\n{GOOD}".replace("most = 3", ""), ["rule 'a'", "'most'", "missing"]),
        (f"[[rule]]\n{GOOD}".replace('name = "a"', ""), ["rule 1", "'name'", "missing"]),
        (f"[[rule]]\n{GOOD}\n[[rule]]\n{GOOD}", ["rule 'a'", "'name'", "twice"]),
        (f"[[rule]]\n{GOOD}\non = false", ["no rule is on"]),
        (f'[[rule]]\n{GOOD}\nadd = "For {{customer}}."', ["'add'", "{customer}", "{product}"]),
        (f'[[rule]]\n{GOOD}\nat = "top"', ["'at'", "top"]),
        (
            '[[rule]]\nname = "a"\nsays = "b"\nweight = 1\ncheck = "avoid"\nphrases = ["!"]',
            ["rule 'a'", "'phrases'", "number 1"],
        ),
        (
            '[[rule]]\nname = "a"\nsays = "b"\nweight = 1\ncheck = "avoid"\nphrases = []',
            ["'phrases'", "empty"],
        ),
        (f"[rule]\n{GOOD}", ["[[rule]]"]),
        ("", ["no rule"]),
        ("[[rules]]", ["'rules'"]),
        ("[[rule]]\nname = a", ["TOML", "line 2"]),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, text, wanted):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    message = refusal(read_rules, path)
    assert all(part in message for part in [str(path), *wanted])


def test_files_that_cannot_be_read(tmp_path):
    assert "cannot read" in refusal(read_rules, tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes("# \u00fc".encode("latin-1"))
    assert "UTF-8" in refusal(read_rules, tmp_path / "latin.toml")
    assert "no rule 'tone'" in refusal(read_rules, also=["tone"])


# ---- a model as the critic -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def critic():
    return ModelCritic.load(base_model())


def test_log_odds_by_hand(critic, rules):
    """From the whole softmax of one unpadded row, read by a fresh copy of the model."""
    model, tokenizer = load_policy(base_model()), load_tokenizer(base_model())
    whole = BEFORE.format(asker="customer", rule=rules[0].says) + ASKED.text + " " + HELP + AFTER
    row = critic.question(rules[0], ASKED.text, HELP)
    assert tokenizer.decode(row) == whole
    with torch.no_grad():
        probabilities = model(torch.tensor([row])).logits[0, -1].double().softmax(-1)
    yes, no = (probabilities[tokenizer.encode(word)].item() for word in (" yes", " no"))
    [odds] = critic.log_odds(rules[0], [ASKED.text], [HELP])
    assert odds == pytest.approx(torch.tensor(yes / no).log().item(), abs=1e-4)
    [finding] = critic(rules[0], [ASKED.text], [HELP])
    assert finding.kept == pytest.approx(no / (yes + no), abs=1e-4)
    assert finding.broken == (yes > no) and finding.quotes == ()


def test_neither_order_nor_company_has_a_say(critic, rules, desk):
    prompts = [prompt.text for prompt in desk[0][:4]]
    texts = [row[0] for row in desk[1][:4]]
    together = critic.log_odds(rules[0], prompts, texts)
    backwards = critic.log_odds(rules[0], prompts[::-1], texts[::-1])[::-1]
    alone = [critic.log_odds(rules[0], [p], [t])[0] for p, t in zip(prompts, texts)]
    threes = ModelCritic(critic.model, critic.tokenizer, batch_size=3)
    small = threes.log_odds(rules[0], prompts, texts)
    for other in (backwards, alone, small):
        assert other == pytest.approx(together, abs=1e-4)
    assert max(together) - min(together) > 0.01  # and it does read them


def test_a_long_prompt_loses_its_beginning_and_the_response_nothing(critic, rules):
    long = "Customer: " + "my Iris is dead. " * 80 + "Can you help?\nAgent:"
    context = critic.model.config.max_position_embeddings
    row = critic.question(rules[0], long, HELP)
    text = critic.tokenizer.decode(row)
    assert len(row) == context and "Customer:" not in text
    assert text.startswith(BEFORE.format(asker="customer", rule=rules[0].says))
    assert text.endswith(f"Can you help?\nAgent: {HELP}{AFTER}")
    assert critic.log_odds(rules[0], [long], [HELP])
    message = refusal(critic.question, rules[0], long, "Wait for it. " * 90)
    assert "no promises" in message and str(context) in message


def test_a_tokenizer_without_yes_and_no_is_refused(gpt2, tokenizer):
    assert "no single token for yes" in refusal(ModelCritic, gpt2, tokenizer)
    compact = load_tokenizer(base_model())
    assert compact.convert_ids_to_tokens(answer_tokens(compact)) == ["\u0120yes", "\u0120no"]


def test_a_model_can_rank_and_choose_in_place_of_the_checkers(critic, rules, desk):
    prompt, texts = desk[0][0], desk[1][0]
    [ranking] = rank_by_rules([prompt], [texts], rules[:1], critic)
    odds = critic.log_odds(rules[0], [prompt.text] * 4, texts)  # the likelier broken, the worse
    assert list(ranking.ranks) == [1 + sum(other < one for other in odds) for one in odds]
    never = replace(rules[0], add="Hello!")
    revision = revise(critique(prompt, texts[0], [never], critic), texts[1:2], critic)
    assert revision.after.weight <= revision.before.weight
