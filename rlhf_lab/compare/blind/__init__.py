"""Two models compared by you, without knowing which is which; then how sure one can be.

A blind comparison is a ranking of two: it runs on the ranking session, in the notebook's ranking
widget or on the terminal, and every choice is in a feedback store before the next pair shows.

    comparison = BlindComparison(sft_answers, policy_answers, count=20, names=("SFT", "policy"))
    comparison                    # in a notebook: the widget; elsewhere comparison.ask()
    print(comparison.result())

`intervals` has the binomial sums, `outcome` says in words what they show, `comparison` the rest.
"""
