"""The walk through a run's samples: what it shows, and that it escapes it."""

import pandas as pd
import pytest

from rlhf_lab.show.widgets.walk import SampleWalk


@pytest.fixture
def samples():
    answers = {0: ["hello", "one"], 10: ["hello", "two"], 20: ["<b>bold</b>", "two"]}
    return pd.DataFrame(
        [
            {"update": u, "prompt": f"prompt {i}\nAgent:", "response": text, "mark": u / 10 + i}
            for u, row in answers.items()
            for i, text in enumerate(row)
        ]
    )


def test_the_slider_changes_the_update(samples):
    walk = SampleWalk(samples, shown=2)
    assert "Update 0" in walk.page.value and "one" in walk.page.value
    walk.slider.value = 20
    assert "Update 20" in walk.page.value and "all 2 prompts: mean mark 2.5" in walk.page.value


def test_what_a_model_wrote_is_escaped(samples):
    page = SampleWalk(samples).at(20)
    assert "&lt;b&gt;bold" in page and "<b>bold" not in page


def test_what_did_not_change_is_grey(samples):
    walk = SampleWalk(samples, shown=1)
    assert "opacity" not in walk.at(0) and "opacity" in walk.at(10) and "opacity" not in walk.at(20)


def test_other_prompts_come_round_again(samples):
    walk = SampleWalk(samples, shown=1)
    pages = []
    for _ in range(3):
        pages.append(walk.page.value)
        walk.more.click()
    assert "hello" in pages[0] and "one" in pages[1] and pages[2] == pages[0]


def test_a_saved_notebook_keeps_a_page(samples):
    data = SampleWalk(samples, still=[0, 20])._repr_mimebundle_()
    assert "Update 0" in data["text/html"] and "Update 20" in data["text/html"]
    assert "Update 10" not in data["text/html"]


def test_the_label_of_who_is_to_speak_is_left_out(samples):
    assert "Agent" not in SampleWalk(samples).at(0) and "prompt 1<" in SampleWalk(samples).at(0)
    other = samples.assign(prompt=samples["prompt"].str.replace("Agent:", "So: what now?"))
    assert "So: what now?" in SampleWalk(other).at(0)


def test_each_answer_has_its_mark_and_the_score_if_it_was_recorded(samples):
    page = SampleWalk(samples).at(10)
    assert "(mark 1.0)" in page and "(mark 2.0)" in page and "score" not in page
    assert "recorded no scores" in SampleWalk(samples).at(0)
    scored = SampleWalk(samples.assign(score=-samples["mark"])).at(10)
    assert "(mark 1.0, score -1.00)" in scored and "(mark 2.0, score -2.00)" in scored
    assert "mean mark 1.5, mean score -1.50" in scored
    assert "no scores" not in SampleWalk(samples.assign(score=1.0)).at(0)
