"""Data as people have it: every layout in every kind of source, and every kind of bad row."""

import json
import re
from pathlib import Path

import pytest
from format_rows import (
    ASK,
    DEMO,
    DEMONSTRATIONS,
    HEAD,
    NO,
    PREFERENCES,
    RANKED,
    TALK,
    THREE,
    WRITERS,
    YES,
    A,
    H,
    Hub,
    assistant,
    lines,
    user,
    write_cells,
    write_lines,
)
from helpers import refusal

from rlhf_lab.cli import main
from rlhf_lab.disk import files
from rlhf_lab.errors import BadRow
from rlhf_lab.formats import layouts
from rlhf_lab.formats.reading import read_demonstrations, read_preferences, read_prompts
from rlhf_lab.models import save_policy
from rlhf_lab.records import Demonstration, Prompt, Ranking


@pytest.fixture(params=[*WRITERS, "hub:someone/data"])
def stored(request, tmp_path, monkeypatch):
    """stored(rows): the rows as a source of each kind."""

    def store(rows):
        if request.param.startswith("hub:"):
            Hub(monkeypatch, rows)
            return request.param
        WRITERS[request.param](tmp_path / request.param, rows)
        return tmp_path / request.param

    return store


@pytest.mark.parametrize("layout", PREFERENCES)
def test_preferences_are_read_from_every_kind_of_source(stored, layout):
    rows, expected = PREFERENCES[layout]
    source = stored(rows)
    reading = read_preferences(source)
    assert [(r.prompt.text, r.responses, r.ranks) for r in reading] == expected
    count = f"{len(rows)} row{'s' * (len(rows) > 1)}"
    assert str(reading).startswith(f"read {count} of {source} as {layout.split()[0]}")


@pytest.mark.parametrize("layout", DEMONSTRATIONS)
def test_demonstrations_are_read_from_every_kind_of_source(stored, layout):
    rows, expected = DEMONSTRATIONS[layout]
    reading = read_demonstrations(stored(rows))
    assert [(d.prompt.text, d.response) for d in reading] == expected
    assert f" as {layout.split()[0]}" in str(reading)


@pytest.mark.parametrize("layout", [*PREFERENCES, *DEMONSTRATIONS])
def test_prompts_are_read_as_training_reads_them(tmp_path, layout):
    rows, expected = (PREFERENCES | DEMONSTRATIONS)[layout]
    assert [p.text for p in read_prompts(lines(tmp_path, *rows))] == [row[0] for row in expected]


def test_prompts_alone_are_read_from_every_kind_of_source(stored):
    assert [p.text for p in read_prompts(stored([{"prompt": ASK}, {"prompt": YES}]))] == [ASK, YES]


def test_ids_facts_and_labellers_are_read_from_every_kind_of_source(stored):
    facts = {"n": [1, 2], "of": "ü"}
    said = {"prompt": ASK, "chosen": YES, "rejected": NO}
    rows = [{"id": "p1", "facts": facts, "labeller": "Ann"} | said]
    expected = Ranking(Prompt("p1", ASK, facts), (YES, NO), (1, 2), "Ann")
    reading = read_preferences(stored(rows))
    assert list(reading) == [expected]
    assert "not used" not in str(reading)


# ---- the lab's own files are read as before -----------------------------------------------------


def test_own_files_are_read_as_the_strict_readers_read_them(tmp_path):
    prompt = Prompt("p", ASK, {"a": [1.5]})
    rankings = [
        Ranking(prompt, ("a", "b", "a"), (2, 1, None), "Ann"),
        Ranking(prompt, ("", ""), (1, 1)),
    ]
    files.write_rankings(tmp_path / "r.jsonl.gz", rankings)
    assert list(read_preferences(tmp_path / "r.jsonl.gz")) == rankings
    shown = [Demonstration(prompt, YES), Demonstration(Prompt("q", "?"), "x")]
    files.write_demonstrations(tmp_path / "d.jsonl", shown)
    assert list(read_demonstrations(tmp_path / "d.jsonl")) == shown
    files.write_prompts(tmp_path / "p.jsonl", [prompt])
    assert list(read_prompts(tmp_path / "p.jsonl")) == [prompt]


def test_a_file_may_mix_rankings_and_comparisons(tmp_path):
    path = lines(
        tmp_path,
        {"prompt": "a", "responses": ["x", "y"], "ranking": [2, 1]},
        {"prompt": "a", "chosen": "x", "rejected": "y"},
    )
    reading = read_preferences(path)
    assert list(reading) == files.read_rankings(path)
    assert "as prompt/responses/ranking and prompt/chosen/rejected" in str(reading)


def test_of_preferences_the_best_response_is_a_demonstration(tmp_path):
    path = lines(tmp_path, {"prompt": "a", "responses": ["x", "y", "z"], "ranking": [2, None, 1]})
    assert [d.response for d in read_demonstrations(path)] == ["z"]
    path = lines(tmp_path, {"prompt": "a", "chosen": "x", "rejected": "y"})
    assert [d.response for d in read_demonstrations(path)] == ["x"]


def test_an_id_that_is_a_number_and_numbers_that_a_table_made_fractions(tmp_path):
    row = {"id": 7, "prompt": "a", "responses": ["x", "y"], "ranking": [2.0, 1.0]}
    (ranking,) = read_preferences(lines(tmp_path, row))
    assert (ranking.prompt.id, ranking.ranks) == ("7", (2, 1))
    best = {"query": "a", "sample0": "x", "sample1": "y", "best": 1.0}
    assert next(iter(read_preferences(lines(tmp_path, best)))).ranks == (None, 1)


# ---- which layout it is -------------------------------------------------------------------------


def test_unknown_columns_are_listed_with_the_layouts_known(tmp_path):
    path = lines(tmp_path, {"question": "a", "choosen": "x", "rejected": "y"})
    message = refusal(list, read_preferences(path, skip_bad=True))
    assert message.startswith(f"{path}, line 1: the columns question, choosen, rejected fit no")
    for layout in PREFERENCES:
        assert layout.split()[0] in message
    assert "--columns" in message


def test_columns_of_several_layouts_are_refused_until_one_is_chosen(tmp_path):
    row = {"prompt": "a", "response": "x", "messages": [user("b"), assistant("y")]}
    path = lines(tmp_path, row)
    message = refusal(list, read_demonstrations(path))
    assert (
        "prompt, response, messages fit prompt/response and messages: choose with --layout"
        in message
    )
    assert [d.response for d in read_demonstrations(path, layout="messages")] == ["y"]
    assert [d.response for d in read_demonstrations(path, layout="prompt/response")] == ["x"]
    message = refusal(list, read_demonstrations(path, layout="alpaca"))
    assert "no layout 'alpaca'" in message and "prompt/completion" in message


def test_demonstrations_are_preferred_to_preferences_where_both_would_do(tmp_path):
    path = lines(tmp_path, {"prompt": "a", "chosen": "x", "rejected": "y", "response": "z"})
    assert [d.response for d in read_demonstrations(path)] == ["z"]
    assert [r.responses for r in read_preferences(path)] == [("x", "y")]


def test_columns_can_be_given_the_names_that_are_known(tmp_path):
    row = {"question": "a", "answer": "x", "prompt": 3, "score": 1}
    reading = read_demonstrations(
        lines(tmp_path, row), columns={"question": "prompt", "answer": "response"}
    )
    assert [(d.prompt.text, d.response) for d in reading] == [("a", "x")]
    assert str(reading).endswith("columns not used: score")
    reading = read_demonstrations(lines(tmp_path, row), columns={"questoin": "prompt"})
    message = refusal(list, reading)
    assert (
        "no column 'questoin' to rename: the columns are question, answer, prompt, score" in message
    )


def test_a_source_can_be_read_again_and_its_count_starts_anew(tmp_path):
    reading = read_prompts(lines(tmp_path, {"prompt": "a"}, {"prompt": ""}), skip_bad=True)
    assert list(reading) == list(reading)
    assert reading.read == 1 and reading.bad == {"empty text": 1}


# ---- bad rows -----------------------------------------------------------------------------------

LEFT_OUT = object()
TWO = {"chosen": f"{HEAD} x", "rejected": f"{HEAD} y"}
CHATS = {"chosen": [user("a"), assistant("x")], "rejected": [user("a"), assistant("y")]}
BEST = {"query": "a", "sample0": "x", "sample1": "y", "sample2": "z", "best": 1}
DONE = {"prompt": "a", "completion": "x"}
TEXT = {"text": f"{HEAD} x"}
LONGER = f"{HEAD} x\n\nHuman: b\n\nAssistant: z"

BAD_ROWS = [
    (THREE, {"prompt": ""}, "prompt", "empty text", "is empty"),
    (THREE, {"chosen": " \n"}, "chosen", "empty text", "is empty"),
    (THREE, {"rejected": "x"}, "rejected", "chosen same as rejected", "same text as 'chosen'"),
    (THREE, {"rejected": " x "}, "rejected", "chosen same as rejected", "same text as 'chosen'"),
    (THREE, {"rejected": LEFT_OUT}, "rejected", "missing field", "is missing: give a text"),
    (THREE, {"prompt": None}, "prompt", "wrong type", "is null: give a text"),
    (THREE, {"chosen": 3}, "chosen", "wrong type", "is a number: give a text"),
    (THREE, {"chosen": [assistant("x")]}, "rejected", "wrong type", "give both the same type"),
    (
        THREE,
        {"chosen": [assistant("x"), user("?")], "rejected": [assistant("y")]},
        "chosen",
        "wrong type",
        "holds 2 messages: give one",
    ),
    (THREE, {"labeller": 3}, "labeller", "wrong type", "is a number: give a text"),
    (THREE, {"facts": [1]}, "facts", "wrong type", "is a list: give an object"),
    (TWO, {"rejected": TWO["chosen"]}, "rejected", "chosen same as rejected", "same text"),
    (
        TWO,
        {"rejected": "\n\nHuman: no marker"},
        "chosen",
        "no Assistant: turn in common",
        "shares no 'Assistant:' turn",
    ),
    (TWO, {"chosen": HEAD}, "chosen", "empty text", "has an empty answer"),
    (TWO, {"rejected": HEAD + " \n"}, "rejected", "empty text", "has an empty answer"),
    (
        TWO,
        {"rejected": LONGER},
        "rejected",
        "dialogues differ before their end",
        "differs from the other dialogue before",
    ),
    (
        TWO,
        {"chosen": LONGER},
        "chosen",
        "dialogues differ before their end",
        "differs from the other dialogue before",
    ),
    (
        TWO,
        {"chosen": [assistant("x")]},
        "chosen",
        "wrong type",
        "is a list, and the other is a text",
    ),
    (CHATS, {"chosen": [user("a"), assistant("y")]}, "rejected", "chosen same as rejected", "same"),
    (
        CHATS,
        {"chosen": [user("b"), assistant("x")]},
        "chosen",
        "dialogues differ before their end",
        "differs from the other dialogue before",
    ),
    (
        CHATS,
        {"chosen": CHATS["rejected"] + [user("b")]},
        "chosen",
        "dialogues differ before their end",
        "differs from the other dialogue before",
    ),
    (CHATS, {"chosen": []}, "chosen", "empty text", "has no messages"),
    (CHATS, {"chosen": ["a"]}, "chosen", "wrong type", "message 1 is a text: give an object"),
    (
        CHATS,
        {"chosen": [user("a"), {"role": "tool", "content": "x"}]},
        "chosen",
        "unknown role",
        "message 2 has the role 'tool': the roles are system, user, assistant",
    ),
    (CHATS, {"chosen": [user("a"), assistant(None)]}, "chosen", "wrong type", "message 2 is null"),
    (CHATS, {"chosen": [user("a"), assistant(" ")]}, "chosen", "empty text", "message 2 is empty"),
    (
        CHATS,
        {"chosen": [assistant("x")], "rejected": [assistant("y")]},
        "chosen",
        "no prompt",
        "begins with the answer",
    ),
    (RANKED, {"ranking": [1]}, "ranking", "wrong number of ranks", "1 ranks for 2 responses"),
    (RANKED, {"ranking": [0, 1]}, "ranking", "invalid rank", "0 is not a rank"),
    (RANKED, {"ranking": [1.5, 1]}, "ranking", "invalid rank", "1.5 is not a rank"),
    (RANKED, {"ranking": [None, None]}, "ranking", "nothing ranked", "ranks nothing"),
    (
        RANKED,
        {"responses": ["x", "x"]},
        "ranking",
        "same text ranked differently",
        "leave one of them out",
    ),
    (RANKED, {"ranking": "1, 2"}, "ranking", "wrong type", "is a text: give a list"),
    (RANKED, {"responses": ["x"], "ranking": [1]}, "responses", "too few responses", "has 1"),
    (RANKED, {"responses": ["x", None]}, "responses", "wrong type", "number 2 is null"),
    (BEST, {"best": 3}, "best", "best out of range", "is 3: with 3 samples it must be from 0 to 2"),
    (BEST, {"best": -1}, "best", "best out of range", "is -1"),
    (BEST, {"best": "1"}, "best", "wrong type", "is a text: give a number"),
    (BEST, {"best": True}, "best", "wrong type", "is true or false: give a number"),
    (BEST, {"best": None}, "best", "wrong type", "is null: give a number"),
    (BEST, {"query": " "}, "query", "empty text", "is empty"),
    (BEST, {"sample2": None}, "sample2", "wrong type", "is null: give a text"),
    (
        BEST,
        {"sample1": LEFT_OUT},
        "sample1",
        "missing field",
        "is missing: number the samples from 0",
    ),
    (BEST, {"sample0": [5, 7]}, "sample0", "tokens", "use a model with GPT-2's tokenizer"),
    (BEST, {"sample0": ["a"]}, "sample0", "wrong type", "is a list of other things than token ids"),
    (
        BEST,
        {f"sample{i}": "x" for i in range(3)},
        "best",
        "samples all the same",
        "prefers nothing",
    ),
    (DEMO, {"response": ""}, "response", "empty text", "is empty"),
    (DEMO, {"response": [user("x")]}, "response", "wrong type", "give one, the assistant's"),
    (DEMO, {"id": 1.5}, "id", "wrong type", "is a number: give a text"),
    (DONE, {"completion": None}, "completion", "wrong type", "is null"),
    (
        TALK,
        {"messages": "a"},
        "messages",
        "wrong type",
        "is a text: give a list of {role, content}",
    ),
    (TALK, {"messages": [assistant("x")]}, "messages", "no prompt", "begins with the answer"),
    (
        TALK,
        {"messages": [user("x")]},
        None,
        "no answer at the end",
        "there is no answer at the end",
    ),
    (TEXT, {"text": "once upon a time"}, "text", "no Assistant: turn", "has no 'Assistant:' turn"),
    (
        TEXT,
        {"text": f"{HEAD} x\n\nHuman: b"},
        "text",
        "no answer at the end",
        "ends with a 'Human:' turn",
    ),
    (TEXT, {"text": HEAD}, None, "no answer at the end", "there is no answer"),
]


@pytest.mark.parametrize(("good", "changes", "field", "kind", "says"), BAD_ROWS)
def test_a_bad_row_is_named_or_passed_over_and_counted(tmp_path, good, changes, field, kind, says):
    bad = {name: value for name, value in (good | changes).items() if value is not LEFT_OUT}
    path = lines(tmp_path, good, good, bad, good)
    demonstrations = good in (DEMO, DONE, TALK, TEXT)
    read = read_demonstrations if demonstrations else read_preferences
    with pytest.raises(BadRow) as caught:
        list(read(path))
    message = str(caught.value)
    assert message.startswith(f"{path}, line 3" + (f", field {field!r}: " if field else ": "))
    assert says in message and "--skip-bad-rows" in message and "\n" not in message
    reading = read(path, skip_bad=True)
    assert len(list(reading)) == 3
    assert reading.bad == {kind: 1}
    assert f"skipped 1 bad row: 1 {kind} (line 3)" in str(reading)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"prompt": "a",}', "not JSON"),
        (b'["a"]', "not an object"),
        (b'{"prompt": "caf\xe9"}', "not UTF-8"),
        (b'{"prompt": "\\ud83d"}', "broken character"),
        (b'{"prompt": "a", "prompt": "b"}', "not JSON"),
        (b'{"prompt": NaN}', "not JSON"),
    ],
)
def test_a_line_that_is_no_row_is_named_or_passed_over(tmp_path, line, kind):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line + b'\n{"prompt": "good"}\n\n' + line)
    with pytest.raises(BadRow, match="line 1"):
        list(read_prompts(path))
    reading = read_prompts(path, skip_bad=True)
    assert [p.text for p in reading] == ["good"]
    assert f"skipped 2 bad rows: 2 {kind} (line 1, line 4)" in str(reading)


def test_bad_rows_are_counted_by_kind_and_the_first_of_each_are_named(tmp_path):
    empty, same = {"prompt": "", "chosen": "x", "rejected": "y"}, THREE | {"rejected": "x"}
    reading = read_preferences(lines(tmp_path, THREE, *[empty] * 5, same), skip_bad=True)
    assert len(list(reading)) == 1
    assert (
        "skipped 6 bad rows: 5 empty text (line 2, line 3, line 4, ...), "
        "1 chosen same as rejected (line 7)"
    ) in str(reading)


def test_where_no_row_can_be_used_that_is_an_error(tmp_path):
    path = lines(tmp_path, {"prompt": ""}, {"prompt": " "})
    message = refusal(list, read_prompts(path, skip_bad=True))
    assert (
        message == f"there is no usable row in {path}: skipped 2 bad rows: 2 empty text "
        "(line 1, line 2)"
    )
    assert "it is empty" in refusal(list, read_prompts(lines(tmp_path)))
    (tmp_path / "header.csv").write_text("prompt,response\n")
    assert "it is empty" in refusal(list, read_prompts(tmp_path / "header.csv"))


@pytest.mark.parametrize("columns", [{}, {"question": "prompt"}])
def test_a_first_row_of_no_layout_known_is_passed_over_where_bad_rows_are(tmp_path, columns):
    row = {
        "question" if name == "prompt" and columns else name: text for name, text in THREE.items()
    }
    path = lines(tmp_path, {"made by": "us"}, row, row)
    assert f"{path}, line 1: " in refusal(list, read_preferences(path, columns=columns))
    reading = read_preferences(path, columns=columns, skip_bad=True)
    assert len(list(reading)) == 2
    assert "skipped 1 bad row: 1 in no known layout (line 1)" in str(reading)


@pytest.mark.parametrize("rows", [3, 200])
def test_a_source_of_no_layout_known_is_refused_by_its_first_row(tmp_path, rows):
    path = lines(tmp_path, *[{"made by": "us"}] * rows, *[THREE] * (rows == 200))
    message = refusal(list, read_preferences(path, skip_bad=True))
    assert message.startswith(f"{path}, line 1: the columns made by fit no layout")


def test_bad_rows_of_every_kind_of_source_are_named_by_number(stored):
    rows = [THREE, THREE | {"rejected": "x"}, THREE]
    source = stored(rows)
    with pytest.raises(BadRow) as caught:
        list(read_preferences(source))
    word = "line" if str(source).endswith(("rows", ".jsonl", ".jsonl.gz")) else "row"
    assert str(caught.value).startswith(f"{source}, {word} 2, field 'rejected': ")
    assert len(list(read_preferences(source, skip_bad=True))) == 2


@pytest.mark.parametrize(
    ("cells", "field", "says"),
    [
        ({"ranking": "1;2"}, "ranking", 'is not JSON: write for example ["a", "b"]'),
        ({"ranking": "['1', '2']"}, "ranking", "is not JSON"),
        ({"ranking": "3"}, "ranking", "is a number: give a list"),
        ({"ranking": ""}, "ranking", "is not JSON"),
        ({"responses": '["x"'}, "responses", "is not JSON"),
        ({"prompt": ""}, "prompt", "is empty"),
        ({"facts": "kettle"}, "facts", 'is not JSON: write for example {"a": 1}'),
    ],
)
def test_cells_that_should_hold_json_are_named(tmp_path, cells, field, says):
    rows = [RANKED | {"facts": {}, "id": "", "labeller": ""}]
    write_cells(tmp_path / "r.csv", rows)
    (ranking,) = read_preferences(tmp_path / "r.csv")  # empty cells where a field may be left out
    assert (ranking.labeller, len(ranking.prompt.id)) == ("", 12)
    write_cells(tmp_path / "r.csv", rows + [rows[0] | cells])
    message = refusal(list, read_preferences(tmp_path / "r.csv"))
    assert message.startswith(f"{tmp_path / 'r.csv'}, row 2, field {field!r}: ") and says in message


# ---- the commands -------------------------------------------------------------------------------


@pytest.fixture
def folder(gpt2, tokenizer, tmp_path):
    save_policy(gpt2, tokenizer, tmp_path / "model")
    return tmp_path


def run(folder, command, *arguments):
    return main(
        [command, *(str(a).replace("@", f"{folder}/") for a in arguments), "--device", "cpu"]
    )


def test_all_three_stages_take_the_same_dialogues(folder, capsys):
    long = "".join(f"{H}q{i}{A} a{i}" for i in range(9))
    rows = [
        {"chosen": f"{H}ask {i}{A} yes", "rejected": f"{H}ask {i}{A} no", "score": 1}
        for i in range(5)
    ]
    rows += [{"chosen": f"{long}{H}last{A} yes", "rejected": f"{long}{H}last{A} no", "score": 0}]
    rows += [{"chosen": f"{H}a{A} x", "rejected": f"{H}b{A} x", "score": 0}]
    write_cells(folder / "hh.csv", rows)
    common = ("--model", "@model", "--data", "@hh.csv", "--skip-bad-rows")
    assert run(folder, "sft", *common, "--epochs", 1, "--out", "@sft") == 0
    said = capsys.readouterr().err
    assert f"read 6 rows of {folder}/hh.csv as chosen/rejected; skipped 1 bad row: " in said
    assert "1 no Assistant: turn in common (row 7" in said
    assert "1 long prompt shortened to the end; columns not used: score" in said
    assert run(folder, "reward", *common, "--epochs", 1, "--out", "@rm") == 0
    few = ("--updates", 1, "--batch-size", 4, "--max-new-tokens", 5, "--rows", 5)
    trained = ("--reward-model", "@rm/reward_model", "--out", "@ppo")
    assert run(folder, "ppo", *common, *few, *trained) == 0
    assert "read 5 rows" in capsys.readouterr().err


def test_columns_layout_and_lengths_can_be_given(folder, capsys):
    write_lines(
        folder / "own.jsonl", [{"question": "one two three", "answer": "x", "messages": []}] * 3
    )
    arguments = ("--model", "@model", "--data", "@own.jsonl", "--max-new-tokens", 3)
    arguments += ("--columns", "question=prompt,answer=response")
    assert run(folder, "sample", *arguments) == 1
    assert "fit prompt/response and messages: choose with --layout" in capsys.readouterr().err
    assert (
        run(
            folder,
            "sample",
            *arguments,
            "--layout",
            "prompt/response",
            "--rows",
            2,
            "--max-prompt-tokens",
            6,
        )
        == 0
    )
    prompts = [json.loads(line)["prompt"] for line in capsys.readouterr().out.splitlines()]
    assert prompts == ["three", "three"]


def test_an_id_that_a_table_made_a_fraction_names_the_prompt_as_before(tmp_path):
    write_lines(tmp_path / "p.jsonl", [{"id": 7, "prompt": "a"}, {"id": 8.0, "prompt": "b"}])
    assert [p.id for p in read_prompts(tmp_path / "p.jsonl")] == ["7", "8"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--columns", "question"), "--columns question: write pairs yours=known"),
        (("--columns", "a=b=c"), "--columns a=b=c: write pairs yours=known"),
        (("--rows", 0), "--rows 0: take 1 or more"),
        (("--max-prompt-tokens", 0), "--max-prompt-tokens 0: take 1 or more"),
        (("--max-new-tokens", 64), "responses of 64 tokens leave no room for a prompt"),
    ],
)
def test_options_that_make_no_sense_are_named(folder, capsys, arguments, says):
    write_lines(folder / "p.jsonl", [{"prompt": "a"}])
    assert (
        run(
            folder,
            "sample",
            "--model",
            "@model",
            "--data",
            "@p.jsonl",
            "--max-new-tokens",
            3,
            *arguments,
        )
        == 1
    )
    assert says in capsys.readouterr().err


def test_a_bad_row_stops_a_command_before_a_run_begins(folder, capsys):
    write_lines(folder / "bad.jsonl", [THREE, THREE | {"rejected": "x"}])
    assert run(folder, "reward", "--model", "@model", "--data", "@bad.jsonl", "--out", "@rm") == 1
    assert "line 2, field 'rejected'" in capsys.readouterr().err
    assert not (folder / "rm").exists()


# ---- the page -----------------------------------------------------------------------------------

PAGE = Path(__file__).resolve().parents[2] / "docs" / "data-formats.md"
READERS = {
    "Preferences": read_preferences,
    "Demonstrations": read_demonstrations,
    "Prompts": read_prompts,
}
PARTS = [part.partition("\n") for part in PAGE.read_text(encoding="utf-8").split("\n## ")]
SECTIONS = {title.split(":")[0]: body for title, _, body in PARTS}
EXAMPLES = [
    (title, example)
    for title in READERS
    for example in re.findall(r"```jsonl\n(.*?)```", SECTIONS[title], re.DOTALL)
]


@pytest.mark.parametrize(("title", "example"), EXAMPLES)
def test_every_example_of_the_page_is_read(tmp_path, title, example):
    (tmp_path / "example.jsonl").write_text(example, encoding="utf-8")
    assert len(list(READERS[title](tmp_path / "example.jsonl"))) == 3
    assert len(list(read_prompts(tmp_path / "example.jsonl"))) == 3


def test_the_page_has_an_example_of_every_layout_and_names_every_kind_of_bad_row():
    columns = [set(json.loads(line)) for _, example in EXAMPLES for line in example.splitlines()]
    for layout in (*layouts.PREFERENCES, *layouts.DEMONSTRATIONS, *layouts.PROMPTS):
        assert any(set(layout.columns) <= names for names in columns), layout.name
    table = SECTIONS["Rows that cannot be used"]
    kinds = {kind for *_, kind, _ in BAD_ROWS}
    kinds |= {"response too long", "no room for the prompt", "refused by the chat template"}
    kinds |= {"wrong number of cells", "not CSV", "not UTF-8", "broken character"}
    assert {kind for kind in kinds if kind not in table} == set()


# ---- columns that are nearly known --------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "todo"),
    [
        (("Prompt", "CHOSEN", "rejected"), "--columns Prompt=prompt,CHOSEN=chosen (columns=)"),
        (
            ("prompt", " chosen", "Rejected "),
            "in the file, rename ' chosen' to 'chosen', 'Rejected ' to 'rejected'",
        ),
        (
            ("Prompt", "Prompt ", "Chosen", "Rejected"),
            "rename them with --columns yours=known (columns=)",
        ),
        (("question", "good", "bad"), "rename them with --columns yours=known (columns=)"),
        (("Question", "Chosen", "Rejected"), "rename them with --columns yours=known (columns=)"),
    ],
)
def test_columns_that_are_a_known_layouts_but_for_capitals_are_said_as_options(
    tmp_path, names, todo
):
    path = lines(tmp_path, dict(zip(names, ("a", "x", "y", "z"))))
    assert refusal(list, read_preferences(path)).endswith(todo)
    if "yours" not in todo and " " not in "".join(names):
        pairs = dict(pair.split("=") for pair in todo.split()[1].split(","))
        [ranking] = read_preferences(path, columns=pairs)
        assert ranking.prompt.text == "a" and ranking.responses == ("x", "y")


def test_all_columns_that_belong_to_a_layout_are_in_the_advice(tmp_path):
    row = {"Query": "a", **{f"Sample{i}": f"s{i}" for i in range(4)}, "Best": 3, "ID": "x"}
    message = refusal(list, read_preferences(lines(tmp_path, row)))
    pairs = dict(pair.split("=") for pair in message.split("--columns ")[1].split()[0].split(","))
    [ranking] = read_preferences(lines(tmp_path, row), columns=pairs)
    assert ranking.responses == ("s0", "s1", "s2", "s3") and ranking.ranks == (None, None, None, 1)
    assert ranking.prompt.id == "x"


def test_columns_that_no_layout_uses_stand_not_in_the_way_of_the_advice(tmp_path):
    row = {"Prompt": "Do you ship abroad?", "Chosen": "Yes.", "Rejected": "No.", "Source": "forum"}
    message = refusal(list, read_preferences(lines(tmp_path, row)))
    assert message.endswith(
        "; add --columns Prompt=prompt,Chosen=chosen,Rejected=rejected (columns=)"
    )
    row = {"Prompt": "Do you ship abroad?", "Response": "Yes.", "Completion": "We do."}
    message = refusal(list, read_demonstrations(lines(tmp_path, row)))
    assert "--columns yours=known" in message  # which of the two is meant, nobody knows


def test_where_there_are_no_options_none_are_advised(tmp_path):
    for rows in (
        [{"Prompt": "a", "response": "b"}],
        [{"prompt": "a"}],
        [{"prompt": "a", "response": "b", "completion": "c"}],
        [{"prompt": "a", "response": ""}],
    ):
        message = refusal(list, read_demonstrations(lines(tmp_path, *rows), options=False))
        assert "--" not in message and "=" not in message
    assert message.endswith("is empty: write at least one word, or leave the row out")
