"""The report tells what the run's files say, all of it escaped, and never asks for a network."""

import copy
import re
from html.parser import HTMLParser

import pytest

from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.errors import UserError
from rlhf_lab.runs.report import print_table, write_report
from rlhf_lab.runs.verdict import change, verdict, warnings
from rlhf_lab.show.markup import Html, join, name_alone, names_alone, tag, visible
from rlhf_lab.show.tables import Cell, cell, judge_table, table_by_set

NASTY = '<script>alert(1)</script> & "quotes" \x1b[31mred\x1b[0m \u202eflipped'


def around(value: float, half: float = 0.1) -> list[float]:
    return [value, value - half, value + half]


def row(mark: float, wins: list | None, promises: float, ratio: list | None, **more) -> dict:
    found = {
        "mark": around(mark),
        "rubric": {"helpful": around(mark / 10, 0.02)},
        "mark_by_set": {"main": around(mark), "apart": around(mark - 1)},
        "win_rate_against_sft": wins,
        "score": around(mark - 6),
        "length": 24.04,
        "ended": 0.999,
        "distinct": 0.9,
        "kl": None,
        "flaws": {"invented promises": around(promises, 0.01)},
    }
    against = {"flaws_against_sft": {"invented promises": ratio}} if ratio else {}
    return found | against | more


SUMMARY = {
    "task": "support_desk",
    "seed": 3,
    "prompts": {"main": 12, "apart": 4},
    "samples": 4,
    "models": {
        "base": row(2.91, around(0.18, 0.02), 0.24, [1.7, 1.5, 2.1]),
        "sft": row(6.3, None, 0.14, None),
        "best_of_n": row(7.41, around(0.71, 0.02), 0.08, [0.57, 0.5, 0.7], distinct=1.0),
        "policy": row(8.12, around(0.86, 0.03), 0.03, [0.21, 0.13, 0.31], kl=around(8.31, 0.2)),
    },
    "reward_model": {
        "all": {"accuracy": 0.823, "pairs": 3120, "interval": [0.81, 0.84]},
        "clear": {"accuracy": 0.914, "pairs": 1804, "threshold": 2.41, "share": 0.463},
        "correctness": {"accuracy": 0.842, "pairs": 402},
        "style": {"accuracy": None, "pairs": 0},
        "labellers": {"accuracy": 0.731, "calibration": 0.041},
    },
    "seconds": {"sft": 62.1, "rankings": 40.0, "reward": 88.0, "ppo": 171.0, "evaluate": 63.0},
    "peak_memory_mb": {},
}
METRICS = [
    {"stage": "sft", "update": 1, "updates": 1, "loss/sft": 2.0},
    {"stage": "reward", "update": 1, "loss/reward": 0.6, "reward/held_out_accuracy": 0.731},
    {
        "stage": "ppo",
        "update": 1,
        "objective/scores": 0.0,
        "objective/kl": 0.0,
        "objective/kl_se": 0.0,
        "judge/mark": 6.0,
    },
    {"stage": "cost", "of": "sft", "seconds": 61.0},
]


def sample(prompt: int, model: str, mark: float | None, response: str, reasons=()) -> dict:
    found = {
        "id": f"main-{prompt}",
        "prompt": f"Question {prompt}?",
        "model": model,
        "response": response,
    }
    return found if mark is None else found | {"mark": mark, "reasons": list(reasons)}


def samples(count: int = 16) -> list[dict]:
    """Two answers of each model to each prompt; the policy's first is marked 9, 8, 7, ..."""
    return [
        sample(i, model, 9.0 - i % 10 if model == "policy" and s == 0 else 5.0, f"{model} {i} {s}")
        for i in range(count)
        for model in ("base", "sft", "policy", "best_of_n")
        for s in range(2)
    ]


def report(tmp_path, summary=SUMMARY, metrics=(), rows=None) -> str:
    """The page of a run of these files; without metrics there are few figures to draw."""
    with RunFolder.open(tmp_path / "run", {"seed": 3, "ppo": {"beta": 0.0625}}) as run:
        run.write_lines("metrics.jsonl", metrics)
        if summary is not None:
            run.write_json("summary.json", summary)
        if rows is not None:
            run.write_lines("samples.jsonl", rows)
    run = RunFolder.view(tmp_path / "run")
    assert write_report(run) == run.report
    return run.report.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """The elements of a page, and its text without styles."""

    def __init__(self, page: str):
        super().__init__()
        self.elements, self.links, self.open = [], [], []
        self.pieces: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append(name)
        self.links += [v for k, v in attributes if k in ("src", "href", "srcset", "action", "data")]
        if name not in ("meta", "img"):
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name, f"{name} closed out of turn"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.pieces))


def without(summary: dict, *keys: str) -> dict:
    """The summary without some measures of its models."""
    changed = copy.deepcopy(summary)
    for model in changed["models"].values():
        for key in keys:
            model.pop(key, None)
    return changed


# ------------------------------------------------------------------------------ the page


def test_the_page_is_whole_and_every_link_stays_in_it(tmp_path):
    page = report(tmp_path, SUMMARY, METRICS, samples())
    reader = Reader(page)
    assert reader.open == []
    assert "script" not in reader.elements and "iframe" not in reader.elements
    assert "link" not in reader.elements
    assert reader.links and all(link.startswith(("#", "data:image/")) for link in reader.links)
    places = set(re.findall(r'id="([^"]+)"', page))
    assert {link[1:] for link in reader.links if link[0] == "#"} == places
    assert "url(" not in page and "@import" not in page and "http://" not in page
    assert "https://" not in page and "Content-Security-Policy" in page
    pictures = re.findall(r'<img src="data:image/svg\+xml;base64,[^"]{1000,}" alt="([^"]+)">', page)
    assert len(pictures) == page.count("<img") == 3 + 6  # three of PPO, and a panel a curve
    assert any(p.startswith("SFT: loss, in nats per token, over the updates. ") for p in pictures)


def test_the_page_holds_the_table_the_reward_model_the_cost_and_the_settings(tmp_path):
    text = Reader(report(tmp_path, SUMMARY, METRICS[1:2], samples())).text
    for fact in (
        "support desk, seed 3",
        "PPO made the answers better",
        "16 held-out prompts",
        "base SFT best of 4 policy",
        "mark (points) 2.91 ± 0.10 6.30 ± 0.10 7.41 ± 0.10 8.12 ± 0.10",
        "with invented promises 24.0 % ± 1.0 14.0 % ± 1.0 8.0 % ± 1.0 3.0 % ± 1.0",
        "as a multiple of SFT's 1.70 (1.50–2.10) – 0.57 (0.50–0.70) 0.21 (0.13–0.31)",
        "apart (4 prompts) 1.91 ± 0.10",
        "clear pairs 91.4 % 1,804",
        "Clear pairs are 2.41 points apart or more",
        "46 % of all pairs",
        "0.041",
        "the labellers' own rankings, held out 73.1 %",
        "reward model 88",
        "all 424",
        "ppo.beta 0.0625",
        "calibration error",
    ):
        assert fact in text, fact
    assert "in style alone" not in text  # there was no such pair


def test_memory_by_stage_gets_a_column(tmp_path):
    by_stage = SUMMARY | {"peak_memory_mb": {"sft": 900.4, "ppo": 1400.0}}
    text = Reader(report(tmp_path, by_stage)).text
    assert "seconds peak memory (MB) SFT 62 900 sampling and ranking 40 – reward model 88 –" in text


# ------------------------------------------------------------------------------ examples


def test_examples_are_the_first_ten_and_the_three_worst_others_of_the_main_set(tmp_path):
    text = Reader(report(tmp_path, rows=samples())).text
    shown = [int(i) for i in re.findall(r"Question (\d+)\?", text)]
    # of the twelve in the main set two are left, in which the policy has 9 and 8 points
    assert shown == [*range(10), 11, 10]
    bigger = SUMMARY | {"prompts": {"main": 15, "apart": 1}}
    text = Reader(report(tmp_path / "b", bigger, rows=samples())).text
    assert re.findall(r"Question (\d+)\?", text)[10:] == ["14", "13", "12"]


def test_an_example_has_the_first_answer_of_base_sft_and_policy_with_marks_and_reasons(tmp_path):
    rows = samples(2)
    rows[4]["reasons"] = ["speaks of the wrong product"]
    text = Reader(report(tmp_path, rows=rows)).text
    expected = (
        "Question 0? base 5.0 points base 0 0 SFT 5.0 points sft 0 0 policy 9.0 points "
        "policy 0 0 speaks of the wrong product Question 1?"
    )
    assert expected in text
    assert "best_of_n 0" not in text and "Where the policy did worst" not in text


def test_without_marks_examples_are_shown_and_no_worst_are_chosen(tmp_path):
    rows = [sample(i, m, None, f"{m} {i}") for i in range(14) for m in ("sft", "policy")]
    text = Reader(report(tmp_path, None, rows=rows)).text
    assert re.findall(r"Question (\d+)\?", text) == [str(i) for i in range(10)]
    cards = text.split("Question 9?")[1].split("Settings")[0]
    assert cards.split() == ["SFT", "sft", "9", "policy", "policy", "9"]


# ------------------------------------------------------------------------------ untrusted text


def test_text_of_models_and_tasks_is_escaped_wherever_it_stands(tmp_path):
    rows, summary = samples(2), copy.deepcopy(SUMMARY)
    rows[0] |= {"response": NASTY, "prompt": NASTY, "reasons": [NASTY]}
    summary["task"] = NASTY
    summary["models"]["sft"]["mark_by_set"][NASTY] = around(5.0)
    summary["models"]["policy"]["flaws"][NASTY] = around(0.5)
    page = report(tmp_path, summary, rows=rows)
    reader = Reader(page)
    assert "script" not in reader.elements and reader.open == []
    assert "\x1b" not in page and "\u202e" not in page
    # response, prompt, reason; title and kicker; a row of each of the two tables
    for shown in ("<script>alert(1)</script> &", "⟨U+001B⟩[31mred", "⟨U+202E⟩flipped"):
        assert reader.text.count(shown) == 7, shown


def fields(value, path=()):
    """The path of every value in a summary, down to the numbers."""
    yield path
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from fields(part, (*path, key))


def with_value(path, value):
    """The summary with another value at one place."""
    if not path:
        return value
    summary = copy.deepcopy(SUMMARY)
    place = summary
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return summary


ODD = (None, [], {}, "<b>", -1, 1e308, [9, 1, 2], [None] * 3)
# Of the models the policy alone: they all have the same fields.
PLACES = [path for path in fields(SUMMARY) if not {"base", "sft", "best_of_n"} & {*path[1:2]}]


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)) or "all")
def test_an_odd_summary_is_refused_by_field_or_gives_a_page(path, tmp_path):
    """Whatever stands at a place: one line that names the file and the field, or a whole page."""
    for number, value in enumerate(ODD):
        folder = tmp_path / str(number)
        try:
            page = report(folder, with_value(path, value))
        except UserError as error:
            assert "summary.json" in str(error) and len(str(error).splitlines()) == 1
            top = [key for key in path[:2] if isinstance(key, str)]
            assert all(key in str(error) for key in top[: len(path)]) or not path
        else:
            assert page.rstrip().endswith("</html>") and Reader(page).open == []


def test_a_very_long_text_is_cut_and_says_so(tmp_path):
    rows = [sample(0, "sft", 1.0, "x" * 20_000, ["y" * 20_000]), sample(0, "policy", 2.0, "")]
    page = report(tmp_path, rows=rows)
    assert "x" * 2000 in page and "x" * 2001 not in page and "y" * 2001 not in page
    text = Reader(page).text
    assert text.count("and 18,000 more characters") == 2
    assert "policy 2.0 points nothing" in text


def test_tag_escapes_all_but_what_it_made_itself():
    inner = tag("b", "1 < 2")
    assert tag("p", inner, " & ", 3, None, class_='a"b', data_x=None) == (
        '<p class="a&quot;b"><b>1 &lt; 2</b> &amp; 3</p>'
    )
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert isinstance(join("a", inner), Html)
    assert visible("a\tb\nשלום 👩‍💻") == "a\tb\nשלום 👩‍💻"  # joiners and right-to-left letters stay
    assert visible("\x00\x7f\u2066\ud800") == "⟨U+0000⟩⟨U+007F⟩⟨U+2066⟩⟨U+D800⟩"


@pytest.mark.parametrize(
    "unseen",
    ["\u00ad", "\u200b", "\u200e", "\u2028", "\u2029", "\u202e", "\u2060", "\ufeff", "\U000e0041"],
)  # soft hyphen, blank of no width, direction, line and paragraph end, ..., a tag letter
def test_what_one_cannot_see_is_written_out(unseen):
    assert visible(f"a{unseen}b") == f"a⟨U+{ord(unseen):04X}⟩b"
    assert visible("می\u200cخواهم") == "می\u200cخواهم"  # a joiner that Persian cannot do without


# ------------------------------------------------------------------------------ what is missing


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    text = Reader(report(tmp_path, None, [])).text
    assert "This run has not been evaluated" in text and "ppo.beta 0.0625" in text
    assert "The judge's table" not in text and "How training went" not in text


def test_a_run_of_one_stage_shows_that_stage(tmp_path):
    page = report(tmp_path, None, METRICS[:1] + METRICS[3:])
    assert page.count("<img") == 1
    text = Reader(page).text
    assert "SFT 61" in text and "What PPO did" not in text


def test_without_a_judge_the_page_and_the_table_go_without_marks(tmp_path, capsys):
    summary = without(
        SUMMARY,
        "mark",
        "rubric",
        "mark_by_set",
        "win_rate_against_sft",
        "flaws",
        "flaws_against_sft",
    )
    summary |= {"reward_model": None, "peak_memory_mb": None}
    text = Reader(report(tmp_path, summary, METRICS[:1])).text
    assert "No judge marked this run" in text and "KL from SFT (nats)" in text
    assert "mark (points)" not in text and "Peak memory" not in text
    print_table(summary)
    assert "No judge marked this run" in capsys.readouterr().out


# ------------------------------------------------------------------------------ table and verdict


def test_the_printed_table_is_aligned_and_fits_the_screen(capsys):
    print_table(SUMMARY)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    head, marks = lines[0], lines[1]
    assert marks.split() == [
        "mark",
        "(points)",
        "2.91",
        "±",
        "0.10",
        "6.30",
        "±",
        "0.10",
        "7.41",
        "±",
        "0.10",
        "8.12",
        "±",
        "0.10",
    ]
    assert head.endswith("policy") and len(head) == len(marks)
    assert any("PPO made the answers better" in line for line in lines)


def test_a_summary_straight_from_the_evaluation_is_as_good_as_one_from_the_file(capsys):
    raw = copy.deepcopy(SUMMARY)
    raw["models"]["policy"]["mark"] = (8.12, float("nan"), float("nan"))
    cells = dict(judge_table(raw).rows)["mark (points)"]
    assert [c.line() for c in cells] == ["2.91 ± 0.10", "6.30 ± 0.10", "7.41 ± 0.10", "8.12"]
    print_table(raw)
    assert "nan" not in capsys.readouterr().out


def test_cells():
    assert cell(None) == Cell("–")
    assert cell([None, None, None]) == Cell("–")
    assert cell(-0.0001).line() == "0.00"
    assert cell([0.862, 0.832, 0.892], 0, True).line() == "86 ± 3 %"
    assert cell([0.3, 0.2, 0.6]).line() == "0.30 (0.20–0.60)"


def test_kl_of_sft_is_nothing_and_that_of_best_of_four_is_bounded():
    cells = dict(judge_table(SUMMARY).rows)["KL from SFT (nats)"]
    # ln 4 - 3/4 = 1.3863 - 0.75
    assert [c.estimate for c in cells] == ["–", "0", "≤ 0.64", "8.31"]


def test_best_of_n_has_one_answer_a_prompt_so_no_distinct_share():
    assert [c.estimate for c in dict(judge_table(SUMMARY).rows)["distinct answers"]] == [
        "90",
        "90",
        "–",
        "90",
    ]


def test_a_flaw_that_a_model_never_had_is_none_of_its_answers():
    summary = copy.deepcopy(SUMMARY)
    summary["models"]["policy"]["flaws"] = {}
    cells = dict(judge_table(summary).rows)["with invented promises"]
    assert cells[-1].line() == "0.0 %"


def test_sets_of_prompts_are_told_apart():
    table = table_by_set(SUMMARY)
    assert [label for label, _ in table.rows] == ["main (12 prompts)", "apart (4 prompts)"]
    assert [c.estimate for c in table.rows[1][1]] == ["1.91", "5.30", "6.41", "7.12"]


@pytest.mark.parametrize(
    ("mark", "wins", "begins"),
    [
        (
            8.12,
            [0.86, 0.83, 0.89],
            "PPO made the answers better: the judge gives the policy 8.12 "
            "points, up from 6.30 for SFT (the base model has 2.91), and prefers its answer to "
            "SFT's in 86 % of pairs, ties counted half (95 % interval 83 to 89 %).",
        ),
        (
            5.0,
            [0.31, 0.28, 0.34],
            "PPO made the answers worse: the judge gives the policy 5.00 points, down from 6.30",
        ),
        (6.4, [0.51, 0.47, 0.55], "PPO did not clearly make the answers better or worse: "),
        (6.0, [0.56, 0.53, 0.59], "PPO's outcome is mixed, with more wins but a lower mark: "),
        (
            6.4,
            [0.56, 0.53, 0.59],
            "PPO's outcome is mixed, with more wins but no clearly higher mark",
        ),
        (
            7.0,
            [0.51, 0.47, 0.55],
            "PPO's outcome is mixed, with a higher mark but not clearly more ",
        ),
        (8.0, [1.0, None, None], "Too few prompts to tell whether PPO made the answers better: "),
        (
            6.3,
            None,
            "Too few prompts to tell whether PPO made the answers better: the judge gives the "
            "policy 6.30 points, as much as 6.30 for SFT",
        ),
    ],
)
def test_the_verdict_says_better_only_where_mark_and_win_rate_do(mark, wins, begins):
    summary = copy.deepcopy(SUMMARY)
    summary["models"]["policy"] |= {"mark": around(mark), "win_rate_against_sft": wins}
    assert verdict(summary).startswith(begins)


@pytest.mark.parametrize(
    ("model", "change", "about"),
    [
        ("policy", {"mark": around(6.4), "score": around(2.0)}, "over-optimisation"),
        ("policy", {"rubric": {"helpful": around(0.5, 0.02)}}, "worse than SFT on: helpful"),
        ("best_of_n", {"mark": around(9.0)}, "needs no training"),
        ("policy", {"distinct": 0.5}, "repeats itself"),
        ("policy", {"kl": around(21.0)}, "is far from SFT"),
        ("policy", {"kl": around(0.2)}, "hardly moved"),
        ("policy", {"ended": 0.8}, "cut off at the length limit"),
        (
            "policy",
            {"flaws_against_sft": {"invented promises": [1.5, 1.1, 2.0]}},
            "invented promises",
        ),
        ("sft", {"mark": around(2.5)}, "SFT did not clearly raise the mark"),
    ],
)
def test_a_run_that_went_wrong_carries_a_warning(model, change, about):
    summary = copy.deepcopy(SUMMARY)
    assert warnings(summary) == []
    summary["models"][model] |= change
    assert about in " ".join(warnings(summary))


def test_a_change_is_clear_beyond_the_error_of_the_difference():
    # halves of 0.3 and 0.4 make one of 0.5
    before = {"mark": around(5.0, 0.3)}
    after = {by: {"mark": around(5.0 + by, 0.4)} for by in (0.51, 0.49, -0.49, -0.51)}
    assert [change(now, before, "mark") for now in after.values()] == [1, 0, 0, -1]
    assert change({}, before, "mark") is None


def test_a_weak_reward_model_carries_a_warning():
    [warning] = warnings(SUMMARY | {"reward_model": {"clear": {"accuracy": 0.55, "pairs": 9}}})
    assert "hardly better than chance" in warning


def test_colours_of_the_page_are_those_of_the_figures():
    from importlib.resources import files

    from rlhf_lab.show.plots import SERIES

    style = files("rlhf_lab.runs").joinpath("report.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--(\w+): (#\w+);", style.split("@media")[0]))
    assert {light[k].upper() for k in ("base", "sft", "best", "policy")} == {
        SERIES[k] for k in ("base", "sft", "best_of_n", "policy")
    }


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/runs/model", "model"),
        ("/home/ann b/rows.jsonl", "rows.jsonl"),
        (r"C:\Users\ann\rows.jsonl", "rows.jsonl"),
        ("~/model", "model"),
        ("../../ann/lab/data/base", "base"),
        ("runs/demo/policy", "runs/demo/policy"),
        ("owner/name", "owner/name"),
        ("hub:owner/name:train", "hub:owner/name:train"),
        ("it / is not", "it / is not"),
    ],
)
def test_of_a_path_on_somebody_s_machine_the_name_is_shown(text, shown):
    assert name_alone(text) == shown
    assert names_alone({"a": [text, 1, {"b": text}]}) == {"a": [shown, 1, {"b": shown}]}
