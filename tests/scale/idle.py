"""A worker with nothing to do, in a memory cgroup as a container has it, with its row in MySQL (issue 3, line 5).

    python -m tests.scale.idle
    python -m tests.scale.idle --limit 0 --delivery exactly_once

It is started under a hard limit, by which the kernel would end it, with an empty page cache, so that all that it reads
is charged to it. Then it idles, then joins some messages. It prints the memory that `docker stats` and Kubernetes show
(the cgroup's, less file pages that the kernel may drop at once), the resident size of the process, which counts shared
libraries too, its CPU, and how soon it had its partitions; and ends with 1 where a result is missing or one of them is
above what the issue allows. Linux, as root.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.oracle import Oracle
from tests.integration.workers import Job, Outputs, Worker, feed
from tests.scale.join_500k import a_broker
from tests.services.databases import mysql_server, scratch_database
from tests.services.kafka import KafkaBroker, unique_name

PARTITIONS = 4
SETTLED = 5.0  # seconds
MB = 1_000_000
MOST_MEMORY, MOST_CPU, MOST_SECONDS = 64 * MB, 1.0, 3.0  # bytes, percent of a core, until it has its partitions
JOIN_CGROUP = "import os, sys; open(sys.argv[1], 'w').write(str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"


class Cgroup:
    """One of its own for memory, of version 1 or 2, whichever is mounted."""

    def __init__(self, limit: int) -> None:
        root = Path("/sys/fs/cgroup")
        self._is_old = (root / "memory").is_dir()
        self._directory = (root / "memory" if self._is_old else root) / unique_name("idle-worker")
        self._directory.mkdir()
        self.processes = self._directory / "cgroup.procs"
        if limit:
            (self._directory / ("memory.limit_in_bytes" if self._is_old else "memory.max")).write_text(str(limit))

    def used(self) -> int:
        """Bytes, as `docker stats` shows them (docs.docker.com/reference/cli/docker/container/stats)."""
        usage = (self._directory / ("memory.usage_in_bytes" if self._is_old else "memory.current")).read_text()
        lines = (self._directory / "memory.stat").read_text().splitlines()
        counts = dict(line.split() for line in lines)
        return int(usage) - int(counts["total_inactive_file" if self._is_old else "inactive_file"])

    def remove(self) -> None:
        self._directory.rmdir()


@contextmanager
def cgroup(limit: int) -> Iterator[Cgroup]:
    created = Cgroup(limit)
    try:
        yield created
    finally:
        created.remove()


def run(broker: KafkaBroker, database_url: str, limits: Cgroup, directory: Path, options: argparse.Namespace) -> int:
    a, b, out = (unique_name(f"idle-{each}") for each in ("a", "b", "out"))
    for topic in (a, b, out):
        broker.create_topic(topic, PARTITIONS)
    oracle = Oracle((a, b))
    job = Job(broker, unique_name("idle"), (a, b), (out,), directory, database_url=database_url)
    Path("/proc/sys/vm/drop_caches").write_text("3")
    with job:
        words = ("-c", JOIN_CGROUP, str(limits.processes), sys.executable, "main.py")
        worker = job.start(main=words, DELIVERY=options.delivery)
        worker.is_assigned()
        assigned = time.monotonic() - worker.started
        time.sleep(SETTLED)
        cpu = cpu_of(worker, options.seconds)
        used, resident = limits.used(), resident_of(worker)
        outputs = Outputs(job, oracle)
        feed(broker, oracle, [f"idle-{number}" for number in range(1000)])
        outputs.wait(lambda: not oracle.missing(), worker)
        outputs.close()
        code = worker.stop()
    limit = f"limit {options.limit / MB:g} MB" if options.limit else "no limit"
    print(
        f"{options.delivery}, {limit}: idle {used / MB:.1f} MB as docker stats shows it, "
        f"{resident / MB:.1f} MB resident; CPU {cpu:.2f} % of a core; "
        f"partitions after {assigned:.2f} s; {oracle.judge()}; exit code {code}"
    )
    oracle.judge().require(once=True)  # there was no crash
    return int(bool(code) or used > MOST_MEMORY or cpu > MOST_CPU or assigned > MOST_SECONDS)


def cpu_of(worker: Worker, seconds: float) -> float:
    """In percent of a core, over so long."""
    began, before = time.monotonic(), worker.cpu()
    time.sleep(seconds)
    return (worker.cpu() - before) / (time.monotonic() - began) * 100


def resident_of(worker: Worker) -> int:
    return int(Path(f"/proc/{worker.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.idle", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--limit", type=int, default=MOST_MEMORY, help="of the cgroup, bytes; 0: none")
    parser.add_argument("--seconds", type=float, default=15.0, help="for which its CPU is measured")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="at_least_once")
    options = parser.parse_args()
    with (
        a_broker(options.bootstrap) as broker,
        mysql_server() as database,
        scratch_database(database) as url,
        tempfile.TemporaryDirectory(prefix="idle-") as directory,
        cgroup(options.limit) as limits,
    ):
        return run(broker, url, limits, Path(directory), options)


if __name__ == "__main__":
    sys.exit(main())
