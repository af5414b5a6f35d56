"""A worker.py that adds to each message how its text sounds: positive, negative or neutral.

Copy it over worker.py. It calls nobody and needs no package: the words are counted here. A better judge takes the place
of `score()`; one that is a model is loaded in setup(), as examples/model.py does.
"""

import re
from typing import Any

FIELD = "text"  # of content
POSITIVE = frozenset(("good", "great", "excellent", "love", "happy", "fast", "perfect", "thanks", "nice", "recommend"))
NEGATIVE = frozenset(("bad", "poor", "terrible", "hate", "slow", "broken", "late", "never", "wrong", "refund", "sad"))
NEGATIONS = frozenset(("not", "no", "never", "hardly"))


def process(message: dict[str, Any], consumer_name: str) -> dict[str, Any]:
    """A message without a text goes on as it is."""
    text = message["content"].get(FIELD)
    if isinstance(text, str):
        found = score(text)
        label = "positive" if found > 0 else "negative" if found < 0 else "neutral"
        message["content"]["sentiment"] = {"label": label, "score": found}
    return message


def score(text: str) -> float:
    """Between -1 and 1: how many of the words that say something are positive, less those that are negative."""
    words = re.findall(r"\w+", text.lower())
    values = [
        (1 if word in POSITIVE else -1) * (-1 if before in NEGATIONS else 1)
        for before, word in zip(["", *words], words, strict=False)
        if word in POSITIVE or word in NEGATIVE
    ]
    return round(sum(values) / len(values), 2) if values else 0.0
