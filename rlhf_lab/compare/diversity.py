"""How different the answers to one prompt are: distinct n-grams and self-BLEU.

Neither sees meaning: two stories in other words count as different, however alike they are.
"""

import re
import statistics
from collections.abc import Sequence

from sacrebleu.metrics import BLEU


def distinct_ngrams(texts: Sequence[str], n: int) -> float:
    """The number of different n-grams in the texts, as a share of all of them (Li et al. 2016):
    0 to 1, nan if no text has n words. Words are compared in lower case; n-grams do not cross from
    one text to the next. The longer the texts, the smaller the share: compare like with like."""
    found = [gram for text in texts for gram in _ngrams(text, n)]
    return len(set(found)) / len(found) if found else float("nan")


def self_bleu(texts: Sequence[str]) -> float:
    """How much of each text stands in the others: its BLEU with the others as references, averaged
    over the texts (Zhu et al. 2018), 0 to 1. 1: they are all the same."""
    bleu = BLEU(effective_order=True, lowercase=True)
    return statistics.fmean(
        bleu.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score / 100
        for i, text in enumerate(texts)
    )


def diversity(answers: Sequence[Sequence[str]]) -> dict[str, float]:
    """For several answers to each of several prompts: the means over prompts of distinct-1 to
    distinct-3 and of self-BLEU."""
    found = {f"distinct-{n}": [distinct_ngrams(row, n) for row in answers] for n in (1, 2, 3)}
    found["self-BLEU"] = [self_bleu(row) for row in answers]
    return {name: statistics.fmean(values) for name, values in found.items()}


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = re.findall(r"[\w']+", text.lower())
    return list(zip(*(words[i:] for i in range(n)), strict=False))
