"""Many consumers in one table, on one broker, and what `fleet` says of them.

with Platform(broker, directory) as platform:
    worker = platform.job("paid", ["orders"], ["paid"]).start()
    platform.row("bad", "", "paid")
    code, seen = platform.look()
    assert seen["paid"].state == "idle"
"""

import subprocess
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import insert, make_url

from models import ConsumerConfig, engine, init_db
from tests.integration.workers import Job
from tests.program import program
from tests.services.kafka import KafkaBroker
from tests.services.starts import run_python
from utils.fleet.verdicts import ConsumerSeen
from utils.fleet.watcher import FleetSeen


class Answer(NamedTuple):
    """Of `fleet --json`: its exit code, and by name what it says."""

    code: int
    seen: Mapping[str, ConsumerSeen]


class Platform(ExitStack):
    def __init__(self, broker: KafkaBroker, directory: Path, database_url: str = "") -> None:
        super().__init__()
        self.broker = broker
        self.jobs: dict[str, Job] = {}
        self._directory = directory
        self.database_url = database_url or f"sqlite:///{directory}/platform.db"
        init_db(engine(make_url(self.database_url), create=True))

    def job(
        self,
        name: str,
        topics_input: Iterable[str],
        topics_output: Iterable[str],
        environment: Mapping[str, str] | None = None,
        process: Path | None = None,
    ) -> Job:
        """A row, and a way to start its workers."""
        url, inputs, outputs = self.database_url, tuple(topics_input), tuple(topics_output)
        job = Job(
            self.broker,
            name,
            inputs,
            outputs,
            self._directory,
            database_url=url,
            environment=environment,
            process=process,
        )
        self.jobs[name] = self.enter_context(job)
        return job

    def row(
        self, name: str, topics_input: str, topics_output: str, servers: str = "", metadatas: str | None = None
    ) -> None:
        """As somebody has typed it into the table, valid or not."""
        values = {
            "consumer_name": name,
            "topics_input": topics_input,
            "topics_output": topics_output,
            "kafka_bootstrap_server": servers or self.broker.bootstrap,
            "metadatas": metadatas,
        }
        with engine(make_url(self.database_url)).begin() as connection:
            connection.execute(insert(ConsumerConfig).values(values))

    def fleet(self, *arguments: str, seconds: float = 60) -> "subprocess.CompletedProcess[str]":
        """`python main.py fleet …`, which need not be told which consumer it is."""
        environment = {"DATABASE_URL": self.database_url, "PATH": "/usr/bin:/bin"}
        return run_python(["main.py", "fleet", *arguments], program(), environment, seconds)

    def look(self, *arguments: str) -> Answer:
        done = self.fleet("--json", *arguments)
        assert done.stdout, done.stderr
        seen = msgspec.json.decode(done.stdout, type=FleetSeen)
        return Answer(done.returncode, {each.name: each for each in seen.consumers})
