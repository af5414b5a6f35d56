"""deploy/: what compose.yaml, the manifests and the unit of systemd say fits the program and each other.

`make deploy-check` holds them against the schemas of those who read them.
"""

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import main
from config import EX_CONFIG, Settings, _near_misses
from tests.monitoring.test_prometheus import exported
from tests.services.kafka import VERSION
from tests.test_alerts import promtool
from utils.running import lifetime

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
OVERLAYS = ["deployment", "statefulset"]
BESIDE = math.ceil(lifetime.GRACE + lifetime.LEAVING)
STOP = 2 * Settings().shutdown_timeout + BESIDE  # teardown() has as long again


# What docs/deploy.md and the files say to change. A copy in which it was is of its owner, and fits what they have. What
# somebody adds, as a variable that their process() reads, makes no test red.
COMPOSE_FILE, KUBERNETES, UNIT_FILE = "compose.yaml", "kubernetes", "systemd/consumer@.service"
DOCKERFILE = "../Dockerfile"
OF_COMPOSE = ("kafka", "mysql", "topics", "init", "worker", "feed", "results", "prometheus", "alertmanager", "grafana")
CHANGED = {
    COMPOSE_FILE: (
        *(f"\n  {name}:" for name in OF_COMPOSE),
        "restart: on-failure #", "ulimits: { core: 0 }", f"image: apache/kafka:{VERSION}", "DB_HOST: mysql",
        "CONSUMER_NAME: paid-orders", "DB_PASSWORD_FILE: /run/secrets/db_password", "file: \"${DB_PASSWORD_FILE:-",
        "topic in orders payments paid;", "--partitions 3", '"orders,payments"', "scale: 2", "stop_grace_period: 15s",
        '["127.0.0.1:8080-8089:8080"]', "    depends_on:\n", "init: { condition:",
        *(f"depends_on: {{ {name}: {{ condition:" for name in ("kafka", "mysql", "topics")),
    ),
    f"{KUBERNETES}/base/kustomization.yaml": ("CONSUMER_NAME=paid-orders", "DB_HOST=mysql"),
    f"{KUBERNETES}/base/deployment.yaml": ("replicas: 3 ", "terminationGracePeriodSeconds: 15 ", "runAsUser: 10001"),
    f"{KUBERNETES}/init.yaml": ("--topics-input=orders,payments",),
    f"{KUBERNETES}/monitoring/kustomization.yaml": ("namespace: consumers",),
    **{
        f"{KUBERNETES}/overlays/{each}/kustomization.yaml": ("namespace: consumers", "components: [../../keda]")
        for each in OVERLAYS
    },
    UNIT_FILE: (
        "WorkingDirectory=/opt/consumers/%i", "LoadCredential=db-password:", "LoadCredential=kafka-password:",
        "TimeoutStopSec=15", "RestartPreventExitStatus=78", "LimitCORE=0",
    ),
    DOCKERFILE: (" HTTP_PORT=8080\n", "\nUSER 10001:10001\n", "\nHEALTHCHECK "),
    "../.gitignore": ("\n.venv\n", "\nvenv/\n", "\n*.db\n", "\n*.log\n"),
    "../.dockerignore": ("\n.*\n", "\nvenv\n"),
}  # fmt: skip


def text_of(place: str) -> str:
    """Of a file, seen from deploy/; empty where a copy does without it."""
    return (DEPLOY / place).read_text() if (DEPLOY / place).is_file() else ""


def is_as_the_frame_has_it(part: str = "") -> bool:
    chosen = {place: lines for place, lines in CHANGED.items() if place.startswith(part)}
    return all(line in text_of(place) for place, lines in chosen.items() for line in lines)


def of_the_frame(part: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not is_as_the_frame_has_it(part), reason=f"deploy/{part} of this copy is changed")


of_the_compose_file, of_the_manifests, of_the_unit = map(of_the_frame, (COMPOSE_FILE, KUBERNETES, UNIT_FILE))
of_the_dockerfile = of_the_frame(DOCKERFILE)
COMPOSE: dict[str, Any] = yaml.safe_load(text_of(COMPOSE_FILE)) or {}
SERVICES: dict[str, Any] = COMPOSE.get("services", {})
UNIT = text_of(UNIT_FILE)

SETTINGS = [each.name.upper() for each in fields(Settings) if "parse" in each.metadata]


def misspelled(names: Iterable[str]) -> list[str]:
    """What is nearly a setting; another name is of a variable that process() reads."""
    return list(_near_misses([name.removesuffix("_FILE") for name in names], SETTINGS, ""))


def seconds(text: str) -> int:
    return int(re.fullmatch(r"(\d+)s", text)[1])  # type: ignore[index]


def rendered(overlay: str) -> dict[str, Any]:
    """The objects of an overlay, or of `../monitoring`, by their kind."""
    command = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    if not shutil.which(command[0]):
        pytest.skip("neither kubectl nor kustomize")
    made = subprocess.run([*command, DEPLOY / "kubernetes/overlays" / overlay], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return {each["kind"]: each for each in yaml.safe_load_all(made.stdout)}


def pods(objects: dict[str, Any]) -> Any:
    return next(objects[kind]["spec"] for kind in ("Deployment", "StatefulSet") if kind in objects)


# ---------------------------------------------------------------- compose


@of_the_compose_file
def test_every_service_is_small_and_is_never_given_up() -> None:
    """Docker counts restarts over the whole life of a container: a worker that ends once a month was left down."""
    for name in OF_COMPOSE:
        service = SERVICES[name]
        assert service["restart"] == "on-failure", name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "cpus", "pids_limit"} <= service.keys(), name
        assert service["ulimits"] == {"core": 0}, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


@of_the_compose_file
def test_the_program_runs_read_only_with_settings_that_exist_and_no_secret_in_them() -> None:
    for name in ("init", "worker", "feed"):
        assert SERVICES[name]["read_only"] is True
    for name in ("init", "worker"):
        environ = SERVICES[name]["environment"]
        assert misspelled(environ) == []
        assert environ["DB_PASSWORD_FILE"] == "/run/secrets/db_password"
        assert "db_password" in SERVICES[name]["secrets"]


@of_the_compose_file
def test_the_row_is_written_by_a_command_that_exists() -> None:
    arguments = main._parser().parse_args(SERVICES["init"]["command"])
    assert arguments.topics_input == "orders,payments"
    created = SERVICES["topics"]["command"][-1]
    assert "for topic in orders payments paid;" in created


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("deploy/compose.yaml", marks=of_the_compose_file),
        pytest.param("deploy/kubernetes/base/deployment.yaml", marks=of_the_manifests),
        pytest.param("deploy/systemd/consumer@.service", marks=of_the_unit),
        "docs/run-and-watch.md",
        "docs/how-it-works.md",
    ],
)
def test_each_place_where_the_time_to_stop_is_set_tells_how_long_it_must_be(path: str) -> None:
    """It told of twice SHUTDOWN_TIMEOUT only: with a longer one a stop took longer than what was set by that."""
    told = (ROOT / path).read_text().replace("`", "").lower()
    assert f"more than twice shutdown_timeout and {BESIDE} s" in " ".join(told.split())


@of_the_compose_file
def test_a_worker_may_take_as_long_to_stop_as_it_is_promised() -> None:
    assert seconds(SERVICES["worker"]["stop_grace_period"]) > STOP


@of_the_compose_file
def test_there_are_no_more_workers_than_partitions() -> None:
    assert SERVICES["worker"]["scale"] <= int(re.findall(r"--partitions (\d+)", SERVICES["topics"]["command"][-1])[0])


@of_the_compose_file
def test_kafka_is_the_one_that_the_tests_run() -> None:
    assert {SERVICES[name]["image"] for name in ("kafka", "topics", "results")} == {f"apache/kafka:{VERSION}"}


@of_the_compose_file
def test_what_a_service_waits_for_can_be_waited_for() -> None:
    for service in OF_COMPOSE:
        needed = SERVICES[service].get("depends_on", {})
        for name in needed.keys() & OF_COMPOSE:
            waits = needed[name]["condition"]
            assert ("healthcheck" in SERVICES[name]) or waits == "service_completed_successfully"


def mounted(*services: str) -> dict[str, str]:
    """The files of deploy/, and where these services have them."""
    volumes = [each.split(":") for name in services for each in SERVICES[name].get("volumes", []) if ":" in each]
    return {
        source: at for source, at, *_ in volumes if source.startswith(("./compose/", "./prometheus/", "./grafana/"))
    }


@of_the_compose_file
def test_every_file_that_is_mounted_is_there() -> None:
    files = mounted(*OF_COMPOSE)
    assert len(files) >= 5
    assert [each for each in files if not (DEPLOY / each).is_file()] == []
    assert (DEPLOY / re.findall(r":-(\S+)\}", COMPOSE["secrets"]["db_password"]["file"])[0]).is_file()


@of_the_compose_file
@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool")
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "compose/prometheus.yml", tmp_path)
    shutil.copy(DEPLOY / "prometheus/alerts.yml", tmp_path)
    checked = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    [job] = yaml.safe_load((DEPLOY / "compose/prometheus.yml").read_text())["scrape_configs"]
    assert job["job_name"] == "consumers"
    assert job["dns_sd_configs"][0]["names"] == ["worker"]


@of_the_compose_file
def test_the_dashboard_finds_its_source_and_is_where_grafana_looks() -> None:
    files = mounted("grafana").values()
    [provider] = yaml.safe_load((DEPLOY / "compose/grafana-dashboards.yml").read_text())["providers"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in files
    assert home.startswith(provider["options"]["path"])
    [variable] = [
        each
        for each in json.loads((DEPLOY / "grafana/consumers.json").read_text())["templating"]["list"]
        if each["type"] == "datasource"
    ]
    [source] = yaml.safe_load((DEPLOY / "compose/grafana-datasources.yml").read_text())["datasources"]
    assert variable["query"] == source["type"]


def test_the_dashboard_offers_only_the_consumers_of_the_environment_that_is_chosen() -> None:
    variables = json.loads((DEPLOY / "grafana/consumers.json").read_text())["templating"]["list"]
    chosen = [each for each in variables if each["type"] == "query"]
    assert [each["name"] for each in chosen] == ["namespace", "job", "consumer"]
    for number, each in enumerate(chosen):
        labels = ", ".join(f'{before["name"]}=~"${before["name"]}"' for before in chosen[:number])
        assert (
            each["query"]["query"] == f"label_values(consumer_ready{f'{{{labels}}}' if labels else ''}, {each['name']})"
        )


# ---------------------------------------------------------------- Kubernetes


@of_the_manifests
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_settings_that_exist_and_its_secret_in_a_file(overlay: str) -> None:
    objects = rendered(overlay)
    environ = objects["ConfigMap"]["data"]
    assert misspelled(environ) == []
    spec = pods(objects)["template"]["spec"]
    [container] = spec["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": objects["ConfigMap"]["metadata"]["name"]}}]
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "secrets"]
    assert os.path.dirname(environ["DB_PASSWORD_FILE"]) == mount["mountPath"]  # noqa: PTH120  of another machine


@of_the_manifests
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_may_take_as_long_to_stop_as_it_is_promised_and_is_asked_where_it_answers(overlay: str) -> None:
    spec = pods(rendered(overlay))["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > STOP
    [container] = spec["containers"]
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("liveness", "readiness", "startup")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "liveness": "/health/live", "readiness": "/health/ready", "startup": "/health/live",
    }  # fmt: skip
    assert {probe["port"] for probe in probes.values()} == {"http"}


@of_the_manifests
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_no_rights_that_it_does_not_need(overlay: str) -> None:
    spec = pods(rendered(overlay))["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert "memory" in container["resources"]["limits"]
    assert spec["automountServiceAccountToken"] is False


@of_the_manifests
@of_the_dockerfile
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_has_the_port_and_the_user_of_the_image(overlay: str) -> None:
    spec = pods(rendered(overlay))["template"]["spec"]
    [port] = spec["containers"][0]["ports"]
    assert f"HTTP_PORT={port['containerPort']}\n" in text_of(DOCKERFILE)
    assert f"USER {spec['securityContext']['runAsUser']}:" in text_of(DOCKERFILE)


@of_the_compose_file
@of_the_manifests
@of_the_unit
@of_the_dockerfile
def test_a_library_may_write_to_its_home() -> None:
    """HOME was /, which is read-only: whatever keeps a cache there failed in the container alone."""
    home = re.findall(r"\bHOME=(\S+)", text_of(DOCKERFILE))
    assert home == re.findall(r"\bHOME=(\S+)", UNIT) == ["/tmp"]  # which PrivateTmp makes
    assert "\nPrivateTmp=yes\n" in UNIT
    assert SERVICES["worker"]["tmpfs"][0].startswith("/tmp:")
    init = yaml.safe_load((DEPLOY / "kubernetes/init.yaml").read_text())["spec"]
    for spec in (init, *(pods(rendered(overlay)) for overlay in OVERLAYS)):
        [container] = spec["template"]["spec"]["containers"]
        assert "/tmp" in [each["mountPath"] for each in container["volumeMounts"]]


@of_the_manifests
def test_the_job_that_writes_the_row_has_the_settings_and_the_secret_of_the_worker() -> None:
    spec = yaml.safe_load((DEPLOY / "kubernetes/init.yaml").read_text())["spec"]["template"]["spec"]
    of_worker = pods(rendered("deployment"))["template"]["spec"]
    [container], [worker] = spec["containers"], of_worker["containers"]
    environ = {each["name"]: each["value"] for each in container["env"]}
    assert environ.items() <= rendered("deployment")["ConfigMap"]["data"].items()
    assert main._parser().parse_args(container["args"]).topics_input == "orders,payments"
    of_both = ("secrets", "tmp")
    assert spec["volumes"] == [each for each in of_worker["volumes"] if each["name"] in of_both]
    assert container["volumeMounts"] == [each for each in worker["volumeMounts"] if each["name"] in of_both]
    assert container["securityContext"] == worker["securityContext"]
    assert spec["securityContext"] == of_worker["securityContext"]


def test_no_command_of_the_page_shows_a_password() -> None:
    """In the description of a pod, or in the history of a shell."""
    page = (ROOT / "docs/deploy.md").read_text()
    commands = re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert [each for each in commands if re.search(r"--env|://\S*:|password'|PASSWORD=", each)] == []


@of_the_manifests
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_means_the_same_pods(overlay: str) -> None:
    objects = rendered(overlay)
    labels = pods(objects)["template"]["metadata"]["labels"]
    selectors = [
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        rendered("../monitoring")["PodMonitor"]["spec"]["selector"]["matchLabels"],
        pods(objects)["selector"]["matchLabels"],
    ]
    assert [each for each in selectors if not each or not each.items() <= labels.items()] == []


@of_the_manifests
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_scales_by_a_metric_of_the_worker_to_the_workload_that_is_there(overlay: str) -> None:
    objects = rendered(overlay)
    spec = objects["ScaledObject"]["spec"]
    kind = spec["scaleTargetRef"].get("kind", "Deployment")
    assert objects[kind]["metadata"]["name"] == spec["scaleTargetRef"]["name"]
    assert "replicas" not in objects[kind]["spec"]  # else every apply would undo what KEDA did
    [trigger] = spec["triggers"]
    asked = re.findall(r'(\w+)\{consumer="(.*)", namespace="(.*)"\}', trigger["metadata"]["query"])
    work = ["consumer_partition_lag", "consumer_groups_in_flight", "consumer_groups_parked"]
    assert [metric for metric, *_ in asked] == [*work, "consumer_paused"]
    name, namespace = objects["ConfigMap"]["data"]["CONSUMER_NAME"], objects["ScaledObject"]["metadata"]["namespace"]
    assert {tuple(of) for _, *of in asked} == {(name, namespace)}
    assert exported().keys() >= {metric for metric, *_ in asked}


@of_the_manifests
@pytest.mark.parametrize(("lag", "in_flight", "parked", "paused", "messages"), [
    pytest.param(4500, 0, 0, 0, 9000, id="what is unread"),
    pytest.param(0, 8000, 500, 0, 15_000, id="what is read, and not called yet: it did not count"),
    pytest.param(4500, 8000, 500, 1, 0, id="paused: it asked for all the workers that there may be"),
])  # fmt: skip
def test_it_scales_by_what_is_to_be_done(
    lag: int, in_flight: int, parked: int, paused: int, messages: int, tmp_path: Path
) -> None:
    [trigger] = yaml.safe_load((DEPLOY / "kubernetes/keda/scaledobject.yaml").read_text())["spec"]["triggers"]
    of_each = {"partition_lag": lag, "groups_in_flight": in_flight, "groups_parked": parked, "paused": paused}
    series = {
        f'consumer_{name}{{consumer="paid-orders", namespace="consumers", instance="w{worker}"}}': value
        for name, value in of_each.items()
        for worker in (1, 2)
    }
    asked = {
        "expr": trigger["metadata"]["query"],
        "eval_time": "1m",
        "exp_samples": [{"labels": "{}", "value": messages}],
    }
    inputs = [{"series": name, "values": f"{value}x2"} for name, value in series.items()]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": [asked]}
    (tmp_path / "keda.yml").write_text(json.dumps({"rule_files": [], "tests": [test]}))
    tested = promtool("test", "rules", "keda.yml", cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


@of_the_manifests
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_object_of_a_consumer_is_one_of_another_consumer_too(overlay: str) -> None:
    """Each brought the same alerts, and the same PodMonitor: who deleted one consumer left all others without."""
    objects = rendered(overlay)
    name = objects["ConfigMap"]["data"]["CONSUMER_NAME"]
    assert len(objects) >= 6
    assert [kind for kind, each in objects.items() if not each["metadata"]["name"].startswith(name)] == []
    of_all = rendered("../monitoring")
    assert {each["metadata"]["namespace"] for each in of_all.values()} == {
        objects["ConfigMap"]["metadata"]["namespace"]
    }


@of_the_manifests
def test_the_alerts_are_those_of_prometheus() -> None:
    objects = rendered("../monitoring")
    alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    assert objects["PrometheusRule"]["spec"] == alerts, "make rules"
    [endpoint] = objects["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert {"targetLabel": "job", "replacement": "consumers"} in endpoint["relabelings"]


@of_the_manifests
def test_the_alerts_for_kubernetes_are_written_by_the_script_that_says_so() -> None:
    written = subprocess.run(["sh", DEPLOY / "rules.sh"], capture_output=True, text=True, check=True).stdout
    assert (DEPLOY / "kubernetes/monitoring/prometheusrule.yaml").read_text() == written, "make rules"


@of_the_manifests
def test_the_name_of_all_pods_stands_for_those_too_that_are_not_ready() -> None:
    """Where Prometheus found them by it, ConsumerNotReady, ConsumerStuck and ConsumerDown could not fire."""
    assert rendered("statefulset")["Service"]["spec"]["publishNotReadyAddresses"] is True


@of_the_manifests
def test_pods_that_keep_their_names_are_static_members() -> None:
    [container] = pods(rendered("statefulset"))["template"]["spec"]["containers"]
    environ = {each["name"]: each for each in container["env"]}
    assert environ["GROUP_INSTANCE_ID"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert misspelled(environ) == []


# ---------------------------------------------------------------- systemd


@of_the_unit
def test_a_unit_leaves_no_core() -> None:
    assert "\nLimitCORE=0\n" in UNIT


@of_the_unit
def test_systemd_restarts_no_wrong_configuration_and_waits_for_a_stop_in_order() -> None:
    assert f"\nRestartPreventExitStatus={EX_CONFIG}\n" in UNIT
    assert int(re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)[0]) > STOP


@of_the_unit
def test_systemd_runs_what_the_steps_of_the_image_have_made() -> None:
    """A plain copy was not readable by the unit's user under a strict umask, and lacked what was not locked."""
    section = (ROOT / "docs/deploy.md").read_text().partition("\n## systemd\n")[2].partition("\n## ")[0]
    directory = re.findall(r"^WorkingDirectory=(\S+)%i$", UNIT, re.MULTILINE)[0] + "paid-orders"
    steps = re.findall(r"^sh deploy/image\.sh (\w+) (\S+)", section, re.MULTILINE)
    assert steps == [("packages", directory), ("program", directory)]
    assert re.search(rf"^install -d -m 755 .*{directory} ", section, re.MULTILINE)
    assert "cp -r" not in section


@of_the_unit
def test_secrets_of_systemd_are_files_of_settings() -> None:
    loaded = re.findall(r"^#?LoadCredential=(\S+?):", UNIT, re.MULTILINE)
    named = dict(re.findall(r"^#?Environment=(\w+_FILE)=%d/(\S+)$", UNIT, re.MULTILINE))
    assert {"db-password", "kafka-password"} <= {*named.values()} <= {*loaded}
    assert misspelled(named) == []


# ---------------------------------------------------------------- what the pages say of it


@pytest.mark.parametrize("page", ["deploy.md", "operators-of-other-tools.md"])
def test_metrics_and_alerts_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    metrics = set(re.findall(r"`(consumer_[a-z_]+)", text)) - {"consumer_name", "consumer_configs"}
    assert metrics - exported().keys() == set()
    alerts = set(re.findall(r"`(Consumer[A-Z]\w+)`", text))
    known = set(re.findall(r"alert: (\w+)", (DEPLOY / "prometheus/alerts.yml").read_text()))
    assert alerts - known == set()


@pytest.mark.parametrize("page", ["deploy.md", "operators-of-other-tools.md"])
def test_files_and_make_targets_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    makefiles = [ROOT / "Makefile", ROOT / "tests/frame.mk"]
    targets = set(re.findall(r"^([a-z-]+):", "\n".join(each.read_text() for each in makefiles), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) - targets == set()
    files = re.findall(r"`(deploy/[\w./@-]+)`", text) + re.findall(r"-f (deploy/\S+)|-k (deploy/\S+)", text)
    for file in files:
        assert (ROOT / (file if isinstance(file, str) else next(filter(None, file)))).exists(), file


def test_the_line_that_an_operator_is_shown_is_the_one_that_is_logged() -> None:
    text = (ROOT / "docs/operators-of-other-tools.md").read_text()
    [line] = re.findall(r"^    (the commit .*)$", text, re.MULTILINE)
    assert f'"{line}"' in (ROOT / "utils/reading/locator.py").read_text()
