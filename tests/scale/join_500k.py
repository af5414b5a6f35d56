"""Half a million ids over two topics, on real Kafka: a plain run, a stop in mid-stream, ten kills; then the verdict.

    python -m tests.scale.join_500k --database-url mysql://user:password@host/database

Each part has topics and a consumer of its own. It prints a table, and ends with 1 where anything was lost or half,
where a commit was above an unfinished message, or where a stop took longer than 5 s or did not end with 0.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer

from tests.integration.oracle import Oracle, Verdict
from tests.integration.workers import Job, Outputs, Worker, ends_of, eventually, feed
from tests.program import program
from tests.services.kafka import EnvBroker, JavaBroker, KafkaBroker, unique_name
from tests.services.processes import running

PARTITIONS = 4
PAD = 60  # characters, which make a message of about 200 bytes
LONG = 900.0  # seconds that anything here may take
HELD = 2_000  # ids whose second half comes only after the kills: they keep the committed offsets down


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table."""

    part: str
    verdict: Verdict
    seconds: float
    notes: str
    good: bool

    def __str__(self) -> str:
        found = self.verdict
        faults = f"{len(found.lost):6} {len(found.twice):7} {len(found.half):6} {len(found.overtaken):9}"
        return f"{self.part:20} {found.complete:8} {found.results:9} {faults} {self.seconds:8.1f}  {self.notes}"


HEADER = (
    f"{'part':20} {'ids':>8} {'results':>9} {'lost':>6} {'twice':>7} {'half':>6} {'overtaken':>9} {'seconds':>8}  notes"
)


class Part:
    """Topics, a consumer and a ledger of its own, on the broker of all parts."""

    def __init__(self, name: str, broker: KafkaBroker, directory: Path, database_url: str, **environment: str) -> None:
        self._broker = broker
        topics = [unique_name(f"scale-{each}") for each in ("a", "b", "out")]
        for topic in topics:
            broker.create_topic(topic, PARTITIONS)
        self.job = Job(
            broker,
            unique_name(f"scale-{name}"),
            topics[:2],
            topics[2:],
            directory,
            database_url=database_url,
            environment=environment,
        )
        self.oracle = Oracle(self.job.topics_input)
        self._watcher = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "none", "log_level": 0})

    def feed(self, ids: Sequence[str], *topics: str) -> None:
        began = time.monotonic()
        feed(self._broker, self.oracle, ids, topics, pad=PAD)
        say(f"fed {len(ids)} ids in {time.monotonic() - began:.1f} s")

    def results(self) -> int:
        """How many results are there now: cheaper than to read them, which would take a core from the worker."""
        ends = ends_of(self._watcher, self.job.topics_output, OFFSET_END)
        firsts = ends_of(self._watcher, self.job.topics_output, OFFSET_BEGINNING)
        return sum(ends.values()) - sum(firsts.values())

    def wait_for(self, results: int, worker: Worker) -> None:
        def there() -> bool:
            worker.must_run()
            return self.results() >= results

        eventually(there, f"{results} results", LONG, pause=0.1)

    def wait_for_no_lag(self, worker: Worker) -> None:
        def none() -> bool:
            worker.must_run()
            return self.job.lag() == 0

        eventually(none, "all committed", LONG, pause=0.2)

    def judge(self) -> Verdict:
        commits = self.job.commits()
        outputs = Outputs(self.job, self.oracle)
        self.oracle.forget_results()
        outputs.read_to_the_end(LONG)
        outputs.close()
        return self.oracle.judge(commits)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def ids(number: int, prefix: str = "order-") -> list[str]:
    return [f"{prefix}{each:08d}" for each in range(number)]


def stopped(worker: Worker) -> tuple[int, float]:
    """SIGTERM; the exit code and the seconds to the exit."""
    began = time.monotonic()
    code = worker.stop()
    return code, time.monotonic() - began


def cpu_and_memory(worker: Worker) -> str:
    """What the running worker has used so far."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines())
    return f"CPU {worker.cpu():.1f} s, at most {int(status['VmHWM'].split()[0]) // 1024} MB"


def plain(part: Part, number: int) -> Figures:
    """init, check, run: every id once, none partial."""
    part.feed(ids(number))
    command_line(part.job, "init", *row_options(part.job))
    command_line(part.job, "check")
    worker = part.job.start()
    worker.is_assigned()
    began = time.monotonic()
    part.wait_for(number, worker)
    seconds = time.monotonic() - began
    used = cpu_and_memory(worker)
    code, to_exit = stopped(worker)
    verdict = part.judge()
    notes = f"{2 * number / seconds:,.0f} messages/s, {used}, exit {code} in {to_exit:.1f} s, lag {part.job.lag()}"
    return Figures("plain run", verdict, seconds, notes, code == 0 and to_exit < 5 and not verdict.twice)


def stop_in_mid_stream(part: Part, number: int) -> Figures:
    part.feed(ids(number))
    began = time.monotonic()
    worker = part.job.start()
    part.wait_for(number // 3, worker)
    code, to_exit = stopped(worker)
    between = part.judge()
    worker = part.job.start()
    part.wait_for(number, worker)
    seconds = time.monotonic() - began
    last_code, _ = stopped(worker)
    verdict = part.judge()
    mid_stream = 0 < between.results < number
    notes = f"stopped at {between.results}: exit {code} in {to_exit:.1f} s"
    notes += "" if mid_stream else " (NOT IN MID-STREAM: take more ids)"
    good = code == last_code == 0 and to_exit < 5 and mid_stream and not (between.half or between.overtaken)
    return Figures("SIGTERM, second run", verdict, seconds, notes, good and not verdict.twice)


def ten_kills(part: Part, number: int, seed: int) -> Figures:
    """Four in mid-stream, two within 200 ms of an assignment, two pairs of which the second comes in a replay."""
    chance = random.Random(seed)
    a, b = part.job.topics_input
    held = ids(HELD, "held-")
    part.feed(held, a)
    began = time.monotonic()
    kinds = ["mid-stream"] * 4 + ["assignment"] * 2 + ["mid-stream", "replay"] * 2
    portion = number // kinds.count("mid-stream")
    portions = iter(range(kinds.count("mid-stream")))
    half = overtaken = missed = 0
    replays = []
    for kill, kind in enumerate(kinds, start=1):
        before = part.results()
        if kind == "mid-stream":
            part.feed(ids(portion, f"{next(portions)}-"))
        worker = part.job.start()
        worker.is_assigned(pause=0.001)
        if kind == "mid-stream":
            part.wait_for(before + portion // 4, worker)
        time.sleep(chance.uniform(0, 0.2))
        worker.kill()
        between = part.judge()
        half += len(between.half)
        overtaken += len(between.overtaken)
        missed += kind == "mid-stream" and not between.lost
        replays.append(sum(commit.end - commit.offset for commit in part.job.commits().values()))
        to_come = f"{len(between.lost)} to come, {replays[-1]} offsets to replay"
        say(f"kill {kill} ({kind}): {between.results} results, {to_come}, {faults(between)}")
    part.feed(held, b)
    worker = part.job.start()
    part.wait_for_no_lag(worker)
    counted = stopped(worker)
    verdict = part.judge()
    seconds = time.monotonic() - began
    notes = (
        f"{len(kinds)} kills, {overtaken} overtaken and {half} half in between, longest replay {max(replays)} offsets"
    )
    notes += f" ({missed} NOT IN MID-STREAM: take more ids)" if missed else ""
    return Figures("ten kill -9", verdict, seconds, notes, counted[0] == 0 and not (half or overtaken))


def faults(verdict: Verdict) -> str:
    return f"{len(verdict.half)} half, {len(verdict.overtaken)} overtaken"


def row_options(job: Job) -> list[str]:
    topics = ["--topics-input", ",".join(job.topics_input), "--topics-output", ",".join(job.topics_output)]
    return [*topics, "--kafka-bootstrap-server", job.broker.bootstrap]


def command_line(job: Job, *arguments: str) -> None:
    """`python main.py init` or `check`, as a user types it."""
    command = [sys.executable, "main.py", *arguments]
    done = subprocess.run(command, cwd=program(), env=job.whole_environment(), capture_output=True, text=True)
    say(f"main.py {arguments[0]}: exit {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    if done.returncode:
        raise SystemExit(done.returncode)


@contextmanager
def a_broker(bootstrap: str, properties: Mapping[str, str] | None = None) -> Iterator[KafkaBroker]:
    """The one at this address, of which the topics are deleted in the end, or where that is empty one of its own, with
    these properties.
    """
    if bootstrap:
        os.environ["KAFKA_BOOTSTRAP_SERVERS"] = bootstrap
    with running(EnvBroker() if bootstrap else JavaBroker(properties, measured=True)) as broker:
        yield broker


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.join_500k", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--database-url", default="", help="an empty database for the rows; default: SQLite")
    parser.add_argument("--ids", type=int, default=500_000)
    parser.add_argument("--session-timeout-ms", default="10000", help="how long a killed worker is missed")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="at_least_once")
    parser.add_argument("--parts", nargs="*", default=["plain", "stop", "kills"], choices=["plain", "stop", "kills"])
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.ids} ids, {2 * options.ids} messages, {options.delivery}", flush=True)
    run: dict[str, Callable[[Part], Figures]] = {
        "plain": lambda part: plain(part, options.ids),
        "stop": lambda part: stop_in_mid_stream(part, options.ids),
        "kills": lambda part: ten_kills(part, options.ids, options.seed),
    }
    environment = {
        "DELIVERY": options.delivery,
        "KAFKA_SESSION_TIMEOUT_MS": options.session_timeout_ms,
        "MESSAGE_TIMEOUT": "3600",
    }
    lines = []
    with tempfile.TemporaryDirectory(prefix="join-") as directory, a_broker(options.bootstrap) as broker:
        for name in options.parts:
            part = Part(name, broker, Path(directory), options.database_url, **environment)
            with part.job:
                figures = run[name](part)
            say(f"{figures.part}: {figures.verdict}")
            lines.append(figures)
    print(HEADER)
    for figures in lines:
        print(figures)
    once = options.delivery == "exactly_once"
    return int(any(not line.good or faulty(line.verdict, once) for line in lines))


def faulty(verdict: Verdict, once: bool) -> bool:
    return bool(verdict.lost or verdict.half or verdict.overtaken or (once and verdict.twice))


if __name__ == "__main__":
    sys.exit(main())
