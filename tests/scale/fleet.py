"""`fleet` and its page on a platform of forty consumers in chains, to most of which something was done; and 500 rows.

    python -m tests.scale.fleet
    python -m tests.scale.fleet --rows 500 --only-rows

Real workers on one real broker: some are killed, frozen, paused, behind, wait for mates, have dead letters; some rows
are no good, name a topic or a cluster that is not there, or were never started. It prints what was done to each, what
`fleet` said, and the colour on the page, and ends with 1 where one is wrong. Times are printed and not judged: they are
those of this machine as it is.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, TopicPartition
from sqlalchemy import make_url

from config import Settings
from models import engine
from tests.integration.platform import Platform
from tests.integration.workers import Worker, eventually, feeder
from tests.services.kafka import JavaBroker, KafkaBroker, unique_name
from tests.services.processes import free_port, running
from utils.fleet.pages import page
from utils.fleet.verdicts import READS_AT_LEAST_EVERY, ConsumerSeen
from utils.fleet.watcher import FleetSeen, Watcher

PROCESS = Path(__file__).parents[1] / "integration" / "process_for_tests.py"
CHAINS, STEPS = 8, 5
BACKLOG = 15_000
AT_ONCE = 6  # workers that start at the same time
PARTITIONS = 2
LONG = 600.0  # seconds that anything here may take

PATIENT = {"KAFKA_SESSION_TIMEOUT_MS": "300000"}  # what is frozen stays a member
SHORT = {"KAFKA_SESSION_TIMEOUT_MS": "6000", "KAFKA_HEARTBEAT_INTERVAL_MS": "1000"}
COMMON = {"CONFIG_REFRESH": "1", "MESSAGE_TIMEOUT": "3600", "RETRY_BACKOFF": "0.05", "PROCESS_ATTEMPTS": "1"}
SLOW = {"PROCESS_SECONDS": "0.02"}
ODD = {"PROCESS_ODD": "1"}


@dataclass(frozen=True, slots=True)
class Done:
    """What is done to some consumers, and what is to be seen of them."""

    what: str
    level: str
    states: tuple[str, ...]
    number: int
    environment: dict[str, str]
    runs: bool = True


DEEDS = (
    Done("killed", "bad", ("nobody there",), 3, SHORT),
    Done("frozen", "bad", ("standing still",), 3, PATIENT),
    Done("paused", "warning", ("paused",), 3, {}),
    Done("behind", "warning", ("behind",), 3, SLOW),
    Done("waiting for mates", "ok", ("idle", "working"), 3, {}),
    Done("dead letters", "warning", ("idle", "working"), 3, ODD),
    Done("a bad row", "bad", ("row no good",), 2, {}, runs=False),
    Done("a topic that is missing", "bad", ("row no good",), 2, {}, runs=False),
    Done("never started", "bad", ("no commit",), 2, {}, runs=False),
    Done("a cluster that is away", "bad", ("not seen",), 2, {}, runs=False),
)
WELL = Done("nothing", "ok", ("idle", "working"), 0, {})


def deeds(rows: int) -> list[Done]:
    """For each row, spread over the chains."""
    some = [each for each in DEEDS for _ in range(each.number)]
    every = some + [WELL] * (rows - len(some))
    return [every[at * 7 % rows] for at in range(rows)]  # 7 and 40 have no divisor in common


def feed(broker: KafkaBroker, topic: str, ids: Sequence[str]) -> None:
    producer = feeder(broker)
    for id in ids:
        producer.produce(topic, msgspec.json.encode({"id": id, "content": {topic: id}}), id)
    assert producer.flush(LONG) == 0


@contextmanager
def silent_cluster() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def build(platform: Platform, broker: KafkaBroker, silent: str) -> dict[str, tuple[Done, Worker | None]]:
    """Forty rows, and what is done to them, in the end. By name: what was done, and its worker."""
    made: dict[str, tuple[Done, Worker | None]] = {}
    inputs: dict[str, tuple[str, ...]] = {}
    base = unique_name("p")
    for chain in range(CHAINS):
        for step in range(STEPS + 1):
            broker.create_topic(f"{base}-{chain}-{step}", PARTITIONS)
    for at, done in enumerate(deeds(CHAINS * STEPS)):
        chain, step = divmod(at, STEPS)
        name, topic, out = f"c{chain}-{step}", f"{base}-{chain}-{step}", f"{base}-{chain}-{step + 1}"
        inputs[name] = (topic,)
        if done.what == "waiting for mates":
            broker.create_topic(mates := f"{base}-mates-{at}", PARTITIONS)
            inputs[name] = (topic, mates)
        if done.what == "a bad row":
            platform.row(name, *(("", out) if at % 2 else (topic, out)), metadatas=None if at % 2 else "{no json")
        elif done.what == "a topic that is missing":
            platform.row(name, *((f"{topic}-none", out) if at % 2 else (topic, f"{out}-none")))
        elif done.what == "a cluster that is away":
            platform.row(name, topic, out, silent if at % 2 else f"127.0.0.1:{free_port()}")
        else:
            process = PROCESS if done.environment in (SLOW, ODD) else None
            platform.job(name, inputs[name], [out], {**COMMON, **done.environment}, process)
        made[name] = done, None
    starting: list[str] = []
    for name, (done, _) in made.items():
        if done.runs:
            made[name] = done, platform.jobs[name].start()
            starting.append(name)
        if len(starting) == AT_ONCE:
            say(f"{name} starts")
            _assigned(made, starting)
    _assigned(made, starting)
    for name, topics in inputs.items():
        what = made[name][0].what
        if what == "dead letters":
            feed(broker, topics[0], [f"fail-{number}" for number in range(4)])
        elif what == "waiting for mates":
            feed(broker, topics[0], [f"alone-{name}-{number}" for number in range(9)])
        elif what == "never started":
            feed(broker, topics[0], [f"never-{number}" for number in range(5)])
        elif what == "nothing":
            feed(broker, topics[0], [f"well-{name}-{number}" for number in range(20)])
    running_jobs = [
        platform.jobs[name] for name, (done, _) in made.items() if done.what in {"nothing", "frozen", "killed"}
    ]
    eventually(lambda: not any(job.lag() for job in running_jobs), "all committed", LONG, pause=1)
    assert platform.fleet("pause", *(name for name, (done, _) in made.items() if done.what == "paused")).returncode == 0
    for done, worker in made.values():
        if worker and done.what == "killed":
            worker.kill()
        elif worker and done.what == "frozen":
            os.kill(worker.pid, signal.SIGSTOP)
        elif worker and done.what == "paused":
            worker.says("paused by the row", seconds=LONG)
    for name, topics in inputs.items():
        if made[name][0].what in {"frozen", "paused", "killed"}:
            feed(broker, topics[0], [f"late-{number}" for number in range(30)])
        elif made[name][0].what == "behind":
            feed(broker, topics[0], [f"much-{number}" for number in range(BACKLOG)])
    say("everything is done; what is frozen must be so for a while")
    time.sleep(READS_AT_LEAST_EVERY + 2)
    return made


def _assigned(made: dict[str, tuple[Done, Worker | None]], names: list[str]) -> None:
    for name in names:
        if worker := made[name][1]:
            worker.says("partitions assigned", seconds=LONG, pause=0.2)
    names.clear()


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def judge(platform: Platform, made: dict[str, tuple[Done, Worker | None]], directory: Path) -> bool:
    file = directory / "fleet.html"
    answer, took = _timed(platform, "--json", "--html", str(file))
    seen = {each.name: each for each in msgspec.json.decode(answer.stdout, type=FleetSeen).consumers}
    colours = {name: level for level, name in re.findall(r'class="(\w+)" aria-label="([^:"]*):', file.read_text())}
    good = answer.returncode == 1
    print(f"{'consumer':10} {'done':26} {'seen':16} {'colour':8} what fleet says")
    for name, (done, _) in sorted(made.items()):
        each = seen[name]
        right = each.state in done.states and each.level == done.level == colours[name] and _has_numbers(done, each)
        good = good and right
        note = "" if right else "WRONG: "
        print(f"{name:10} {done.what:26} {each.state:16} {colours[name]:8} {note}{each.sentence[:150]}")
    verdict = "all right" if good else "NOT ALL RIGHT"
    print(f"{len(made)} rows in {took}, exit code {answer.returncode}: {verdict}")
    return good


def _timed(platform: Platform, *arguments: str) -> "tuple[subprocess.CompletedProcess[str], str]":
    """What `fleet` answers, and its seconds: by the clock, and of a processor."""
    before, began = os.times(), time.monotonic()
    answer = platform.fleet(*arguments, seconds=LONG)
    took, after = time.monotonic() - began, os.times()
    used = sum(after[2:4]) - sum(before[2:4])
    return answer, f"{took:.1f} s ({used:.1f} s of a processor, load {os.getloadavg()[0]:.0f})"


def _has_numbers(done: Done, each: ConsumerSeen) -> bool:
    match done.what:
        case "waiting for mates":
            return (each.unfinished or 0) >= 9 and each.waits  # and what came through the chain
        case "dead letters":
            return each.letters is not None and each.letters.count == 4
        case "killed" | "frozen" | "paused":
            return (each.unread or 0) >= 30
        case "behind":
            return (each.unread or 0) > 1_000
    return True


def many_rows(platform: Platform, broker: KafkaBroker, rows: int) -> None:
    """So many rows without workers, each with a commit: how long a look takes, and whether memory stays as it is."""
    base = unique_name("many")
    for number in range(rows + 1):
        broker.create_topic(f"{base}-{number}", 4)
    for number in range(rows):
        platform.row(f"{base}-{number}", f"{base}-{number}", f"{base}-{number + 1}")
        group = {"bootstrap.servers": broker.bootstrap, "group.id": f"{base}-{number}", "enable.auto.commit": False}
        consumer = Consumer(group)
        consumer.commit(offsets=[TopicPartition(f"{base}-{number}", each, 0) for each in range(4)], asynchronous=False)
        consumer.close()
    say(f"{rows} rows are there")
    answer, took = _timed(platform, "--json")
    seen = msgspec.json.decode(answer.stdout, type=FleetSeen).consumers
    unseen = sum(each.state == "not seen" for each in seen)
    print(f"{len(seen)} rows in {took}, of which {unseen} were not seen")
    watcher = Watcher(Settings(), engine(make_url(platform.database_url)), (), 10.0, 0.0)
    sizes, times = [], []
    for _ in range(12):
        began = time.monotonic()
        page(watcher.see())
        times.append(time.monotonic() - began)
        sizes.append(_megabytes())
    watcher.close()
    listed = ", ".join(f"{size:.0f}" for size in sizes)
    print(f"one look and its page: {sorted(times[1:])[len(times) // 2]:.1f} s; memory after each, MB: {listed}")


def _megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.fleet", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=500, help="of the second part; 0: without it")
    parser.add_argument("--only-rows", action="store_true", help="only the second part")
    parser.add_argument("--keep", type=Path, default=None, help="where the page is kept")
    options = parser.parse_args()
    good = True
    with running(JavaBroker(heap="768m")) as broker, tempfile.TemporaryDirectory(prefix="fleet-") as name:
        directory = Path(name)
        if not options.only_rows:
            with silent_cluster() as silent, Platform(broker, directory) as platform:
                made = build(platform, broker, silent)
                good = judge(platform, made, options.keep or directory)
        if options.rows:
            (directory / "rows").mkdir()
            with Platform(broker, directory / "rows") as platform:
                many_rows(platform, broker, options.rows)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
