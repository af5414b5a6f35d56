"""A scene for each test: topics of its own, a consumer with its row, a ledger, and a reader of the outputs."""

import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.conftest import Topics
from tests.integration.oracle import Oracle
from tests.integration.workers import Job, Outputs, Worker, feed, feed_raw, short_session
from tests.services.kafka import JavaBroker, KafkaBroker, unique_name
from tests.services.processes import running

PROCESS = Path(__file__).with_name("process_for_tests.py")
UNHURRIED = {"SHUTDOWN_TIMEOUT": "15"}  # on a busy machine the last commit may take longer than the 4 s of the default


@dataclass
class Scene:
    broker: KafkaBroker
    job: Job
    oracle: Oracle
    outputs: Outputs

    def feed(self, ids: Iterable[str], *topics: str, partition: int | None = None) -> None:
        feed(self.broker, self.oracle, ids, topics, partition=partition)

    def feed_raw(self, topic: str, *values: bytes | None) -> None:
        feed_raw(self.broker, self.oracle, topic, values)

    def feed_old(self, ids: Iterable[str], topic: str, *, age: float) -> None:
        """Send messages whose timestamp is that many seconds ago."""
        feed(self.broker, self.oracle, ids, [topic], timestamp=int((time.time() - age) * 1000))

    def with_topics(self, topics_input: Iterable[str], topics_output: Iterable[str]) -> "Scene":
        """The same consumer after somebody has changed its row; with a new ledger."""
        self.job.write_row(topics_input, topics_output)
        self.outputs.close()
        oracle = Oracle(self.job.topics_input)
        return Scene(self.broker, self.job, oracle, Outputs(self.job, oracle))

    def wait_for_all(self, *workers: Worker) -> None:
        """Until every complete id has a result."""
        self.outputs.wait(lambda: not self.oracle.missing(), *workers)

    def wait_for_kept(self, *workers: Worker) -> None:
        """Until every complete id but those that begin with `deleted` has a result."""
        self.outputs.wait(lambda: all(id.startswith("deleted") for id in self.oracle.missing()), *workers)

    def wait_for(self, results: int, *workers: Worker) -> None:
        self.outputs.wait(lambda: sum(self.oracle.results.values()) >= results, *workers)

    def judge_so_far(self) -> None:
        """While there is more to come: nothing half yet, and no commit above an unfinished fragment."""
        commits = self.job.commits()
        self.outputs.read_to_the_end()
        verdict = self.oracle.judge(commits)
        faults = verdict.half or verdict.overtaken
        assert not faults, str(verdict)

    def judge(self, *, once: bool = False, given_up: Iterable[str] = ()) -> None:
        """Commits first, then the results up to their end: see Oracle.judge."""
        commits = self.job.commits()
        self.outputs.read_to_the_end()
        self.oracle.judge(commits, set(given_up)).require(once=once)


class Scenes(Protocol):
    def __call__(
        self,
        broker: KafkaBroker,
        inputs: int = 2,
        *,
        partitions: int = 4,
        slow_process: bool = False,
        process: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Scene:
        """Topics and a row; `slow_process`: process_for_tests.py is its worker.py, or `process` is."""


@pytest.fixture
def own_broker(real_kafka: KafkaBroker) -> Iterator[JavaBroker]:
    """A broker that only this test uses, and may therefore stop."""
    if shutil.which("java") is None:
        pytest.skip("only a broker started with Java can be restarted")
    with running(JavaBroker()) as broker:
        yield broker


@pytest.fixture
def scenes(topics: Topics, tmp_path: Path) -> Iterator[Scenes]:
    with ExitStack() as stack:

        def make(
            broker: KafkaBroker,
            inputs: int = 2,
            *,
            partitions: int = 4,
            slow_process: bool = False,
            process: Path | None = None,
            environment: Mapping[str, str] | None = None,
        ) -> Scene:
            created = topics(broker, *"abcde"[:inputs], "out", partitions=partitions)
            job = Job(
                broker,
                unique_name("job"),
                created[:inputs],
                created[inputs:],
                tmp_path,
                process=PROCESS if slow_process else process,
                environment={**short_session(broker), **UNHURRIED, "RETRY_BACKOFF": "0.05", **(environment or {})},
            )
            stack.enter_context(job)
            oracle = Oracle(job.topics_input)
            outputs = Outputs(job, oracle)
            stack.callback(outputs.close)
            return Scene(broker, job, oracle, outputs)

        yield make
