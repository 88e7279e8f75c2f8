"""Rows of every layout, and ways to store them: what the tests of data formats share."""

import csv
import gzip
import io
import json
import sys
from types import SimpleNamespace

import pytest


def write_lines(path, rows):
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def write_list(path, rows):
    path.write_text("\n" + json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")


def write_cells(path, rows, delimiter=",", lead=""):
    text = io.StringIO(newline="")
    table = csv.writer(text, delimiter=delimiter, lineterminator="\r\n")
    table.writerow(rows[0])
    for row in rows:
        table.writerow(
            value if type(value) is str else json.dumps(value, ensure_ascii=False)
            for value in row.values()
        )
    content = (lead + text.getvalue()).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=1000)


WRITERS = {
    "rows.jsonl": write_lines,
    "rows.jsonl.gz": write_lines,
    "rows": write_lines,
    "rows.json": write_list,
    "rows.csv": write_cells,
    "rows.csv.gz": write_cells,
    "rows.tsv": lambda path, rows: write_cells(path, rows, "\t"),
    "semicolons.csv": lambda path, rows: write_cells(path, rows, ";", "\ufeff"),
    "tabs.csv": lambda path, rows: write_cells(path, rows, "\t"),
    "rows.parquet": write_parquet,
}


class Hub:
    """Stands in for the package datasets: what was asked for, and how many rows were fetched."""

    def __init__(self, monkeypatch, rows=(), fails=None, offline=False):
        self.rows, self.fails, self.fetched, self.asked = rows, fails, 0, None
        self.config = SimpleNamespace(HF_HUB_OFFLINE=offline)
        monkeypatch.setitem(sys.modules, "datasets", self)

    def load_dataset(self, *names, **options):
        self.asked = names, options
        if self.fails and self.fails[0] == 0:
            raise self.fails[1]
        return self._fetch()

    def _fetch(self):
        for row in self.rows:
            if self.fails and self.fails[0] == self.fetched:
                raise self.fails[1]
            self.fetched += 1
            yield row


def lines(tmp_path, *rows):
    write_lines(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


# ---- rows ---------------------------------------------------------------------------------------

H, A = "\n\nHuman: ", "\n\nAssistant:"


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


ASK = 'Say "hi", please;\nGrüße\tor 你好'
YES, NO = '"Hi", she said,\n\nand 🙂 left.', "No; never, 'ever'."
HEAD = f"\n\nHuman: {ASK}\n\nAssistant:"
SYSTEM = {"role": "system", "content": "Be kind."}

PREFERENCES = {
    "prompt/chosen/rejected": (
        [{"prompt": ASK, "chosen": YES, "rejected": NO}] * 2,
        [(ASK, (YES, NO), (1, 2))] * 2,
    ),
    "chosen/rejected": (
        [{"chosen": f"{HEAD} {YES}", "rejected": f"{HEAD} {NO}"}],
        [(HEAD, (YES, NO), (1, 2))],
    ),
    "prompt/chosen/rejected in messages": (
        [{"prompt": [SYSTEM, user(ASK)], "chosen": [assistant(YES)], "rejected": [assistant(NO)]}],
        [("Be kind." + HEAD, (YES, NO), (1, 2))],
    ),
    "prompt/chosen/rejected with the prompt in the messages too": (
        [
            {
                "prompt": ASK,
                "chosen": [user(ASK), assistant(YES)],
                "rejected": [user(ASK), assistant(NO)],
            }
        ],
        [(HEAD, (YES, NO), (1, 2))],
    ),
    "prompt/chosen/rejected with a text and messages": (
        [{"prompt": ASK, "chosen": [assistant(YES)], "rejected": [assistant(NO)]}],
        [(HEAD, (YES, NO), (1, 2))],
    ),
    "prompt/chosen/rejected with the prompt in the dialogues too": (
        [{"prompt": HEAD, "chosen": f"{HEAD} {YES}", "rejected": f"{HEAD} {NO}"}],
        [(HEAD, (YES, NO), (1, 2))],
    ),
    "chosen/rejected in messages": (
        [
            {
                "chosen": [user("Hi"), assistant("Yes?"), user(ASK), assistant(YES)],
                "rejected": [user("Hi"), assistant("Yes?"), user(ASK), assistant(NO)],
            }
        ],
        [("\n\nHuman: Hi\n\nAssistant: Yes?" + HEAD, (YES, NO), (1, 2))],
    ),
    "prompt/responses/ranking": (
        [{"prompt": ASK, "responses": [YES, NO, "", "x"], "ranking": [2, 1, None, 1]}],
        [(ASK, (YES, NO, "", "x"), (2, 1, None, 1))],
    ),
    "query/sample0.../best": (
        [{"query": ASK, "sample0": "a", "sample1": YES, "sample2": NO, "sample3": "", "best": 2}],
        [(ASK, ("a", YES, NO, ""), (None, None, 1, None))],
    ),
}

DEMONSTRATIONS = {
    "prompt/response": ([{"prompt": ASK, "response": YES}] * 2, [(ASK, YES)] * 2),
    "prompt/completion": ([{"prompt": ASK, "completion": YES}], [(ASK, YES)]),
    "prompt/completion in messages": (
        [{"prompt": [user(ASK)], "completion": [assistant(YES)]}],
        [(HEAD, YES)],
    ),
    "messages": ([{"messages": [SYSTEM, user(ASK), assistant(YES)]}], [("Be kind." + HEAD, YES)]),
    "text": ([{"text": f"{HEAD} {YES}"}], [(HEAD, YES)]),
}

THREE = {"prompt": "a", "chosen": "x", "rejected": "y"}
RANKED = {"prompt": "a", "responses": ["x", "y"], "ranking": [1, 2]}
DEMO = {"prompt": "a", "response": "x"}
TALK = {"messages": [user("a"), assistant("x")]}
