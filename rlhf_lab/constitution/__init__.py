"""Feedback from written rules instead of people (Constitutional AI, Bai et al. 2022; RLAIF, Lee et
al. 2023).

A rule is a sentence, a weight and a checker (`rules`, `checkers`). A critique says which
rules a response breaks, where and why; a revision repairs it by small edits, and the revised
responses are demonstrations (`critique`, `revise`). Weighted and added up, the rules also rank
responses, as labellers do (`ranking`). Any causal language model can be the critic instead
(`model_critic`).

    rules = read_rules()
    found = critique(prompt, response, rules)
    revised = revise(found, others=more_samples)
    rankings = rank_by_rules(prompts, texts, rules)
"""
