"""One run from end to end.

pipeline               all three stages, then the judge's table
presets                settings that go with a model of a certain size
pretrain               tokenizer and base model from a task's raw text
report, verdict        the run as one page, and what came of it in words (examples: responses)
costs/                 what a run costs: estimated before it starts, and measured
"""
