"""A worker.py for the tests of `main.py trace`: the id and the stage of the chain tell what becomes of a message."""

import os
import time
from typing import Any

from utils.retry import Reject

STAGE = os.environ["STAGE"]


def process(message: dict[str, Any], _consumer_name: str) -> Any:
    id = str(message["id"])
    time.sleep(0.3 if id.endswith("7") else 0.002)
    match id.partition("-")[0]:
        case kind if kind == f"none{STAGE}":
            return None
        case kind if kind == f"fail{STAGE}":
            raise Reject("a failure that the test asked for")
        case "list" if STAGE == "1":
            return [{**message, "number": number} for number in range(2)]
        case "own" if STAGE == "1":
            return [{**message, "id": f"{id}-{number}"} for number in range(2)]
    return message
