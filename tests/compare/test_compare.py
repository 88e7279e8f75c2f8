"""Comparing models: which belong together, figures worked by hand, and a page that tells them."""

import io
import json
import math
import re
from html.parser import HTMLParser

import pytest
import torch
from helpers import refusal
from tiny_task import ColourTask

from rlhf_lab.cli import main
from rlhf_lab.compare.comparison_table import (
    main_table,
    rubric_differences,
    rubric_table,
    terminal_lines,
)
from rlhf_lab.compare.conclusions import cautions, headline, pairing, sentences
from rlhf_lab.compare.contestants import contestants_of, rival_of, set_apart
from rlhf_lab.compare.measure import Comparison, compare, paired
from rlhf_lab.compare.page import Setup, page
from rlhf_lab.disk.run_folder import RunFolder
from rlhf_lab.evaluate import respond, win_rate
from rlhf_lab.intervals import interval
from rlhf_lab.models import ScalarModel, load_policy, load_tokenizer, save_policy
from rlhf_lab.records import Mark, Prompt
from rlhf_lab.sampling import SamplingConfig

SHORT = SamplingConfig(max_new_tokens=6)
PROMPTS = [Prompt(f"p{i}", f"ask {i}:") for i in range(12)]
NASTY = "<script>alert(1)</script> \x1b[31m \u202eflipped"


def judge(prompt: Prompt, text: str) -> Mark:
    """More vowels, more points; a digit is a flaw."""
    vowels = sum(text.lower().count(v) for v in "aeiou")
    flaws = {"digits": 1} if any(c.isdigit() for c in text) else {}
    return Mark(float(min(vowels, 10)), {"vowels": min(vowels, 10) / 10}, 0.0, flaws, (NASTY,))


def run_folder(path, seed=0, parts=("sft", "policy"), task="support_desk", **ppo):
    """A run's folder with its models' folders, empty, which is enough to tell what is meant."""
    settings = {"task": task, "seed": seed, "ppo": {"beta": 0.05, "seed": seed} | ppo}
    if parts == ("sft",):  # a run of that stage alone
        settings = {"epochs": 2, "seed": seed}
    with RunFolder.open(path, settings):
        for part in parts:
            (path / part).mkdir()
    return path


@pytest.fixture
def seeds(tmp_path):
    """Three runs that differ in their seed, and one of another beta."""
    runs = [run_folder(tmp_path / f"s{seed}", seed) for seed in range(3)]
    return runs, run_folder(tmp_path / "free", 1, beta=0.0)


# ---- which models are meant -------------------------------------------------------------------


def test_a_run_means_its_policy_and_a_folder_itself(tmp_path):
    run = run_folder(tmp_path / "run", 7)
    names = [f"{run}", f"{run}/sft", f"mine={run}/policy", "gpt2"]
    found = contestants_of(names)
    assert [c.folder for c in found] == [f"{run}/policy", f"{run}/sft", f"{run}/policy", "gpt2"]
    assert [c.name for c in found] == ["run", "run/sft", "mine", "gpt2"]
    assert [c.seed for c in found] == [7, 7, 7, None]


def test_a_run_of_sft_alone_means_its_sft_policy(tmp_path):
    run = run_folder(tmp_path / "run", parts=("sft",))
    assert contestants_of([run])[0].folder == str(run / "sft")


def test_a_run_without_its_policy_is_not_taken_for_its_sft(tmp_path):
    run = run_folder(tmp_path / "run", parts=())
    (run / "sft").mkdir()
    message = refusal(contestants_of, [run])
    assert "no policy yet" in message and str(run / "sft") in message


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "model.safetensors").write_text("")
    assert "is a file" in refusal(contestants_of, [tmp_path / "model.safetensors"])


def test_seeds_of_the_same_settings_belong_together(seeds):
    runs, other = seeds
    found = contestants_of([*runs, other, runs[0] / "sft", runs[1] / "sft"])
    groups = [c.group for c in found]
    assert len(set(groups[:3])) == 1 and len({groups[0], groups[3], groups[4]}) == 3
    assert groups[4] == groups[5]
    assert set_apart(found)[0] == {"ppo.beta": "0.05"}
    assert set_apart(found)[3] == {"ppo.beta": "0.0"}


def test_the_same_run_twice_is_no_other_seed(seeds):
    runs, _ = seeds
    found = contestants_of([runs[0], runs[1], runs[1]])
    assert len({c.group for c in found}) == 3
    assert found[1].name != found[2].name


def test_seeds_on_machines_of_other_memory_are_seeds_of_one_way_to_train(seeds, tmp_path):
    lean = run_folder(tmp_path / "lean", 3, max_tokens=512)
    found = contestants_of([*seeds[0], lean])
    assert len({c.group for c in found}) == 1 and set_apart(found) == [{}] * 4


def test_a_name_given_twice_makes_a_group(seeds, tmp_path):
    runs, other = seeds
    found = contestants_of([f"ours={runs[0]}", f"ours={other}", "ours=gpt2"])
    assert len({c.group for c in found}) == 1
    assert [c.name for c in found] == ["ours, seed 0", "ours, seed 1", "ours, no. 3"]


def test_each_seed_is_measured_against_the_first_model_s_twin(seeds):
    runs, other = seeds
    sft = [run / "sft" for run in runs]
    twins = contestants_of([*sft, *runs, other])
    assert [rival_of(twins, i) for i in range(7)] == [0, 1, 2, 0, 1, 2, 1]
    single = contestants_of([sft[0], *runs])
    assert [rival_of(single, i) for i in range(4)] == [0, 0, 0, 0]
    alone = contestants_of(runs)
    assert [rival_of(alone, i) for i in range(3)] == [0, 0, 0]


# ---- figures worked by hand -------------------------------------------------------------------


def test_a_paired_difference_is_that_of_the_prompts_means():
    mine = torch.tensor([[3.0, 5.0], [8.0, 8.0], [1.0, 3.0]])  # means 4, 8, 2
    rival = torch.tensor([[3.0], [6.0], [2.0]])  # differences 1, 2, 0: mean 1, sd 1
    half = 4.302653 / math.sqrt(3)  # Student's t with two degrees of freedom
    assert paired(mine, rival) == pytest.approx((1, 1 - half, 1 + half))


def test_pairing_takes_out_what_makes_prompts_hard_for_both():
    torch.manual_seed(0)
    hard = 5 * torch.randn(50, 1)
    mine, rival = hard + torch.randn(50, 4) + 0.5, hard + torch.randn(50, 4)
    _, low, high = paired(mine, rival)
    alone = interval(mine)
    assert (high - low) < 0.3 * (alone[2] - alone[1])
    assert paired(mine, mine) == pytest.approx((0, 0, 0))


def test_more_samples_of_the_same_responses_do_not_narrow_a_difference():
    torch.manual_seed(0)
    mine, rival = torch.randn(20, 2), torch.randn(20, 3)
    assert paired(mine.repeat(1, 9), rival.repeat(1, 7)) == pytest.approx(paired(mine, rival))


# ---- a whole comparison -----------------------------------------------------------------------


@pytest.fixture
def models(make_gpt2, tokenizer, tmp_path):
    """Folders of two different models with one vocabulary."""
    save_policy(make_gpt2(tokenizer), tokenizer, tmp_path / "one")
    other = make_gpt2(tokenizer)
    with torch.no_grad():
        other.transformer.h[0].attn.c_proj.weight.mul_(1.5)
    save_policy(other, tokenizer, tmp_path / "two")
    return [tmp_path / "one", tmp_path / "two"]


def test_every_figure_is_that_of_the_models_own_answers(models):
    result = compare(models, PROMPTS, judge, samples=3, seed=4, config=SHORT)
    one, two = (
        respond(load_policy(m), load_tokenizer(m), PROMPTS, 3, 4, judge, SHORT) for m in models
    )
    first, row = result.rows
    assert row["value"] == pytest.approx(interval(two.mark_table()))
    assert row["difference"] == pytest.approx(paired(two.mark_table(), one.mark_table()))
    assert row["win_rate"] == pytest.approx(win_rate(two.mark_table(), one.mark_table()))
    assert row["rubric"]["vowels"][0] == pytest.approx(row["value"][0] / 10)
    assert row["rubric_difference"]["vowels"][0] == pytest.approx(row["difference"][0] / 10)
    assert row["flaws"]["digits"][0] == pytest.approx(float(two.flaw_table("digits").mean()))
    assert row["length"] == pytest.approx(float(two.sequences.mask.sum(1).float().mean()))
    assert (first["difference"], first["win_rate"], first["rival"]) == (None, None, None)
    assert (row["rival"], row["reference"]) == (models[0].name, models[0].name)
    assert first["kl"][0] == 0 and row["kl"][0] > 0
    shown = [[a["response"] for a in e["answers"]] for e in result.examples[:6]]
    assert shown == [[one.texts[i][0], two.texts[i][0]] for i in range(6)]
    json.dumps(result.rows)


def test_the_worst_examples_are_those_of_the_best_model(models):
    result = compare(models, PROMPTS, judge, samples=2, config=SHORT)
    best = max(range(2), key=lambda i: result.rows[i]["value"][0])
    policy = load_policy(models[best])
    marks = respond(policy, load_tokenizer(models[best]), PROMPTS, 2, 0, judge, SHORT).mark_table()
    worst = [e["answers"][best]["value"] for e in result.examples[6:]]
    assert worst == sorted(marks[6:, 0].tolist())[:3]


def test_the_reference_may_be_another_model(models):
    forth = compare(models, PROMPTS, judge, samples=1, config=SHORT).rows
    back = compare(models, PROMPTS, judge, samples=1, config=SHORT, reference=str(models[1])).rows
    assert back[1]["kl"][0] == 0 and back[0]["kl"][0] > 0 and forth[0]["kl"][0] == 0
    assert back[0]["reference"] == str(models[1]) and back[0]["distinct"] is None


def test_between_two_vocabularies_there_is_no_kl(models, make_gpt2, padless_tokenizer, tmp_path):
    extended = padless_tokenizer
    extended.add_tokens(["ask"])
    save_policy(make_gpt2(extended), extended, tmp_path / "three")
    result = compare([models[0], tmp_path / "three"], PROMPTS, judge, samples=1, config=SHORT)
    assert result.rows[1]["kl"] is None
    assert any("vocabularies" in text for text in cautions(result, 40, "mark"))
    setup = Setup("here", 12, 1, 0, SHORT, "a judge")
    assert "wins" in page(result, setup)


def test_without_a_judge_a_reward_model_s_scores_are_compared(models):
    reward = ScalarModel.from_policy(load_policy(models[0]), seed=0)
    reward.save(models[0].parent / "reward", load_tokenizer(models[0]))
    folder = models[0].parent / "reward"
    scored = compare(models, PROMPTS, None, folder, samples=2, config=SHORT).rows
    both = compare(models, PROMPTS, judge, folder, samples=2, config=SHORT).rows
    assert both[1]["score"] == pytest.approx(scored[1]["value"]) and scored[1]["score"] is None
    assert both[1]["score_difference"] == pytest.approx(scored[1]["difference"])


@pytest.mark.parametrize(
    "given, words",
    [
        (dict(judge=None), "nothing to compare by"),
        (dict(prompts=[]), "at least one prompt"),
        (dict(samples=0), "1 sample or more"),
        (dict(folders=["/no/such/model"]), "/no/such/model"),
    ],
)
def test_what_cannot_be_compared_is_refused(models, given, words):
    usual = dict(folders=models, prompts=PROMPTS, judge=judge, samples=1, config=SHORT)
    assert words in refusal(compare, **usual | given)


# ---- the table and the page -------------------------------------------------------------------


def around(value: float, half: float) -> tuple:
    return value, value - half, value + half


def row(name: str, value: float, difference: float | None = None, half=0.2, **more) -> dict:
    against = difference is not None
    return {
        "model": name,
        "folder": f"/models/{name}",
        "seed": None,
        "settings": {},
        "rival": "start" if against else None,
        "reference": "start",
        "value": around(value, 0.3),
        "score": None,
        "score_difference": None,
        "difference": around(difference, half) if against else None,
        "unpaired_half": 0.4 if against else None,
        "win_rate": around(0.8, 0.05) if against else None,
        "kl": around(5.0, 0.2) if against else (0.0, math.nan, math.nan),
        "length": 20.0,
        "ended": 1.0,
        "distinct": 0.9,
        "rubric": {"polite": around(0.7, 0.05)},
        "rubric_difference": {"polite": around(0.1, 0.05)} if against else {},
        "flaws": {"invented promises": (0.0, 0.0, 0.01)},
        "flaws_difference": {"invented promises": around(-0.16, 0.02)} if against else {},
    } | more


def group(*rows: dict) -> dict:
    values = [r["value"][0] for r in rows]
    spread = (sum(values) / len(values), min(values), max(values))
    return {
        "models": [r["model"] for r in rows],
        "seeds": [r["seed"] for r in rows],
        "value": spread,
        "length": (20.0, 19.0, 21.0),
    }


def example(rows: list[dict], number: int, worst: str | None = None) -> dict:
    return {
        "prompt": f"Question {number}?",
        "worst_of": worst,
        "answers": [
            {"model": r["model"], "response": NASTY, "value": 9.25, "reasons": [NASTY]}
            for r in rows
        ],
    }


@pytest.fixture
def three_seeds() -> Comparison:
    start = row("start", 7.0)
    policies = [row(f"p{s}", 9.0 + s / 10, 2.0 + s / 10, seed=s) for s in range(3)]
    rows = [start, *policies]
    shown = [example(rows, i) for i in range(6)] + [example(rows, 6, "p2")]
    return Comparison(rows, [], [group(start), group(*policies)], shown)


SETUP = Setup("support desk, held-out", 500, 4, 0, SamplingConfig(temperature=0.7), "a judge")


def test_every_seed_is_a_row_and_all_of_them_get_no_interval(three_seeds):
    table = main_table(three_seeds)
    labels = [label for label, _ in table.rows]
    assert labels == ["start", "p0", "p1", "p2", "  all 3 seeds"]
    marks = [cells[0].line() for _, cells in table.rows]
    assert marks[1] == "9.00 ± 0.30" and marks[4] == "9.10 [9.00, 9.20]"
    assert table.rows[1][1][1].line() == "+2.00 ± 0.20"
    assert table.rows[4][1][1].line() == "–"  # the group of this test has no difference


def test_a_group_holds_mean_lowest_and_highest_and_nothing_else(models, tmp_path):
    twice = [f"ours={models[0]}", f"ours={models[1]}"]
    result = compare(twice, PROMPTS, judge, samples=2, config=SHORT)
    values = [r["value"][0] for r in result.rows]
    (found,) = result.groups
    assert found["value"] == pytest.approx((sum(values) / 2, min(values), max(values)))
    assert found["models"] == [r["model"] for r in result.rows]


def test_the_terminal_gets_one_line_a_model_of_one_width(three_seeds):
    lines = terminal_lines(three_seeds)
    assert len(lines) == 6 and len({len(line) for line in lines}) == 1 and len(lines[0]) <= 100
    long = Comparison([row("x" * 80, 1.0)], [], [group(row("x" * 80, 1.0))])
    assert len(terminal_lines(long)[1].split()[0]) == 34


def test_rubric_and_flaws_item_by_item(three_seeds):
    assert rubric_table(three_seeds).head == ["", "polite", "invented promises"]
    assert [c.line() for c in rubric_table(three_seeds).rows[1][1]] == [
        "0.70 ± 0.05",
        "0.0 (0.0–1.0) %",
    ]
    differences = rubric_differences(three_seeds)
    assert [label for label, _ in differences.rows] == ["p0", "p1", "p2"]
    assert [c.line() for c in differences.rows[0][1]] == ["+0.10 ± 0.05", "−16.0 ± 2.0 pp"]


def test_the_outcome_in_words(three_seeds):
    assert headline(three_seeds, "mark") == "Against start, of 3 models: 3 clearly higher"
    (text,) = sentences(three_seeds, "mark")
    assert "3 seeds of p0" in text and "3 clearly higher" in text and "+2.00 to +2.20" in text
    assert "0.50 times as wide" in pairing(three_seeds)


@pytest.mark.parametrize(
    "difference, half, title, words",
    [
        (2.0, 0.2, "new has a clearly higher mark than start", "2.00 points more"),
        (
            -2.0,
            0.2,
            "new has a clearly lower mark than start",
            "2.00 points less than start (95 % interval 1.80 to 2.20",
        ),
        (
            -0.1,
            0.2,
            "No clear difference between new and start",
            "0.10 points less than start (95 % interval -0.10 to 0.30",
        ),
    ],
)
def test_of_two_models_one_sentence_tells_which_is_better(difference, half, title, words):
    rows = [row("start", 7.0), row("new", 7.0 + difference, difference, half)]
    found = Comparison(rows, [], [group(r) for r in rows])
    assert headline(found, "mark") == title
    (text,) = sentences(found, "mark")
    assert words in text and "80 % of pairs" in text


def test_cautions_come_where_they_belong(three_seeds):
    assert cautions(three_seeds, 500, "mark") == []
    assert "Only 12 prompts" in cautions(three_seeds, 12, "mark")[0]
    assert "There was no judge" in cautions(three_seeds, 500, "score")[0]
    hacked = row(
        "new",
        6.0,
        -1.0,
        score=around(2.0, 0.1),
        score_difference=around(1.0, 0.1),
        flaws_difference={"lies": around(0.2, 0.1)},
    )
    rows = [row("start", 7.0), hacked]
    texts = cautions(Comparison(rows, [], [group(r) for r in rows]), 500, "mark")
    assert "One seed of each" in texts[0] and "over-optimisation" in texts[1]
    assert texts[2] == "new shows this flaw clearly more often: lies."


class Reader(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_no_script_and_asks_for_nothing(three_seeds):
    content = page(three_seeds, SETUP)
    reader = Reader(content)
    assert not {"script", "link", "iframe", "form"} & {tag for tag, _ in reader.tags}
    sources = [attrs["src"] for tag, attrs in reader.tags if tag == "img"]
    assert len(sources) == 3 and all(source.startswith("data:image/") for source in sources)
    links = [attrs["href"] for tag, attrs in reader.tags if tag == "a"]
    ids = {attrs["id"] for tag, attrs in reader.tags if tag == "section"}
    assert links and {link.lstrip("#") for link in links} == ids
    style = re.search("<style>(.*?)</style>", content, re.S)[1]
    assert "url(" not in style and "@import" not in style
    assert any(attrs.get("http-equiv") == "Content-Security-Policy" for _, attrs in reader.tags)


def test_the_page_tells_what_was_compared_and_shows_what_models_wrote_escaped(three_seeds):
    content = page(three_seeds, SETUP)
    text = Reader(content).text
    for words in (
        "support desk, held-out",
        "500",
        "temperature 0.7",
        "all 3 seeds",
        "[9.00, 9.20]",
        "invented promises",
        "−16.0 pp",
        "Where p2 did worst",
        "Question 6?",
        "not 1,500 independent marks",
    ):
        assert words in text
    assert "/models/" not in text  # where they are on somebody's machine
    assert "⟨U+001B⟩[31m ⟨U+202E⟩flipped" in text and "\x1b" not in content
    assert text.count("Question 0?") == 1
    shown = text[text.index("Side by side") :]
    assert "p1" not in shown[: shown.index("What was compared")].replace("p1/", "")  # one seed each


def test_a_hostile_name_stays_a_name():
    rows = [row("start", 7.0), row(f"{NASTY} $x$ & co", 8.0, 1.0)]
    content = page(Comparison(rows, [], [group(r) for r in rows]), SETUP)
    assert "<script" not in content and "&lt;script&gt;" in content


# ---- the command ------------------------------------------------------------------------------


@pytest.fixture
def runs(models, tmp_path, monkeypatch):
    """Two runs of the colours' task, seeds 0 and 1, with models in them."""
    monkeypatch.setattr("rlhf_lab.cli.compare.load_task", lambda name: ColourTask())
    for seed in (0, 1):
        run_folder(tmp_path / f"run{seed}", seed, parts=(), task="colours")
        for part, model in (("sft", models[0]), ("policy", models[1])):
            save_policy(load_policy(model), load_tokenizer(model), tmp_path / f"run{seed}" / part)
    return tmp_path


def command(runs, *arguments) -> int:
    return main(
        [str(a).replace("@", f"{runs}/") for a in arguments]
        + ["--device", "cpu", "--max-new-tokens", "6"]
    )


def test_compare_finds_the_task_the_policies_and_the_seeds(runs, capsys):
    assert (
        command(
            runs,
            "compare",
            "sft=@run0/sft",
            "@run0",
            "@run1",
            "--prompts",
            5,
            "--samples",
            2,
            "--html",
            "@page.html",
            "--out",
            "@table.json",
            "--blind",
            3,
        )
        == 0
    )
    screen = capsys.readouterr().out
    assert "all 2 seeds" in screen and "difference" in screen and "compare with sft on" in screen
    table = json.loads((runs / "table.json").read_text())
    assert [r["seed"] for r in table["rows"]] == [0, 0, 1] and len(table["key"]) == 3
    assert set(table["key"]) <= {"first", "second"} and "pairs" not in table
    assert len(json.loads((runs / "table.pairs.json").read_text())) == 3
    content = (runs / "page.html").read_text(encoding="utf-8")
    assert "5 prompts" in content and "wrong colours" in content


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["gpt2=@one"], "--task or --data"),
        (["@run0", "--set", "nowhere"], "held-out"),
        (["@run0", "--prompts", "0"], "--prompts 0"),
        (["@nothing"], "nothing"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(runs, capsys, arguments, words):
    assert command(runs, "compare", *arguments) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("rlhf-lab: ") and words in message


def test_blind_on_the_command_line(runs, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nb\na=b\n\n"))
    assert (
        command(
            runs,
            "blind",
            "old=@one",
            "new=@two",
            "--task",
            "colours",
            "--count",
            3,
            "--store",
            "@blind.sqlite3",
            "--labeller",
            "ann",
        )
        == 0
    )
    screen = capsys.readouterr().out
    before, _, after = screen.partition("3 of 3 done")
    assert "After 3 choices" in after and "for new" in after and "for new" not in before
    assert (runs / "blind.sqlite3").exists()
