"""Where data comes from: CSV as it comes, files larger than memory, the hub, and what fails."""

import io
import sys
from itertools import islice

import pytest
from format_rows import DEMO, PREFERENCES, WRITERS, Hub, write_lines
from helpers import refusal

from rlhf_lab.formats.reading import read_demonstrations, read_preferences, read_prompts

# ---- CSV as it comes ----------------------------------------------------------------------------


def csv_file(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    return tmp_path / "t.csv"


def test_csv_with_quotes_new_lines_and_blank_lines(tmp_path):
    path = csv_file(
        tmp_path, b'\xef\xbb\xbfprompt,response\n\n"a ""b"", c\n\nd",x\r\n\nplain,"y\r\nz"\n'
    )
    shown = [(d.prompt.text, d.response) for d in read_demonstrations(path)]
    assert shown == [('a "b", c\n\nd', "x"), ("plain", "y\r\nz")]


def test_a_csv_answer_that_looks_like_json_stays_a_text(tmp_path):
    path = csv_file(tmp_path, b'prompt,response\nlist?,"[1, 2]"\ndict?,[{ is how it begins\n')
    assert [d.response for d in read_demonstrations(path)] == ["[1, 2]", "[{ is how it begins"]


def test_messages_in_pythons_notation_are_refused(tmp_path):
    """As pandas writes a column of lists to CSV."""
    path = csv_file(tmp_path, b"prompt,response\n\"[{'role': 'user', 'content': 'hi'}]\",yo\n")
    assert "'prompt': is a list in Python's notation: write it as JSON" in refusal(
        list, read_demonstrations(path)
    )


def test_csv_rows_with_too_many_or_too_few_cells_are_bad(tmp_path):
    path = csv_file(tmp_path, b'prompt,response\na,x\nb,y,z\nc\n"d\nd",w\ne,"f" g\nh,i\n')
    message = refusal(list, read_demonstrations(path))
    assert message.startswith(f"{path}, row 2: 3 cells under a header of 2")
    reading = read_demonstrations(path, skip_bad=True)
    assert [d.response for d in reading] == ["x", "w", "i"]
    assert "2 wrong number of cells (row 2, row 3), 1 not CSV (row 5)" in str(reading)


def test_the_last_line_of_a_row_is_named_where_texts_have_several(tmp_path):
    path = csv_file(tmp_path, b'prompt,response\n"a\n\nb",x\nc,\n')
    assert f"{path}, row 2 (to line 5), field 'response'" in refusal(
        list, read_demonstrations(path)
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'prompt,response\na,"never closed\nb,y\n', "row 1: not CSV"),
        (
            b'prompt,response\na,"never closed\n' + b"b,y\n" * 50_000,
            "131,072 characters: close an open quote",
        ),
        (b"prompt,response,prompt\na,x,b\n", "the column 'prompt' appears twice"),
        (b"prompt,response\na,caf\xe9\n", "line 2: not UTF-8; perhaps Windows-1252"),
    ],
)
def test_a_csv_file_that_cannot_be_read_on_is_refused_even_if_bad_rows_are_not(
    tmp_path, content, says
):
    assert says in refusal(list, read_demonstrations(csv_file(tmp_path, content), skip_bad=True))


@pytest.mark.parametrize(
    "content",
    [
        b'sep=;\r\nprompt;response\r\na, b;x\r\n\r\n"c\r\nd";\r\n',
        b'\xef\xbb\xbfSEP=|\nprompt|response\na, b|x\n\n"c\nd"|\n',
    ],
)
def test_a_first_line_that_names_the_separator_is_none_of_the_table(tmp_path, content):
    path = csv_file(tmp_path, content)
    assert [p.text.split() for p in read_prompts(path, layout="prompt")] == [
        ["a,", "b"],
        ["c", "d"],
    ]
    assert f"{path}, row 2 (to line 6), field 'response'" in refusal(
        list, read_demonstrations(path)
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "t.xlsx",
            b"PK\x03\x04rest",
            "a workbook or another zip file: save the sheet as CSV (UTF-8)",
        ),
        (
            "t.csv",
            b"PK\x03\x04rest",
            "a workbook or another zip file: save the sheet as CSV (UTF-8)",
        ),
        ("t.xls", b"\xd0\xcf\x11\xe0rest", "a workbook: save the sheet as CSV (UTF-8)"),
        ("t.jsonl", b"PAR1rest", "rename it to end in .parquet"),
        ("t.csv", "prompt,response\na,b\n".encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
        ("t.csv", b"\xfe\xff" + "prompt\na\n".encode("utf-16-be"), "in UTF-16: save it as UTF-8"),
        ("t.jsonl", '{"prompt": "a"}\n'.encode("utf-16"), "in UTF-16: save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_text_is_named_by_what_it_is(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(list, read_prompts(path, skip_bad=True))
    assert message.startswith(f"{path} is ") and says in message


@pytest.mark.parametrize("first", [b"sep=\r\n", b'sep="\n', b"sep=x\n"])
def test_a_first_line_that_names_no_separator_is_a_header(tmp_path, first):
    message = refusal(list, read_prompts(csv_file(tmp_path, first + b"prompt\na\n")))
    assert "the columns sep=" in message or "not CSV" in message


def test_the_first_line_that_is_not_utf8_is_named_though_the_header_is(tmp_path):
    content = b"prompt,response\n" + "na\u00efve,x\n".encode() * 3000 + b"caf\xe9,y\n"
    assert f"{tmp_path / 't.csv'}, line 3002: not UTF-8" in refusal(
        list, read_prompts(csv_file(tmp_path, content))
    )


# ---- only what is asked for is read -------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """counted(path): a list whose sum is the bytes read from this file."""

    def count(path):
        sizes, real = [], open

        class Counting(io.FileIO):
            def readinto(self, buffer):
                size = super().readinto(buffer)
                sizes.append(size)
                return size

        def opening(file, *args, **kwargs):
            if str(file) == str(path):
                return io.BufferedReader(Counting(file))
            return real(file, *args, **kwargs)

        monkeypatch.setattr("builtins.open", opening)
        return sizes

    return count


@pytest.mark.parametrize(
    "name", ["rows.jsonl", "rows.jsonl.gz", "rows.csv", "rows.csv.gz", "rows.parquet"]
)
def test_the_first_rows_of_a_large_file_are_read_without_the_rest(tmp_path, counted, name):
    path = tmp_path / name
    WRITERS[name](
        path, [{"prompt": f"{i} {hash((i, 'x')):x}" * 8, "response": "y"} for i in range(20_000)]
    )
    sizes, size = counted(path), path.stat().st_size
    first = list(islice(read_demonstrations(path), 10))
    assert [d.prompt.text.split()[0] for d in first] == [str(i) for i in range(10)]
    assert 0 < sum(sizes) < size / 5
    del sizes[:]
    assert sum(1 for _ in read_demonstrations(path)) == 20_000
    assert sum(sizes) > 0.9 * size  # the count counts


def test_rows_of_the_hub_are_fetched_as_they_are_read(monkeypatch):
    hub = Hub(monkeypatch, [DEMO] * 1000)
    assert len(list(islice(read_demonstrations("hub:someone/data:test"), 10))) == 10
    assert hub.fetched <= 11
    assert hub.asked == (("someone/data", None), {"split": "test", "streaming": True})


# ---- the hub, and what is not installed ---------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("hub:a/b", (("a/b", None), "train")),
        ("hub:a/b:validation", (("a/b", None), "validation")),
        ("hub:a-1/b.c_d/helpful-base:test", (("a-1/b.c_d", "helpful-base"), "test")),
    ],
)
def test_a_part_and_a_split_can_be_asked_for(monkeypatch, source, asked):
    hub = Hub(monkeypatch, [DEMO])
    list(read_demonstrations(source))
    assert (hub.asked[0], hub.asked[1]["split"]) == asked


def test_without_a_network_what_was_downloaded_before_is_read(monkeypatch):
    hub = Hub(monkeypatch, [DEMO], offline=True)
    assert len(list(read_demonstrations("hub:a/b"))) == 1
    assert hub.asked[1]["streaming"] is False


def test_a_gap_in_a_column_of_fractions_is_an_unranked_response(monkeypatch):
    row = {"prompt": "a", "responses": ["x", "y", "z"], "ranking": [2.0, float("nan"), 1.0]}
    Hub(monkeypatch, [row])
    (ranking,) = read_preferences("hub:a/b")
    assert ranking.ranks == (2, None, 1)


@pytest.mark.parametrize("after", [0, 2])
def test_a_hub_that_fails_is_one_line_that_says_what_to_do(monkeypatch, after):
    Hub(
        monkeypatch, [DEMO] * 3, fails=(after, ConnectionError("Couldn't reach the Hub\nTraceback"))
    )
    message = refusal(list, read_demonstrations("hub:a/b", skip_bad=True))
    assert message.startswith(
        "cannot read hub:a/b" + (", after row 2" if after else "") + ": Couldn't"
    )
    assert "check the name, the split and the network" in message
    assert "--" not in message  # the task in a folder may name a hub data set, and has no --data


def test_a_source_that_names_no_data_set_is_refused():
    for source in ("hub:", "hub:squad", "hub:a/b/", "hub:a/b:x:y", "hub:../etc"):
        assert "write hub:owner/name" in refusal(list, read_prompts(source))


def test_packages_that_are_not_installed_are_named_with_their_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'rlhf-lab[hub]'" in refusal(list, read_prompts("hub:a/b"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"")
    message = refusal(list, read_prompts(tmp_path / "x.parquet"))
    assert "x.parquet needs the package pyarrow: pip install 'rlhf-lab[parquet]'" in message


def test_the_real_package_streams_a_folder(monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    real = datasets.load_dataset
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, *a, **kw: real(str(tmp_path), *a, **kw)
    )
    rows, expected = PREFERENCES["chosen/rejected in messages"]
    write_lines(tmp_path / "train.jsonl", rows * 3)
    found = [(r.prompt.text, r.responses, r.ranks) for r in read_preferences("hub:a/b")]
    assert found == expected * 3


def test_files_that_cannot_be_read_are_named(tmp_path):
    assert f"no file {tmp_path / 'none.csv'}" in refusal(list, read_prompts(tmp_path / "none.csv"))
    assert f"{tmp_path} is a folder" in refusal(list, read_prompts(tmp_path))
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    assert f"cannot read {tmp_path / 'bad.csv.gz'}" in refusal(
        list, read_prompts(tmp_path / "bad.csv.gz")
    )


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('[{"prompt": "a"}, {"prompt": "b"]', "column 33"),
        ('[\n {"prompt": "a"}\n {"prompt": "b"}\n]', "line 3, column 2"),
        ('[{"prompt": "a"},\n', "line 2, column 1"),
    ],
)
def test_a_broken_list_is_named_with_its_place_and_what_to_do(tmp_path, content, place):
    path = tmp_path / "bad.json"
    path.write_text(content)
    message = refusal(list, read_prompts(path, skip_bad=True))
    assert message.startswith(f"{path}, {place}: not JSON (")
    assert "one comma between objects" in message and "object a line" not in message


def test_parquet_texts_that_are_not_utf8_are_named(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    raw = arrow.array([b"fine", b"\xff"])
    text = arrow.Array.from_buffers(arrow.string(), 2, raw.buffers())
    parquet.write_table(arrow.table({"prompt": text}), tmp_path / "t.parquet")
    message = refusal(list, read_prompts(tmp_path / "t.parquet"))
    assert message.startswith(f"{tmp_path / 't.parquet'}, after row 0: not UTF-8")


def test_a_broken_parquet_file_is_named(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 this is none")
    message = refusal(list, read_prompts(tmp_path / "bad.parquet"))
    assert message.startswith(f"cannot read {tmp_path / 'bad.parquet'}")
