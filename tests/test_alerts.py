"""deploy/prometheus and deploy/grafana: every query asks for what a worker really exports, every alert is tried.

promtool comes with Prometheus (Debian: `apt-get install prometheus`).
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.test_prometheus import exported
from tests.program import ROOT, sources

PROMETHEUS = ROOT / "deploy/prometheus"
ALERTS = (PROMETHEUS / "alerts.yml").read_text()
DASHBOARD = json.loads((ROOT / "deploy/grafana/consumers.json").read_text())
RUNBOOK = (ROOT / "docs/runbook.md").read_text()
OF_PROMETHEUS = {"consumer", "instance", "job", "namespace"}  # labels that every metric has, or gets when it is scraped


KNOWN = cache(exported)


def promtool(*arguments: str, cwd: Path = PROMETHEUS) -> "subprocess.CompletedProcess[str]":
    if shutil.which("promtool") is None:
        outcome = pytest.fail.Exception if os.environ.get("CI") == "true" else pytest.skip.Exception
        raise outcome("promtool is not there: apt-get install prometheus", pytrace=False)
    seldom = {**os.environ, "GOGC": "400"}  # its garbage, of 140 MB and no more: a quarter of its CPU
    return subprocess.run(["promtool", *arguments], cwd=cwd, env=seldom, capture_output=True, text=True, check=False)


def recorded() -> dict[str, str]:
    """The query of each rule that records a series for alerts, by the name of the series."""
    rules = [rule for group in yaml.safe_load(ALERTS)["groups"] for rule in group["rules"]]
    return {rule["record"]: rule["expr"] for rule in rules if "record" in rule}


@cache
def alerts() -> dict[str, str]:
    """The query of each alert, by its name, with those of the series that are recorded for it."""
    blocks = re.split(r"^ +- alert: ", ALERTS, flags=re.MULTILINE)[1:]
    found = {
        block.split()[0]: re.split(r"\n +(?:for|labels):", block.split("expr:", 1)[1])[0].strip("| \n")
        for block in blocks
    }
    for name, query in recorded().items():
        found = {alert: of_it.replace(name, f"({query})") for alert, of_it in found.items()}
    return found


def queries() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard, with the title of its panel."""

    def walk(value: Any, title: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            title = value.get("title", title)
            if isinstance(value.get("expr"), str):
                yield title, value["expr"]
            value = list(value.values())
        if isinstance(value, list):
            for each in value:
                yield from walk(each, title)

    yield from walk(DASHBOARD, "")


def asks_for_what_is_exported(query: str) -> None:
    """Metrics are exported, and labels in {…}, by (…) and on (…) are those of one of them."""
    known = KNOWN()
    named = set(re.findall(r"\bconsumer_\w+", query))
    bare = {name if name in known else re.sub("_(bucket|sum|count)$", "", name) for name in named}
    assert named
    assert bare <= set(known), f"{bare - set(known)} in {query}"
    labels = {label for name in bare for label in known[name]} | OF_PROMETHEUS | {"le"}
    used = set(re.findall(r"(\w+)=~?\"", query))
    for listed in re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", query):
        used |= {label.strip() for label in listed.split(",")}
    assert used <= labels, f"{used - labels} in {query}"


# ---------------------------------------------------------------- alerts


def test_the_alerts_are_found() -> None:
    assert len(alerts()) == ALERTS.count("- alert:") > 10


@pytest.mark.parametrize("name", sorted(set(alerts()) - {"ConsumerDown"}))
def test_an_alert_asks_for_what_a_worker_exports(name: str) -> None:
    asks_for_what_is_exported(alerts()[name])


def test_promtool_takes_the_examples_and_the_alerts() -> None:
    for arguments in (["check", "rules", "alerts.yml"], ["check", "config", "prometheus.yml"]):
        checked = promtool(*arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_has_a_fault_that_it_fires_for() -> None:
    tried = (PROMETHEUS / "alerts_test.yml").read_text()
    firing = set(re.findall(r"alertname: (\w+)\n +eval_time: \w+\n +exp_alerts:\n +- exp_labels", tried))
    assert firing == set(alerts())


@pytest.mark.parametrize("faults", ["alerts_test.yml", "alerts_often_test.yml"])
def test_each_alert_fires_for_its_fault(faults: str) -> None:
    tested = promtool("test", "rules", faults)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def of_a_worker(alert: str) -> bool:
    """Whether it is about one worker, and not about all of a consumer: then its line names that."""
    return "$labels.instance" in ALERTS.split(f"- alert: {alert}\n", 1)[1].split("- alert: ", 1)[0]


def test_an_alert_about_one_worker_hides_none_about_another() -> None:
    """An open circuit of one did: of all the workers nothing was told that stood still."""
    rules = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())["inhibit_rules"]
    for rule in rules:
        [source], [targets] = (
            re.findall(r'"(.*)"', "".join(rule[f"{which}_matchers"])) for which in ("source", "target")
        )
        of_workers = [target for target in targets.split("|") if of_a_worker(target)]
        if of_a_worker(source) and of_workers:
            assert "instance" in rule["equal"], of_workers


def test_an_alert_hides_none_of_another_environment() -> None:
    """Without a namespace the job tells them apart: an open circuit of staging hid what stood still in production."""
    environment = ["consumer", "namespace", "job"]
    manager = yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())
    assert {*environment} < {*manager["route"]["group_by"]}, "one mail would tell of both"
    for rule in manager["inhibit_rules"]:
        assert rule["equal"][:3] == environment
    for name, query in alerts().items():
        for labels in re.findall(r"\bby \(([^)]*)\)", query):
            assert {*environment} <= {label.strip() for label in labels.split(",")}, name


def test_an_alert_that_never_fires_is_noticed(tmp_path: Path) -> None:
    head, *cases = re.split("^(?=  - name: )", (PROMETHEUS / "alerts_test.yml").read_text(), flags=re.MULTILINE)
    [its_own] = [case for case in cases if "name: a loop that stands still\n" in case]
    (tmp_path / "alerts_test.yml").write_text(head + its_own)
    for condition, is_well in (("consumer_live == 0", True), ("consumer_live == 2", False)):
        (tmp_path / "alerts.yml").write_text(ALERTS.replace("consumer_live == 0", condition))
        assert (promtool("test", "rules", "alerts_test.yml", cwd=tmp_path).returncode == 0) == is_well


def test_each_alert_has_its_section_in_the_runbook_and_each_section_its_alert() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert sections == list(alerts())
    assert re.findall(r"runbook: docs/runbook.md#(\w+)", ALERTS) == [name.lower() for name in sections]


def test_the_runbook_names_metrics_that_there_are() -> None:
    named = set(re.findall(r"`(consumer_\w+)`", RUNBOOK))
    assert named
    assert named <= set(exported())


def test_the_runbook_quotes_the_log() -> None:
    code = "\n".join(path.read_text() for path in sources())
    for line in (
        "starting again from the last commit",
        "partitions lost",
        "commit held back: the map of waiting offsets does not fit",
        "process() failed",
        "process() failed and is tried again",
        "invalid message",
        "the row has changed and is no good: the old one stays",
        "keys do not fit those of the other topics",
        "records were deleted before they were read",
        "records that were waiting are no longer in the log",
    ):
        assert f"`{line}`" in " ".join(RUNBOOK.split())
        assert line in code


# ---------------------------------------------------------------- the dashboard


def test_the_queries_of_the_dashboard_are_found() -> None:
    assert len(list(queries())) > 20


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_a_panel_asks_for_what_a_worker_exports(title: str, query: str) -> None:
    asks_for_what_is_exported(query)


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_a_panel_is_about_the_environment_that_was_chosen(title: str, query: str) -> None:
    """Production and staging may have the same name, and the dashboard added them up."""
    chosen = '{consumer=~"$consumer", namespace=~"$namespace", job=~"$job"}'
    assert len(re.findall(r"\bconsumer_\w+", query)) == query.count(chosen)


def test_a_query_for_something_else_is_noticed() -> None:
    for query in ("consumer_lag", 'consumer_ready{topic="a"}', "sum by (topic) (consumer_ready)"):
        with pytest.raises(AssertionError):
            asks_for_what_is_exported(query)


def test_every_query_is_one_that_prometheus_understands(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m").replace("$consumer", ".*")}
        for number, (_, query) in enumerate(queries())
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = promtool("check", "rules", "rules.yml", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_no_two_panels_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        covered = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not covered & cells, panel["title"]
        assert at["x"] + at["w"] <= 24
        cells |= covered
