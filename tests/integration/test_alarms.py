"""Alerts fire for their faults in a real worker on real Kafka: promtool evaluates the rules over what it exports.

Time is stretched, so that no test waits for the minutes of a rule: what the worker exports at a moment counts as all
that Prometheus scraped for HELD minutes. `python -m tests.scale.alarms` is the same with Prometheus itself, and
in its time.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.alarms import FAULTS, Stage
from tests.services.kafka import KafkaBroker
from tests.test_alerts import PROMETHEUS, alerts, promtool

HELD = 20  # minutes
SOON_SEEN = [  # those whose fault is no everyday one
    "ConsumerRestarting",
    "ConsumerRebalancing",
    "ConsumerStalled",
    "ConsumerPartitionStalled",
    "ConsumerNotCommitting",
    "ConsumerMapMissing",
    "ConsumerCircuitOpen",
    "ConsumerMessagesDeletedUnread",
]

START = "consumer_start_time_seconds{"
Series = dict[str, float]  # by name and labels, as PromQL writes them


@pytest.fixture
def stage(real_kafka: KafkaBroker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(request.param, real_kafka, tmp_path, stack)


def exported(page: str, instance: int) -> Series:
    found = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            labels = {**sample.labels, "instance": str(instance), "job": "consumers"}
            written = ", ".join(f"{name}={json.dumps(text)}" for name, text in labels.items())
            found[f"{sample.name}{{{written}}}"] = sample.value
    return found


def fires(alert: str, moments: list[Series], directory: Path) -> bool:
    """Whether it does at any time, when each of these moments lasts for HELD minutes."""
    start = min(map(_start, moments))
    moments = [_as_begun_at_zero(moment, start) for moment in moments]
    names = {name for moment in moments for name in moment if name.partition("{")[0] in alerts()[alert]}
    series = [
        {
            "series": name,
            "values": " ".join(f"{moment.get(name, '_')}x{HELD - 1}" for moment in moments),
        }
        for name in sorted(names)
    ]
    fired = f'ALERTS{{alertname="{alert}", alertstate="firing"}}'
    query = {
        "expr": f"count(count_over_time({fired}[24h])) > bool 0 or vector(0)",
        "eval_time": f"{HELD * len(moments)}m",
        "exp_samples": [{"labels": "{}", "value": 1}],
    }
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [query]}
    whole = {"rule_files": [str(PROMETHEUS / "alerts.yml")], "evaluation_interval": "1m", "tests": [test]}
    (directory / "moments.yml").write_text(json.dumps(whole))
    tested = promtool("test", "rules", str(directory / "moments.yml"))
    assert "got:" in tested.stdout + tested.stderr or tested.returncode == 0, tested.stdout + tested.stderr
    return tested.returncode == 0


def _start(moment: Series) -> float:
    return min(value for name, value in moment.items() if name.startswith(START))


def _as_begun_at_zero(moment: Series, start: float) -> Series:
    """That is when the time of promtool begins."""
    return {name: value - start if name.startswith(START) else value for name, value in moment.items()}


ELSEWHERE = {  # takes a broker of its own,
    "ConsumerLogCut",  # whose log is cut while it is down: test_cut_logs.py
    "ConsumerPartitionsWithoutLeader",  # and a second one, which dies: test_leaderless.py
}


def test_every_alert_has_its_fault() -> None:
    assert set(FAULTS) | ELSEWHERE == set(alerts())


@pytest.mark.parametrize("stage", SOON_SEEN, indirect=True)
def test_an_alert_fires_for_its_fault_in_a_worker_and_not_before(stage: Stage, tmp_path: Path) -> None:
    moments = [exported(worker.scrape(), worker.pid) for worker in islice(FAULTS[stage.alert](stage), 3)]
    assert not fires(stage.alert, moments[:1], tmp_path)
    assert fires(stage.alert, moments, tmp_path)
