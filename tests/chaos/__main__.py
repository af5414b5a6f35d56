"""`python -m tests.chaos --minutes 20`: every fault against real Kafka, and a table of what it did.

The broker is that of KAFKA_BOOTSTRAP_SERVERS, one in Docker, or one started with Java, the only one that is stopped.
Each fault has topics, a consumer and a ledger of its own, and an equal share of the time, in each of the modes. Ends
with 1 where anything was lost, half, twice (exactly once), committed too early, where a transaction stayed open, or
where a worker ended by itself.
"""

import argparse
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import acts
from tests.chaos.cluster_faults import CLUSTER_FAULTS
from tests.chaos.cluster_stage import CLUSTER_RATE, CLUSTER_SESSION
from tests.chaos.faults import FAULTS
from tests.chaos.rounds import HEADER, play
from tests.chaos.stage import RATE, SESSION
from tests.services.cluster import KafkaCluster
from tests.services.kafka import real_broker
from tests.services.processes import running

MODES = ["exactly_once", "at_least_once"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=20, help="in all; a fault that takes longer is seen through")
    parser.add_argument("--mode", choices=["", *MODES], default="", help="default: both")
    parser.add_argument("--fault", default="", help="only those with this in their name")
    parser.add_argument("--most", type=int, default=1_000_000, help="times that a fault is played")
    parser.add_argument("--rate", type=float, default=RATE, help="ids a second; each is two messages")
    parser.add_argument("--messages", type=int, default=0, help="feed as many, and play the fault until they are fed")
    parser.add_argument("--pause", type=float, default=3, help="seconds between random faults, on an average")
    parser.add_argument("--session", type=float, help="seconds that a killed worker is missed: 3, with 3 brokers 5")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--keep", type=Path, help="a directory for the workers' logs; default: they are not kept")
    parser.add_argument("--brokers", type=int, choices=[1, 3], default=1, help="3: a cluster, with faults of its own")
    parser.add_argument("--act", type=float, default=300, help="3 brokers: seconds of faults on one set of topics")
    options = parser.parse_args()
    return on_a_cluster(options) if options.brokers == 3 else on_one_broker(options)


def on_a_cluster(options: argparse.Namespace) -> int:
    """Acts of both modes in turn, with dynamic and with static members; each on new brokers."""
    session = options.session or CLUSTER_SESSION
    modes = [mode for mode in MODES if options.mode in {"", mode}]
    ways = itertools.cycle((mode, is_static) for is_static in (False, True) for mode in modes)
    chance = random.Random(options.seed)
    until = time.monotonic() + options.minutes * 60
    print(f"seed {options.seed}", flush=True)
    played: list[acts.Act] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        while (left := until - time.monotonic()) > 0:
            mode, is_static = next(ways)
            faults = [each for each in CLUSTER_FAULTS if options.fault in each.name and each.only in {"", mode}]
            directory = (options.keep or Path(temporary)) / str(len(played))
            directory.mkdir(parents=True)
            pace = {"rate": min(options.rate, CLUSTER_RATE), "pause": options.pause, "session": session}
            seconds = min(options.act, left)
            with running(KafkaCluster()) as cluster:
                act = acts.play(
                    faults, cluster, mode, directory, chance, seconds, options.most, is_static=is_static, **pace
                )
            played.append(act)
            print("\n    ".join([str(act), *act.problems]), flush=True)
    print("\n".join(acts.table(played, modes)))
    return int(any(act.problems for act in played))


def on_one_broker(options: argparse.Namespace) -> int:
    rounds = [
        (fault, mode)
        for mode in MODES
        for fault in FAULTS
        if options.fault in fault.name and fault.only in {"", mode} and options.mode in {"", mode}
    ]
    seconds = options.minutes * 60 / len(rounds)
    print(f"seed {options.seed}, {len(rounds)} rounds of {seconds:.0f} s")
    print(HEADER, flush=True)
    bad = 0
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary, real_broker() as broker:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        for fault, mode in rounds:
            if fault.stops_broker and broker.kind != "java":
                print(f"{fault.name:38} left out: this broker is not ours to stop")
                continue
            chance = random.Random(f"{options.seed} {fault.name}")
            pace = {"rate": options.rate, "pause": options.pause, "session": options.session or SESSION}
            feed = {"most_messages": options.messages} if options.messages else {}
            line = play(
                fault, broker, mode, directory, chance, seconds, options.most, options.messages > 0, **pace, **feed
            )
            print(line, flush=True)
            for problem in line.problems:
                print(f"    {problem}", flush=True)
            bad += bool(line.problems)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
