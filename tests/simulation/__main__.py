"""`python -m tests.simulation N`: runs N schedules and says how fast, and what they exercised."""

import argparse
import ast
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator

from tests.simulation.explore import explore, report, settle_down
from tests.simulation.world import MEETS

EXERCISED = (
    "SIGTERM",
    "a minute passed",
    "acknowledged later",
    "assignment lost",
    "assignment that is lost already",
    "assignment",
    "commit answer lost",
    "assign fails",
    "broker slow",
    "changed row seen",
    "commit failed in part",
    "commit fails for one partition",
    "commit is refused for one partition",
    "commit lost",
    "commit taken back",
    "commit failed",
    "commit while another is on its way",
    "commit",
    "client assigned by itself",
    "clock set by hours",
    "committed offset deleted",
    "committed offset reset",
    "delivery failed",
    "discarded",
    "duplicate sent",
    "event",
    "expelled in a request",
    "expelled",
    "fatal event",
    "feeding transaction aborted",
    "feeding transaction committed",
    "flush not in time",
    "frozen",
    "id sent again before it is done",
    "id used again",
    "invalid sent",
    "killed",
    "left the group for good",
    "map damaged",
    "map deleted",
    "map refused as too long",
    "map stored",
    "map wiped",
    "pause",
    "process(): failing",
    "process(): filtered",
    "process(): forwarded",
    "process(): twofold",
    "process started",
    "produce fails yet arrives",
    "produce fails",
    "producer fenced",
    "process ended: ConfigError",
    "process(): deadly",
    "process(): fails for long",
    "process(): fails once",
    "process(): hanging",
    "process(): hangs once",
    "process(): later",
    "producer queue full",
    "record compacted away",
    "read on behind what is done",
    "read on in a topic made again",
    "rebalance within a read",
    "records deleted by retention",
    "request",
    "of others: header name",
    "of others: headers",
    "of others: key",
    "of others: longest time",
    "of others: no key",
    "of others: time -1",
    "paused by the row",
    "restart after AssignmentOutdated",
    "restart after ConfigError",
    "restart after DeliveryFailed",
    "restart after KafkaException",
    "restart after RowOutdated",
    "revoke",
    "row that is no good",
    "row withdrawn",
    "sent in a transaction",
    "stale records handed out",
    "stored map read",
    "topic added to the row",
    "topic made again",
    "topic of maps compacted",
    "topic removed from the row",
    "start taken back",
    "transaction aborted",
    "transaction answer lost",
    "transaction fails",
    "transaction",
    "waited for a transaction with offsets",
)
"""What must have happened in a run of some thousand schedules: what never happens is not tested."""
ENOUGH = 2_000


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.simulation", description=__doc__)
    parser.add_argument("schedules", type=int, nargs="?", default=ENOUGH)
    parser.add_argument("--seed", type=int, default=None, help="to have the same schedules again")
    parser.add_argument("--fix", action="append", default=[], metavar="FIELD=VALUE", help="of the setup: tight=False")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 20) if arguments.seed is None else arguments.seed
    print(f"{arguments.schedules} schedules, seed {seed}", flush=True)
    began = time.monotonic()

    def progress(runs: int) -> None:
        print(f"{runs:8} {(time.monotonic() - began) / runs * 1000:6.1f} ms each", file=sys.stderr, flush=True)

    settle_down()
    fixed = {name: ast.literal_eval(value) for name, value in (each.split("=") for each in arguments.fix)}
    found = explore(arguments.schedules, seed, progress=progress, fixed=fixed)
    if found.violation:
        report(found)
        return 1
    seconds = time.monotonic() - began
    each = seconds / found.runs * 1000
    print(f"{found.runs} schedules in {seconds:.0f} s, {each:.1f} ms each: no promise was broken")
    return _table(found.notes, found.runs)


def meetings(notes: Counter[str]) -> Iterator[str]:
    """Which actions met which states, as a table; what never came together is named below it."""
    met = {tuple(what.split(MEETS)): number for what, number in notes.items() if MEETS in what}
    actions, states = (sorted({each[index] for each in met}) for index in (0, 1))
    yield " ".join([f"{'':16}", *(f"{state:>12.12}" for state in states)])
    for action in actions:
        yield " ".join([f"{action:16}", *(f"{met.get((action, state), 0):12}" for state in states)])
    never = [f"{action}{MEETS}{state}" for action in actions for state in states if (action, state) not in met]
    yield f"never: {', '.join(never) or 'nothing'}"


def _table(notes: Counter[str], runs: int) -> int:
    """What was exercised, by its number. 1 where something never happened, though there was occasion."""
    for what, number in sorted(notes.items()):
        if MEETS not in what:
            print(f"{number:10}  {what}")
    for line in meetings(notes):
        print(line)
    never = [what for what in EXERCISED if not notes[what]]
    if never and runs >= ENOUGH:
        print(f"never happened: {', '.join(never)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
