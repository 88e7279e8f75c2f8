"""Dialogues and chat messages as prompts and responses, and prompts that are too long."""

from dataclasses import asdict

import pytest
from format_rows import RANKED, SYSTEM, TALK, A, H, assistant, lines, user, write_lines
from helpers import END, PAD, byte_level, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from rlhf_lab.formats import chat, dialogues
from rlhf_lab.formats.chat import Message
from rlhf_lab.formats.reading import read_demonstrations, read_preferences, read_prompts
from rlhf_lab.text import encode_prompt, encode_response

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}" + END + "\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
STUBBORN = "{{ raise_exception('only the user may speak') }}"


# ---- dialogues by hand --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt", "answers"),
    [
        # the same first words stay in both answers
        (
            f"{H}hi{A} Sure, I can.",
            f"{H}hi{A} Sure, I will.",
            f"{H}hi{A}",
            (" Sure, I can.", " Sure, I will."),
        ),
        # several turns: the last marker before they part
        (f"{H}a{A} b{H}c{A} yes", f"{H}a{A} b{H}c{A} no", f"{H}a{A} b{H}c{A}", (" yes", " no")),
        # one is the beginning of the other
        (f"{H}a{A} Yes", f"{H}a{A} Yes, and more", f"{H}a{A}", (" Yes", " Yes, and more")),
        # nothing parts them
        (f"{H}a{A} Yes", f"{H}a{A} Yes", f"{H}a{A}", (" Yes", " Yes")),
        # a marker on a line of its own, or within one, is part of the answer
        (
            f"{H}a{A} Roles:\nAssistant: me\nHuman: you",
            f"{H}a{A} Roles:\nAssistant: it",
            f"{H}a{A}",
            (" Roles:\nAssistant: me\nHuman: you", " Roles:\nAssistant: it"),
        ),
        (
            f"{H}a{A} the Assistant: x",
            f"{H}a{A} the Assistant: y",
            f"{H}a{A}",
            (" the Assistant: x", " the Assistant: y"),
        ),
        # blank lines within turns, and at the end
        (
            f"{H}a\n\nb\n\n\n{A} c\n\nd\n\n",
            f"{H}a\n\nb\n\n\n{A} c\n\ne",
            f"{H}a\n\nb\n\n\n{A}",
            (" c\n\nd\n\n", " c\n\ne"),
        ),
        # an answer that is empty
        (f"{H}a{A}", f"{H}a{A} x", f"{H}a{A}", ("", " x")),
        # without blank lines a turn begins on a line
        ("Human: a\nAssistant: b", "Human: a\nAssistant: c", "Human: a\nAssistant:", (" b", " c")),
        # lines that end as on Windows
        (
            "Human: a\r\n\r\nAssistant: b\r\nc",
            "Human: a\r\n\r\nAssistant: b\r\nd",
            "Human: a\r\n\r\nAssistant:",
            (" b\r\nc", " b\r\nd"),
        ),
        # they part in a question: the marker before it, and what is left goes on
        (
            f"{H}a{A} b{H}c{A} d",
            f"{H}a{A} b{H}x{A} d",
            f"{H}a{A}",
            (f" b{H}c{A} d", f" b{H}x{A} d"),
        ),
        # they part within a marker
        (
            f"{H}a{A} b\n\nAssistants",
            f"{H}a{A} b{A} c",
            f"{H}a{A}",
            (" b\n\nAssistants", f" b{A} c"),
        ),
    ],
)
def test_where_a_dialogue_is_split(chosen, rejected, prompt, answers):
    assert dialogues.split_pair(chosen, rejected) == (prompt, *answers)
    assert dialogues.split_pair(rejected, chosen) == (prompt, *answers[::-1])


def test_dialogues_without_a_marker_in_common_are_not_split():
    assert dialogues.split_pair("The sky is blue.", "The sky is green.") is None
    assert dialogues.split_pair(f"{H}a{A} x", f"{H}b{A} y") is None
    assert dialogues.split_last("The sky is blue.") is None


@pytest.mark.parametrize(
    ("rest", "more"),
    [
        (" b", False),
        (f" b{H}c", True),
        (f" b{A} c", True),
        (" b\nHuman: c", False),
        (f"{H}c", True),
    ],
)
def test_another_turn_after_the_answer_is_noticed(rest, more):
    assert dialogues.goes_on(f"{H}a{A}", rest) is more


def test_a_dialogue_without_blank_lines_is_split_at_its_last_answer():
    text = "Human: a\nAssistant: b\nHuman: c\nAssistant: d"
    assert dialogues.split_last(text) == ("Human: a\nAssistant: b\nHuman: c\nAssistant:", " d")


# ---- chat messages ------------------------------------------------------------------------------


@pytest.fixture
def chatty(tokenizer):
    """The byte-level tokenizer with a chat template."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=byte_level(END, PAD), eos_token=END, pad_token=PAD
    )
    made.chat_template = CHATML
    return made


@pytest.fixture
def starting(tokenizer):
    """A tokenizer that puts a start token in front, with a template that writes it out too."""
    backend = byte_level(END, PAD, "<s>")
    backend.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=PAD, bos_token="<s>"
    )
    made.chat_template = "<s>" + CHATML
    return made


TALKED = (
    Message("system", "Be kind."),
    Message("user", "Hi"),
    Message("assistant", "Yes?"),
    Message("user", "Why?"),
)


def test_messages_are_rendered_with_the_template_where_there_is_one(chatty):
    expected = f"<|system|>\nBe kind.{END}\n<|user|>\nHi{END}\n<|assistant|>\n"
    assert chat.render(TALKED[:2], chatty) == expected


def test_prompt_and_response_give_the_tokens_of_the_whole_conversation(chatty):
    whole = chatty.apply_chat_template(
        [asdict(m) for m in (*TALKED, Message("assistant", "So."))], tokenize=False
    )
    prompt = chat.render(TALKED, chatty)
    ids = encode_prompt(chatty, prompt) + encode_response(chatty, prompt, "So.")
    assert ids == chatty.encode(whole.removesuffix("\n"), add_special_tokens=False)


def test_the_start_token_stands_in_front_once(starting):
    ids = encode_prompt(starting, chat.render(TALKED, starting))
    assert ids.count(starting.bos_token_id) == 1 and ids[0] == starting.bos_token_id
    ids = encode_prompt(starting, chat.render(TALKED))
    assert ids.count(starting.bos_token_id) == 1


def test_messages_are_plain_turns_where_there_is_no_template(tokenizer):
    text = "Be kind.\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why?\n\nAssistant:"
    assert chat.render(TALKED) == chat.render(TALKED, tokenizer) == text


def test_messages_are_split_into_prompt_and_response():
    assert chat.split_last(TALKED) == (TALKED, None)
    assert chat.split_last(TALKED[:3]) == (TALKED[:2], "Yes?")

    def say(*texts):
        return tuple(Message(("user", "assistant")[i % 2], text) for i, text in enumerate(texts))

    assert chat.split_pair(say("a", "b"), say("a", "c")) == (say("a"), "b", "c")
    assert chat.split_pair(say("a", "b"), say("a", "b")) == (say("a"), "b", "b")
    assert chat.split_pair(say("a", "b", "c", "d"), say("a", "b", "c", "e")) == (
        say("a", "b", "c"),
        "d",
        "e",
    )
    assert chat.split_pair(say("a", "b", "c", "d"), say("a", "x", "c", "d")) is None
    assert chat.split_pair(say("a", "b"), say("a", "b", "c", "d")) is None
    assert chat.split_pair(say("a"), say("b")) is None


def test_other_ways_to_write_messages_are_understood(tmp_path, chatty):
    rows = [
        {"messages": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "x"}]},
        {
            "messages": [
                {"role": "system", "content": ""},
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "content": "x"},
            ]
        },
    ]
    shown = [(d.prompt.text, d.response) for d in read_demonstrations(lines(tmp_path, *rows))]
    assert shown == [(f"{H}a{A}", "x")] * 2
    prompts = [p.text for p in read_prompts(lines(tmp_path, *rows), chatty)]
    assert prompts == [f"<|user|>\na{END}\n<|assistant|>\n"] * 2  # no empty system message


def test_it_is_said_how_messages_became_text(tmp_path, chatty):
    path = lines(tmp_path, TALK)
    for tokenizer, prompt, says in (
        (chatty, f"<|user|>\na{END}\n<|assistant|>\n", "in the tokenizer's chat template"),
        (None, f"{H}a{A}", "as plain Human:/Assistant: text"),
    ):
        reading = read_prompts(path, tokenizer)
        assert [p.text for p in reading] == [prompt] and f"messages {says}" in str(reading)


def test_messages_that_the_template_refuses_are_a_bad_row(tmp_path, chatty):
    chatty.chat_template = STUBBORN
    path = lines(tmp_path, TALK)
    message = refusal(list, read_demonstrations(path, chatty))
    assert (
        f"{path}, line 1: the tokenizer's chat template does not accept these messages: only "
        "the user" in message
    )


# ---- labels of the best of four as tokens -------------------------------------------------------


class GPT2Like:
    """As much of GPT-2's tokenizer as is asked for: token 100 + n is the n-th letter."""

    vocab_size, chat_template, eos_token_id, eos_token = 50257, None, 50256, "<|endoftext|>"

    def convert_ids_to_tokens(self, token):
        return "<|endoftext|>" if token == 50256 else "x"

    def decode(self, tokens):
        return "".join(chr(ord("a") + token - 100) for token in tokens)


def test_labels_in_tokens_of_gpt2_are_decoded_and_their_padding_dropped(tmp_path):
    row = {"query": [107, 108], "sample0": [100, 50259, 50259], "sample1": [101, 102], "best": 1}
    (ranking,) = read_preferences(lines(tmp_path, row), GPT2Like())
    assert (ranking.prompt.text, ranking.responses, ranking.ranks) == ("hi", ("a", "bc"), (None, 1))
    other = GPT2Like()
    other.vocab_size = 32000
    assert "decode the tokens first" in refusal(list, read_preferences(lines(tmp_path, row), other))


# ---- prompts that are too long ------------------------------------------------------------------

LONG = f"{H}first question{A} first answer{H}second question{A}"


@pytest.mark.parametrize(
    ("limit", "prompt"),
    [
        (len(LONG), LONG),
        (len(LONG) - 1, f"{H}second question{A}"),
        (len(f"{H}second question{A}"), f"{H}second question{A}"),
        (len(f"{H}second question{A}") - 1, f"{H}question{A}"),
        (len(f"{H}question{A}") - 1, f"{H}uestion{A}"),  # not even a word: its last letters
        (len(f"{H}n{A}"), f"{H}n{A}"),
    ],
)
def test_a_long_dialogue_keeps_its_last_turns(tmp_path, tokenizer, limit, prompt):
    path = lines(tmp_path, {"chosen": f"{LONG} yes", "rejected": f"{LONG} no"})
    reading = read_preferences(path, tokenizer, max_prompt_tokens=limit)
    (ranking,) = reading
    assert ranking.prompt.text == prompt
    assert ranking.responses == ("yes", "no")
    assert ("1 long prompt shortened to the end" in str(reading)) is (prompt != LONG)


def test_a_dialogue_of_which_no_question_fits_is_a_bad_row(tmp_path, tokenizer):
    path = lines(tmp_path, {"prompt": LONG})
    limit = len(f"{H}{A}")
    message = refusal(list, read_prompts(path, tokenizer, max_prompt_tokens=limit))
    assert (
        f"{path}, line 1: the limits leave {limit} tokens for the prompt, too few for any of it"
        in message
    )


@pytest.mark.parametrize("make", ["chatty", "starting", "tokenizer"])
def test_a_long_chat_keeps_the_system_message_and_its_last_turns(make, request, tmp_path):
    tokenizer = request.getfixturevalue(make)
    messages = [SYSTEM, user("first question"), assistant("first answer"), user("second question")]
    row = {"messages": [*messages, assistant("x")]}

    def text(*turns):
        return chat.render(tuple(Message(**turn) for turn in turns), tokenizer)

    def length(*turns):
        return len(encode_prompt(tokenizer, text(*turns)))

    def kept(limit):
        (prompt,) = read_prompts(lines(tmp_path, row), tokenizer, max_prompt_tokens=limit)
        assert len(encode_prompt(tokenizer, prompt.text)) <= limit
        return prompt.text

    last = (SYSTEM, user("second question"))
    assert kept(length(*messages)) == text(*messages)
    assert kept(length(*messages) - 1) == kept(length(*last)) == text(*last)
    assert kept(length(*last) - 1) == text(SYSTEM, user("question"))
    message = refusal(kept, length(SYSTEM, user("")))
    assert "too few for any of it" in message


def test_a_chat_is_rendered_no_more_often_than_it_must_be(tmp_path, chatty, monkeypatch):
    rendered, apply = [], chatty.apply_chat_template

    def applying(messages, **how):
        rendered.append([message["content"] for message in messages])
        return apply(messages, **how)

    monkeypatch.setattr(chatty, "apply_chat_template", applying)
    system, long, last = SYSTEM["content"], "one " * 20, user("last question")

    def renderings(*turns, limit):
        del rendered[:]
        row = {"messages": [SYSTEM, *turns, assistant("x")]}
        list(read_demonstrations(lines(tmp_path, row), chatty, max_prompt_tokens=limit))
        return rendered

    assert renderings(last, limit=500) == [[system, "last question"]]
    turns = [user(long), assistant("two"), last]
    whole, end = [system, long, "two", "last question"], [system, "last question"]
    assert renderings(*turns, limit=500) == [whole]
    assert renderings(*turns, limit=80) == [whole, end]
    cut = renderings(user(long), limit=80)  # the rest are tried ends of the one question
    assert cut[0] == [system, long] and [system, long] not in cut[1:]


def test_prompt_and_longest_response_fit_together_and_responses_see_one_prompt(tmp_path, tokenizer):
    row = {"prompt": "one two three four", "responses": ["a", "abcdef"], "ranking": [1, 2]}
    path = lines(tmp_path, row)
    whole = 18 + 8  # " abcdef" and the end token
    (ranking,) = read_preferences(path, tokenizer, max_tokens=whole)
    assert ranking.prompt.text == "one two three four"
    (ranking,) = read_preferences(path, tokenizer, max_tokens=whole - 1)
    assert ranking.prompt.text == "two three four"
    (ranking,) = read_preferences(path, tokenizer, max_tokens=whole, max_prompt_tokens=5)
    assert ranking.prompt.text == "four"
    assert (
        "line 1: a response has 8 tokens with its end token, but the model reads only 8"
        in refusal(list, read_preferences(path, tokenizer, max_tokens=8))
    )
    reading = read_preferences(lines(tmp_path, row, RANKED), tokenizer, max_tokens=8, skip_bad=True)
    assert len(list(reading)) == 1 and reading.bad == {"response too long": 1}


def test_lengths_need_a_tokenizer(tmp_path):
    assert "give a tokenizer" in refusal(read_prompts, "x.jsonl", max_prompt_tokens=5)


WORDS = st.lists(st.text("ab é", min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(WORDS, st.integers(30, 90))
def test_whatever_is_cut_fits_and_is_an_end_of_the_prompt(tokenizer, shelf, said, limit):
    said = said[1 - len(said) % 2 :]  # the last turn is a question
    turns = "".join((H if i % 2 == 0 else A + " ") + text for i, text in enumerate(said)) + A
    write_lines(shelf / "p.jsonl", [{"prompt": turns}])
    (prompt,) = read_prompts(shelf / "p.jsonl", tokenizer, max_prompt_tokens=limit)
    assert 0 < len(encode_prompt(tokenizer, prompt.text)) <= limit
    assert turns.endswith(prompt.text.removeprefix(H))
    if len(encode_prompt(tokenizer, turns)) <= limit:
        assert prompt.text == turns


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf")
