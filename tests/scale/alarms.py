"""Every alert, seen firing: Prometheus scrapes a worker with the fault of each, on real Kafka, by the rules as shipped.

    python -m tests.scale.alarms
    python -m tests.scale.alarms ConsumerStuck ConsumerStalled

It takes about forty minutes (ConsumerLagGrowing; the others at most twenty), prints a table of when each fault was
there and when its alert fired, and ends with 1 where one did not, or fired before its fault.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.alarms import FAULTS, Stage
from tests.integration.workers import Worker
from tests.scale.join_500k import a_broker, say
from tests.services.processes import HOST, ServerProcess, answers, free_port, running
from tests.test_alerts import PROMETHEUS

SCRAPE = 5  # seconds
WELL = 40.0  # seconds for which all is scraped as long as all is well
OPEN = 3_600_000  # ms that a transaction may be open; by itself Kafka aborts it in the minute in which its alert fires
TURN = 5.0  # seconds between two turns that keep the faults up


@dataclass
class Scene:
    """A fault, and what was seen of it."""

    stage: Stage
    fault: Iterator[Worker]
    workers: dict[int, Worker] = field(default_factory=dict)  # all that were seen, by pid
    began: float = 0.0
    fired: float | None = None  # seconds after the fault was there
    early: bool = False

    def turn(self) -> None:
        worker = next(self.fault)
        self.workers[worker.pid] = worker

    @property
    def consumer(self) -> str:
        return self.stage.job.name


class Prometheus:
    """A server of its own, told of the workers by a file."""

    def __init__(self, directory: Path) -> None:
        self._targets = directory / "targets.json"
        self._targets.write_text("[]")
        rules = directory / "alerts.yml"
        shutil.copy(PROMETHEUS / "alerts.yml", rules)
        every = f"{SCRAPE}s"
        job = {
            "job_name": "consumers",
            "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
        }
        whole = {
            "global": {"scrape_interval": every, "evaluation_interval": every},
            "rule_files": [str(rules)],
            "scrape_configs": [job],
        }
        config = directory / "prometheus.yml"
        config.write_text(json.dumps(whole))
        self._port = free_port()
        options = [f"--config.file={config}", f"--storage.tsdb.path={directory}/tsdb"]
        self._process = ServerProcess(
            ["prometheus", *options, f"--web.listen-address={HOST}:{self._port}"],
            ready=lambda: answers(self._port),
            log=directory / "prometheus.log",
        )

    def start(self) -> None:
        self._process.start()

    def stop(self) -> None:
        self._process.stop()

    def scrape(self, workers: Mapping[str, Iterable[Worker]]) -> None:
        """From now on these, each with the name of its scene as a label."""
        groups = [
            {"targets": [worker.address.removeprefix("http://")], "labels": {"scene": scene}}
            for scene, all_of_it in workers.items()
            for worker in all_of_it
        ]
        partial = self._targets.with_suffix(".new")
        partial.write_text(json.dumps(groups))
        partial.rename(self._targets)

    def firing(self) -> list[dict[str, Any]]:
        """The labels of the alerts that fire now."""
        with urllib.request.urlopen(f"http://{HOST}:{self._port}/api/v1/alerts", timeout=30) as answer:
            found = json.load(answer)["data"]["alerts"]
        return [each["labels"] for each in found if each["state"] == "firing"]


def run(prometheus: Prometheus, scenes: list[Scene], seconds: float) -> int:
    for scene in scenes:
        scene.turn()
    prometheus.scrape(workers_of(scenes))
    say(f"{len(scenes)} workers without a fault, for {WELL:g} s")
    time.sleep(WELL)
    for labels in prometheus.firing():
        for scene in scenes:
            scene.early |= is_of(labels, scene)
    for scene in scenes:
        scene.began = time.monotonic()
        scene.turn()
    prometheus.scrape(workers_of(scenes))
    say("the faults are there")
    others: set[tuple[str, str]] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(scene.fired is None for scene in scenes):
        time.sleep(TURN)
        for scene in scenes:
            if scene.fired is None:
                scene.turn()
        prometheus.scrape(workers_of(scenes))  # a fault may end one and begin another
        for labels in prometheus.firing():
            for scene in scenes:
                if is_of(labels, scene) and scene.fired is None:
                    scene.fired = time.monotonic() - scene.began
                    say(f"{scene.stage.alert} fires after {scene.fired:.0f} s")
            others.add((labels["alertname"], labels.get("scene") or consumer_of(labels, scenes)))
    return report(scenes, others)


def workers_of(scenes: list[Scene]) -> dict[str, list[Worker]]:
    return {scene.stage.alert: list(scene.workers.values()) for scene in scenes}


def is_of(labels: dict[str, str], scene: Scene) -> bool:
    """Whether this alert is the one that the scene is for."""
    mine = labels.get("scene") == scene.stage.alert or labels.get("consumer") == scene.consumer
    return mine and labels["alertname"] == scene.stage.alert


def consumer_of(labels: dict[str, str], scenes: list[Scene]) -> str:
    return next((scene.stage.alert for scene in scenes if scene.consumer == labels.get("consumer")), "?")


def report(scenes: list[Scene], seen: set[tuple[str, str]]) -> int:
    print(f"{'alert':30} {'fired after':>12}  brought about by; other alerts in the same scene")
    for scene in scenes:
        name = scene.stage.alert
        others = sorted(alert for alert, of in seen if of == name and alert != name)
        when = f"{scene.fired:.0f} s" if scene.fired is not None else "never"
        what = FAULTS[name].__name__.replace("_", " ")
        print(f"{name:30} {when:>12}  {what}{' (fired before!)' if scene.early else ''}; {', '.join(others) or 'none'}")
    return int(any(scene.fired is None or scene.early for scene in scenes))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.alarms", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("alerts", nargs="*", metavar="ALERT", help="those to be seen; without one: all")
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--minutes", type=float, default=45, help="how long to wait for them")
    options = parser.parse_args()
    with (
        a_broker(options.bootstrap, {"transaction.max.timeout.ms": str(OPEN)}) as broker,
        tempfile.TemporaryDirectory(prefix="alarms-") as name,
        ExitStack() as stack,
    ):
        directory = Path(name)
        prometheus = Prometheus(directory)
        stack.enter_context(running(prometheus))
        scenes = []
        for alert in options.alerts or FAULTS:
            stage = Stage(alert, broker, directory, stack)
            stage.transaction_ms = stage.transaction_ms if options.bootstrap else OPEN
            scenes.append(Scene(stage, FAULTS[alert](stage)))
        return run(prometheus, scenes, options.minutes * 60)


if __name__ == "__main__":
    sys.exit(main())
