"""docs/from-trl.md names what there is: settings, arguments, metrics and defaults of this lab."""

import argparse
import inspect
import re
from dataclasses import fields
from pathlib import Path

from rlhf_lab.cli import ppo as command
from rlhf_lab.models import ScalarModel
from rlhf_lab.ppo import PPOConfig, train_ppo
from rlhf_lab.records import Mark, Prompt

PAGE = Path(__file__).parents[1].joinpath("docs/from-trl.md").read_text("utf-8")
NAMED = set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.S)))
DEFAULTS = {item.name: item.default for item in fields(PPOConfig)}


def rows(heading: str) -> list[list[str]]:
    """The cells of all tables of a section, without their headers."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_settings_are_those_of_the_config_with_their_defaults():
    options = argparse.ArgumentParser()
    command.add_options(options)
    known = {flag for action in options._actions for flag in action.option_strings}
    named = set()
    for row in rows("Settings"):
        if len(row) != 5 or row[2] == "here":
            continue
        for name in names(row[2]):
            if name.startswith("--"):
                assert name in known, name
            else:
                assert row[3] and float(row[3].replace("False", "0")) == DEFAULTS[name], name
                named.add(name)
    assert len(named) > 15
    assert DEFAULTS.keys() <= NAMED
    assert all("--" + name.replace("_", "-") in known for name in named)


def test_arguments_are_those_of_train_ppo():
    arguments = set(inspect.signature(train_ppo).parameters)
    named = {
        name for row in rows("Settings") if len(row) == 3 for name in names(row[1]) if row[1] != "–"
    } - {"train_ppo"}
    assert named <= arguments
    assert arguments <= NAMED


def test_metrics_are_those_of_a_record(gpt2, tokenizer):
    prompts = [Prompt(str(i), text) for i, text in enumerate(["ab:", "c:"])]
    config = PPOConfig(updates=1, batch_size=2, epochs=1, max_new_tokens=4)
    record = next(
        train_ppo(
            gpt2,
            ScalarModel.from_policy(gpt2, seed=0).requires_grad_(False),
            tokenizer,
            prompts,
            config,
            judge=lambda prompt, text: Mark(1.0, {}),
        )
    )
    table = [row for row in rows("Metrics") if row[0] != "TRL"]
    named = {name for row in table for name in names(row[1])}
    assert len(table) > 15 and named <= record.keys()
    assert record.keys() <= NAMED


def test_the_commands_of_the_page_are_known():
    options = argparse.ArgumentParser()
    command.add_options(options)
    for line in re.findall(r"^rlhf-lab ppo (.*)$", PAGE, re.M):
        options.parse_args(line.split())
    assert "\nrlhf-lab ppo " in PAGE
