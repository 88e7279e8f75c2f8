"""Compare models on the same prompts: by a task's judge, or by a second reward model.

contestants           which models to compare, and which runs differ only in their seed
measure               every model answers every prompt; marks, paired differences, wins, KL
comparison_table      the figures as rows of short texts
comparison_plots      the pictures
standing              what is known about the reward model that judges
conclusions           the outcome in words, and warnings
page                  the whole comparison on one page
blind/                a person compares two models without knowing which is which
"""
