"""Two models compared by a person who does not know which is which.

A blind comparison is a ranking of two responses: it runs in the ranking widget or on the terminal,
and every choice is in a feedback store before the next pair shows.

    comparison = BlindComparison(sft_answers, policy_answers, count=20, names=("SFT", "policy"))
    comparison                    # in a notebook: the widget; elsewhere comparison.ask()
    print(comparison.result())

comparison.py has the pairs and the choices; outcome.py says in words what the choices show.
"""
