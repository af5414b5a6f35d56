"""What the calls of a worker.py reach without Kafka: as many at once as CONCURRENCY says, for so many seconds.

python -m bench.calling.alone threads|coroutines SECONDS

Prints how many calls there were, and how many ended a second, from the end of the first to that of the last.
"""

import asyncio
import gc
import os
import sys
import threading
import time
from typing import Any

gc.set_threshold(50_000, 20, 50)  # as main.py has it: only Kafka shall make the difference

CONCURRENCY = int(os.environ["CONCURRENCY"])


def in_threads(seconds: float) -> list[float]:
    from bench.calling import threads

    ends: list[float] = []

    def work() -> None:
        while time.monotonic() < deadline:
            threads.process(message(len(ends)), "alone")
            ends.append(time.monotonic())

    threads.setup()
    deadline = time.monotonic() + seconds
    workers = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    threads.teardown()
    return ends


async def in_coroutines(seconds: float) -> list[float]:
    from bench.calling import coroutines

    ends: list[float] = []

    async def work() -> None:
        while time.monotonic() < deadline:
            await coroutines.process(message(len(ends)), "alone")
            ends.append(time.monotonic())

    await coroutines.setup()
    deadline = time.monotonic() + seconds
    await asyncio.gather(*[work() for _ in range(CONCURRENCY)])
    await coroutines.teardown()
    return ends


def message(number: int) -> dict[str, Any]:
    return {"id": str(number), "content": {}}


if __name__ == "__main__":
    way, seconds = sys.argv[1], float(sys.argv[2])
    ends = in_threads(seconds) if way == "threads" else asyncio.run(in_coroutines(seconds))
    print(len(ends), (len(ends) - CONCURRENCY) / (max(ends) - min(ends)))
