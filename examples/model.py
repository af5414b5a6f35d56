"""A worker.py with a model, which is loaded once: how likely is it that an order and its payment do not fit?

Copy it over worker.py, and the directory risk, with the model, beside it: directories of your own go into the image.
Here the model is as small as one can be, a logistic regression in JSON; in the same place you would load one of
scikit-learn or ONNX.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

FILE = Path(os.environ.get("MODEL_FILE", Path(__file__).with_name("risk") / "model.json"))

weights: dict[str, float]


def setup() -> None:
    """Called once, before the first message. A file that is missing ends the worker here, and not at each message."""
    global weights
    weights = json.loads(FILE.read_text())["weights"]


def process(message: dict[str, Any], consumer_name: str) -> dict[str, Any]:
    content = message["content"]
    total, paid = float(content.get("total", 0)), float(content.get("paid", 0))
    features = {"bias": 1.0, "difference": abs(total - paid) / max(total, 1.0), "cash": content.get("method") == "cash"}
    logit = sum(weights[name] * value for name, value in features.items())
    content["risk"] = round(1 / (1 + math.exp(-logit)), 3)
    return message
