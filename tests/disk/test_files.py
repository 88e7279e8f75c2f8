"""Data files: what is written is read back the same, and a bad row is named in one line."""

import gzip
import hashlib
import json
import math
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_lab.disk import files
from rlhf_lab.disk.jsonl import append_line, plain, read_lines, write_whole
from rlhf_lab.errors import UserError
from rlhf_lab.formats.reading import read_demonstrations, read_prompts
from rlhf_lab.records import Demonstration, Prompt, Ranking

ASK = "My kettle leaks."
RANKED = {"prompt": ASK, "responses": ["a", "b"], "ranking": [1, 2]}
TEXTS = st.text(min_size=1, max_size=12).filter(str.strip)  # hypothesis draws no lone surrogates
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=5,
)
PROMPTS = st.builds(Prompt, TEXTS, TEXTS, st.dictionaries(st.text(max_size=5), VALUES, max_size=2))
quick = settings(max_examples=40, deadline=None, derandomize=True)


@st.composite
def rankings(draw):
    ranks = draw(
        st.lists(st.none() | st.integers(1, 4), min_size=2, max_size=5).filter(
            lambda ranks: any(ranks)
        )
    )
    responses = draw(st.lists(TEXTS, min_size=len(ranks), max_size=len(ranks), unique=True))
    return Ranking(draw(PROMPTS), tuple(responses), tuple(ranks), draw(st.text(max_size=5)))


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return tmp_path_factory.mktemp("shelf")


def rows_file(tmp_path, *rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def refusal(call, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- what is read -------------------------------------------------------------------------------


def test_rankings_and_comparisons_are_read(tmp_path):
    facts = {"product": "kettle"}
    row = {"prompt": ASK, "id": "p1", "facts": facts}
    prompt = Prompt("p1", ASK, facts)
    ranked = row | {"responses": ["a", "b", "c"], "ranking": [2, 1, None], "labeller": "Ann"}
    compared = row | {"chosen": "good", "rejected": "bad"}
    assert files.read_rankings(rows_file(tmp_path, ranked, compared)) == [
        Ranking(prompt, ("a", "b", "c"), (2, 1, None), "Ann"),
        Ranking(prompt, ("good", "bad"), (1, 2)),
    ]


def test_a_missing_or_null_id_comes_from_the_text(tmp_path):
    path = rows_file(tmp_path, RANKED, RANKED | {"id": None}, RANKED | {"prompt": "Other"})
    first, second, other = (ranking.prompt for ranking in files.read_rankings(path))
    assert first == second == Prompt(hashlib.sha256(ASK.encode()).hexdigest()[:12], ASK, {})
    assert other.id != first.id


def test_marks_of_other_systems_and_blank_lines_are_passed_over(tmp_path):
    path = tmp_path / "windows.jsonl"
    text = "Käse\u2028two\x85three"
    row = json.dumps(RANKED | {"prompt": text}, ensure_ascii=False).encode()
    path.write_bytes(b"\xef\xbb\xbf" + row + b"\r\n\r\n   \n" + row)  # no end of line at the end
    assert [one.prompt.text for one in files.read_rankings(path)] == [text] * 2


# ---- round trips --------------------------------------------------------------------------------


@quick
@given(st.lists(PROMPTS, min_size=1, max_size=3))
def test_prompts_survive(shelf, prompts):
    files.write_prompts(shelf / "p.jsonl", prompts)
    assert list(read_prompts(shelf / "p.jsonl")) == prompts


@quick
@given(st.lists(st.builds(Demonstration, PROMPTS, TEXTS), min_size=1, max_size=3))
def test_demonstrations_survive(shelf, demonstrations):
    files.write_demonstrations(shelf / "d.jsonl", demonstrations)
    assert list(read_demonstrations(shelf / "d.jsonl")) == demonstrations


@quick
@given(st.lists(rankings(), min_size=1, max_size=3))
def test_rankings_survive_also_compressed(shelf, made):
    for name in ("r.jsonl", "r.jsonl.gz"):
        files.write_rankings(shelf / name, made)
        assert files.read_rankings(shelf / name) == made


def test_a_written_file_is_plain_utf8_with_one_object_a_line(tmp_path):
    path = tmp_path / "new" / "p.jsonl"
    files.write_prompts(path, [Prompt("1", "Grüße\n你好"), Prompt("2", "x", {"a": 1})])
    assert path.read_text(encoding="utf-8") == (
        '{"id": "1", "prompt": "Grüße\\n你好"}\n{"id": "2", "prompt": "x", "facts": {"a": 1}}\n'
    )
    assert [entry.name for entry in path.parent.iterdir()] == ["p.jsonl"]


def test_compressed_files_are_gzip_and_depend_on_their_content_alone(tmp_path):
    one, other = tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"
    for path in (one, other):
        files.write_prompts(path, [Prompt("1", "x")])
    assert one.read_bytes() == other.read_bytes()
    assert gzip.decompress(one.read_bytes()) == b'{"id": "1", "prompt": "x"}\n'


def test_the_fingerprint_is_the_sha256_of_the_written_file(tmp_path):
    items = [Ranking(Prompt("1", "Käse"), ("a", "b"), (1, None)), Prompt("2", "x", {"a": [1.5]})]
    files.write_rankings(tmp_path / "r", items[:1])
    assert files.fingerprint(items[:1]) == hashlib.sha256((tmp_path / "r").read_bytes()).hexdigest()
    assert len({files.fingerprint(some) for some in (items, items[:1], items[::-1], [])}) == 4


# ---- bad rows -----------------------------------------------------------------------------------

LEFT_OUT = object()
COMPARED = {"prompt": ASK, "chosen": "a", "rejected": "b"}
NEITHER = {"responses": LEFT_OUT, "ranking": LEFT_OUT}


@pytest.mark.parametrize(
    ("good", "changes", "field", "says"),
    [
        (RANKED, {"prompt": LEFT_OUT}, "prompt", "is missing: give a text"),
        (RANKED, {"prompt": ""}, "prompt", "is empty"),
        (RANKED, {"prompt": " \n\u3000"}, "prompt", "is empty"),
        (RANKED, {"prompt": None}, "prompt", "is null: give a text"),
        (RANKED, {"prompt": [{"role": "user"}]}, "prompt", "is a list"),
        (RANKED, {"prompt": True}, "prompt", "is true or false: give a text"),
        (RANKED, {"zzz": 1}, "zzz", "the fields are prompt, responses, ranking, ended, labeller"),
        (RANKED, {"facts": [1]}, "facts", "is a list: give an object"),
        (RANKED, {"id": 7}, "id", "is a number: give a text"),
        (RANKED, {"prompt": "\ud83d"}, "prompt", "broken character"),
        (RANKED, {"facts": {"\udc00": 1}}, "facts", "broken character"),
        (RANKED, {"ranking": [1]}, "ranking", "has 1 ranks for 2 responses"),
        (RANKED, {"ranking": [1, 2, 3]}, "ranking", "has 3 ranks for 2 responses"),
        (RANKED, {"ranking": [0, 1]}, "ranking", "0 is not a rank: use 1 for the best"),
        (RANKED, {"ranking": [-1, 1]}, "ranking", "-1 is not a rank"),
        (RANKED, {"ranking": [1, 10**30]}, "ranking", "is not a rank"),
        (RANKED, {"ranking": [True, 2]}, "ranking", "true is not a rank"),
        (RANKED, {"ranking": [1.0, 2]}, "ranking", "1.0 is not a rank"),
        (RANKED, {"ranking": ["1", 2]}, "ranking", '"1" is not a rank'),
        (RANKED, {"ranking": [None, None]}, "ranking", "ranks nothing"),
        (RANKED, {"ranking": "1,2"}, "ranking", "is a text: give a list"),
        (RANKED, {"ranking": LEFT_OUT}, "ranking", "is missing: give a list"),
        (RANKED, {"responses": LEFT_OUT}, "responses", "is missing: give a list"),
        (RANKED, {"responses": "ab"}, "responses", "is a text: give a list"),
        (RANKED, {"responses": ["a"], "ranking": [1]}, "responses", "has 1: a ranking needs"),
        (RANKED, {"responses": [], "ranking": []}, "responses", "has 0: a ranking needs"),
        (RANKED, {"responses": [None, "b"]}, "responses", "number 1 is null"),
        (RANKED, {"labeler": "Ann"}, "labeler", "did you mean 'labeller'?"),
        (RANKED, {"labeller": 3}, "labeller", "is a number: give a text"),
        (RANKED, {"chosen": "a"}, "responses", "is not known"),
        (RANKED, NEITHER, "responses", "give 'responses' and 'ranking', or"),
        (RANKED, NEITHER | {"choosen": "a"}, "choosen", "did you mean 'chosen'?"),
        (COMPARED, {"rejected": LEFT_OUT}, "rejected", "is missing: give a text"),
        (COMPARED, {"chosen": ""}, "chosen", "is empty"),
        (COMPARED, {"rejected": "a"}, "rejected", "is the same text as 'chosen'"),
        (COMPARED, {"choosen": "a"}, "choosen", "did you mean 'chosen'?"),
    ],
)
def test_a_bad_row_is_refused_with_file_line_and_field(tmp_path, good, changes, field, says):
    bad = {name: value for name, value in (good | changes).items() if value is not LEFT_OUT}
    message = refusal(files.read_rankings, rows_file(tmp_path, good, good, bad))
    assert message.startswith(f"{tmp_path / 'rows.jsonl'}, line 3, field {field!r}: ")
    assert says in message


@pytest.mark.parametrize(
    ("line", "place", "says"),
    [
        (b'{"prompt": "a",}', "line 2, column 16: ", "not JSON"),
        (b"{'prompt': 'a'}", "line 2, column 2: ", "double quotes"),
        (b"prompt,response", "line 2, column 1: ", "not JSON"),
        (b'{"prompt": "a"} {"prompt": "b"}', "line 2, column 17: ", "not JSON (Extra data)"),
        (b'["a", "b"]', "line 2: ", "a row must be an object {...}, not a list"),
        (b"3", "line 2: ", "not a number"),
        (b'{"prompt": "caf\xe9"}', "line 2: ", "byte 16 is not UTF-8"),
        (b'{"prompt": "a", "prompt": "b"}', "line 2: ", "field 'prompt' appears twice"),
        (b'{"prompt": "a", "facts": {"n": NaN}}', "line 2: ", "NaN is not a JSON number"),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "line 2: ", "unusable JSON"),
        (b"[" * 100_000, "line 2: ", "unusable JSON"),
    ],
)
def test_a_line_that_is_no_row_is_refused_with_its_place(tmp_path, line, place, says):
    path = tmp_path / "rows.jsonl"
    good = json.dumps(RANKED).encode()
    path.write_bytes(good + b"\n" + line + b"\n" + good)
    message = refusal(files.read_rankings, path)
    assert message.startswith(f"{path}, {place}")
    assert says in message


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for content in (b"", b"\n \r\n", b"\xef\xbb\xbf"):
        (tmp_path / "empty.jsonl").write_bytes(content)
        assert "empty.jsonl is empty" in refusal(files.read_rankings, tmp_path / "empty.jsonl")
    assert f"no file {tmp_path / 'none'}" in refusal(files.read_rankings, tmp_path / "none")
    assert f"{tmp_path} is a folder" in refusal(files.read_rankings, tmp_path)
    line = json.dumps(RANKED).encode() + b"\n"
    whole = gzip.compress(line * 50)
    for content in (line, whole[:-9], whole[:20] + b"\xff\xff\xff" + whole[23:]):
        (tmp_path / "bad.gz").write_bytes(content)
        message = refusal(files.read_rankings, tmp_path / "bad.gz")
        assert f"cannot read {tmp_path / 'bad.gz'}: " in message


# ---- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (Prompt("1", " "), "field 'prompt': is empty"),
        (Prompt("", "x"), "field 'id': is empty"),
        (Prompt("1", "\ud800"), "field 'prompt': holds a broken character"),
        (Prompt("1", "x", {"a": (1, 2)}), "field 'facts': JSON would change the values"),
        (Prompt("1", "x", {1: "a"}), "field 'facts': JSON would change the values"),
        (Prompt("1", "x", {"a": math.nan}), "NaN is not a JSON number"),
        (Prompt("1", "x", {"a": object()}), "is not JSON serializable"),
    ],
)
def test_nothing_is_written_that_would_not_be_read_back(tmp_path, prompt, says):
    path = tmp_path / "p.jsonl"
    files.write_prompts(path, [Prompt("0", "old")])
    message = refusal(files.write_prompts, path, [Prompt("1", "good"), prompt])
    assert message.startswith(f"{path}, line 2") and says in message
    assert list(read_prompts(path)) == [Prompt("0", "old")]


def test_a_ranking_that_ranks_nothing_and_an_empty_list_are_not_written(tmp_path):
    path = tmp_path / "r.jsonl"
    unranked = Ranking(Prompt("1", "x"), ("a", "b"), (None, None))
    assert "ranks nothing" in refusal(files.write_rankings, path, [unranked])
    assert "nothing to write" in refusal(files.write_rankings, path, [])
    assert not path.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs a limit on the size of files")
def test_a_full_disk_leaves_the_old_file_and_no_scraps(tmp_path):
    import resource

    path = tmp_path / "r.json"
    write_whole(path, "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        message = refusal(write_whole, path, "new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"cannot write {path}: " in message and "nothing was changed" in message
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be replaced elsewhere")
def test_who_is_reading_a_file_that_is_replaced_reads_on_in_the_old_one(tmp_path):
    write_whole(tmp_path / "r.json", "old")
    with open(tmp_path / "r.json") as reader:
        write_whole(tmp_path / "r.json", "new")
        assert reader.read() == "old"
    assert (tmp_path / "r.json").read_text() == "new"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "below"):
        assert f"cannot write {path}: " in refusal(write_whole, path, "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


# ---- logs ---------------------------------------------------------------------------------------


def test_a_log_keeps_what_was_added_and_mends_a_torn_line(tmp_path):
    log = tmp_path / "log"
    assert read_lines(log) == []
    append_line(log, {"n": 1, "text": "a\nß"})
    whole = log.read_bytes()
    for torn in (b"{", b'{"n": 2', b'{"n": 2}', b"\xc3"):
        log.write_bytes(whole + torn)
        assert read_lines(log) == [{"n": 1, "text": "a\nß"}]
        append_line(log, {"n": 3})
        assert read_lines(log) == [{"n": 1, "text": "a\nß"}, {"n": 3}]
    log.write_bytes(b'{"n": ')
    append_line(log, {"n": 4})
    assert log.read_bytes() == b'{"n": 4}\n'


def test_a_log_broken_elsewhere_is_named(tmp_path):
    (tmp_path / "log").write_bytes(b'{"n": 1}\n{"n": \n{"n": 3}\n')
    assert f"{tmp_path / 'log'}, line 2, column " in refusal(read_lines, tmp_path / "log")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_while_logging_is_named(tmp_path):
    (tmp_path / "log").symlink_to("/dev/full")
    message = refusal(append_line, tmp_path / "log", {"n": 1})
    assert f"cannot write {tmp_path / 'log'}: No space left" in message


def test_plain_values_are_strict_json(tmp_path):
    import torch

    values = {
        "a": math.inf,
        "b": [math.nan, (1, 2.5)],
        3: torch.tensor(0.5),
        "c": tmp_path,
        "d": Prompt("1", "x", {"y": -math.inf}),
        "e": True,
    }
    expected = {
        "a": None,
        "b": [None, [1, 2.5]],
        "3": 0.5,
        "c": str(tmp_path),
        "d": {"id": "1", "text": "x", "facts": {"y": None}},
        "e": True,
    }
    assert plain(values) == expected
    append_line(tmp_path / "log", values)
    assert read_lines(tmp_path / "log") == [expected]
