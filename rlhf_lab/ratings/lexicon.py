"""A second opinion that knows words and no context: the lexicon of VADER (Hutto and Gilbert 2014).

7,500 words and signs with a valence each, and rules for negation, emphasis and "but". Their authors
made it for posts on social media and tried it on these sentences too.
"""

from collections.abc import Iterable

import numpy as np

from rlhf_lab.errors import UserError


def lexicon_scores(texts: Iterable[str]) -> np.ndarray:
    """VADER's compound score of each text, from -1 (blame) to 1 (praise), (B,).

    Raises UserError if the package vaderSentiment is not installed.
    """
    try:
        from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
    except ImportError as error:
        raise UserError("the lexicon's opinion takes the package vaderSentiment: "
                        "pip install 'rlhf-lab[ratings]'") from error  # fmt: skip
    analyser = SentimentIntensityAnalyzer()
    return np.array([analyser.polarity_scores(text)["compound"] for text in texts])
