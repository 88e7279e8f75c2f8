"""Compare models on the same prompts: by a task's judge, or by a second reward model.

contestants           which models are meant, and which are runs that differ in the seed alone
measure               every model answers every prompt; marks, paired differences, wins, KL
comparison_table      the figures as rows of short texts
comparison_plots      the pictures
standing              what is known about a reward model that judges
conclusions           the outcome in words, and what to be careful about
page                  all of it on one page
blind/                a person compares two models without knowing which is which
"""
