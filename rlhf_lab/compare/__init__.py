"""Compare models on the same prompts: by a task's judge, or by a second reward model.

    contestants   which models are meant, and which are runs of the same settings with other seeds
    measure       every model answers every prompt; marks, paired differences, wins, KL
    table         the figures as rows of short texts
    standing      what is known of a reward model that judges
    verdict       the outcome in words, and what to be wary of
    plots, page   pictures, and all of it on one page
    command       `rlhf-lab compare`

How a person compares two of them without knowing which is which: `rlhf_lab.compare.blind`.
"""
