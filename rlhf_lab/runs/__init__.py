"""One run from end to end.

pipeline               all three stages and the evaluation by the judge
presets                settings for models of certain sizes
pretrain               train a tokenizer and a base model on a task's raw text
report, verdict        the run as one page, and its outcome in words (examples: responses)
costs/                 memory and time of a run: estimated before it starts, and measured
"""
