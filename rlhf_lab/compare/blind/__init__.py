"""Two models compared by a person who does not know which is which.

A blind comparison is a series of rankings of two responses. It runs in the ranking widget or on the
terminal, and every choice is saved in a feedback store before the next pair is shown.

    comparison = BlindComparison(sft_answers, policy_answers, count=20, names=("SFT", "policy"))
    comparison                    # in a notebook: the widget; elsewhere comparison.ask()
    print(comparison.result())

comparison.py holds the pairs and the choices; outcome.py puts their result into words.
"""
