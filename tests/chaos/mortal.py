"""`python -m tests.chaos.mortal`: main.py, whose process kills itself (SIGKILL) at the point that CHAOS_POINT names.

CHAOS_TIMES: the how many-eth time that the point is reached. Points: `produced` (a result has been given to the
producer), `offsets` (sent to the transaction), `commit` (one has just begun), `assigned` (within the 200 ms before),
`read` (a batch of records is about to be handed to the loop).
"""

import os
import random
import signal
import sys
import threading
import time
from typing import Any

import confluent_kafka

from utils.kafka import clients

POINTS = ("produced", "offsets", "commit", "assigned", "read")
_point = os.environ["CHAOS_POINT"]
_times = int(os.environ["CHAOS_TIMES"])


def reached(point: str, within: float = 0) -> None:
    """Die here if this is it, at a random moment of the next `within` seconds."""
    global _times
    if point != _point:
        return
    _times -= 1
    if _times > 0:
        return
    if within:
        threading.Thread(target=_die, args=(random.uniform(0, within),), daemon=True).start()
    else:
        _die()


def _die(after: float = 0) -> None:
    time.sleep(after)
    os.kill(os.getpid(), signal.SIGKILL)


class MortalProducer(confluent_kafka.Producer):
    def produce(self, *arguments: Any, **named: Any) -> None:
        super().produce(*arguments, **named)
        reached("produced")

    def send_offsets_to_transaction(self, *arguments: Any) -> None:
        super().send_offsets_to_transaction(*arguments)
        reached("offsets")

    def commit_transaction(self, *arguments: Any) -> None:
        reached("commit", within=0.005)
        super().commit_transaction(*arguments)


class MortalConsumer(confluent_kafka.Consumer):
    def assign(self, *arguments: Any) -> None:
        super().assign(*arguments)
        reached("assigned", within=0.2)

    def commit(self, *arguments: Any, **named: Any) -> Any:
        reached("commit", within=0.005)
        return super().commit(*arguments, **named)

    def consume(self, *arguments: Any, **named: Any) -> list[Any]:
        records = super().consume(*arguments, **named)
        if records:
            reached("read")
        return records


if __name__ == "__main__":
    assert _point in POINTS, _point
    vars(clients).update(Producer=MortalProducer, Consumer=MortalConsumer)
    from main import main

    sys.exit(main())
