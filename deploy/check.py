"""Holds what is in deploy/ against the schemas of those who read it. No Docker, Kubernetes or systemd runs for it.

`make deploy-check` runs it. What this machine lacks a tool for is said (-) and is no failure.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml

HERE = Path(__file__).parent
COMPOSE_GO = "github.com/compose-spec/compose-go/v2@v2.16.2"  # the part of Docker Compose that reads the file
KUBERNETES = "1.34"
CUSTOM = ("keda.sh/", "monitoring.coreos.com/")
MODELS = ("@kubernetes-models/keda@0.4.2", "@kubernetes-models/prometheus-operator@6.0.0")
MOST_EXPOSED = 1.5  # of systemd-analyze security: 0 is best, 10 worst


class Lacks(Exception):
    """A tool that is not here."""


def main() -> int:
    failed = False
    for check in (compose, kubernetes, custom_resources, systemd):
        try:
            problems = list(check())
        except Lacks as lack:
            print(f"- {check.__name__}: not tried, {lack}")
            continue
        failed = failed or bool(problems)
        print(*(f"✗ {check.__name__}: {problem}" for problem in problems), sep="\n", end="\n" if problems else "")
        if not problems:
            print(f"✓ {check.__name__}: {check.__doc__}")
    return int(failed)


def compose() -> Iterator[str]:
    """as Docker Compose's own schema wants it"""
    described = json.loads(ran(tool("go"), "mod", "download", "-json", COMPOSE_GO))
    schema = json.loads((Path(described["Dir"]) / "schema/compose-spec.json").read_text())
    content = yaml.safe_load((HERE / "compose.yaml").read_text())
    for error in jsonschema.Draft7Validator(schema).iter_errors(content):
        yield f"{'.'.join(map(str, error.path))}: {error.message}"


def kubernetes() -> Iterator[str]:
    """as the schemas of Kubernetes want it"""
    objects = [(directory.name, each) for directory in applied() for each in rendered(directory)]
    objects.append(("init.yaml", yaml.safe_load((HERE / "kubernetes/init.yaml").read_text())))
    for where, each in objects:
        if not str(each["apiVersion"]).startswith(CUSTOM):
            try:
                kubernetes_validate.validate(each, KUBERNETES, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f"{where}, {each['kind']}: {error.message}"


def custom_resources() -> Iterator[str]:
    """as KEDA and the Prometheus operator want them"""
    npm, node = tool("npm"), tool("node")
    with tempfile.TemporaryDirectory() as directory:
        ran(npm, "install", "--silent", "--ignore-scripts", "--prefix", directory, *MODELS)
        shutil.copy(HERE / "check.mjs", directory)
        for each in applied():
            file = Path(directory) / "rendered.json"
            file.write_text(json.dumps(rendered(each)))
            said = ran(node, f"{directory}/check.mjs", str(file))
            yield from (f"{each.name}, {line}" for line in said.splitlines())


def systemd() -> Iterator[str]:
    """as systemd wants it, and hardened"""
    analyze = tool("systemd-analyze")
    with tempfile.TemporaryDirectory() as directory:
        unit = Path(directory) / "consumer@.service"
        # A program that is there; what is verified is the rest.
        content = (HERE / f"systemd/{unit.name}").read_text()
        unit.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/sh", content, flags=re.M))
        verified = subprocess.run(
            [analyze, "verify", "--man=no", f"{directory}/consumer@paid-orders.service"], capture_output=True, text=True
        )
        yield from (line for line in verified.stderr.splitlines() if "consumer@" in line)
        said = ran(analyze, "security", "--offline=yes", "--no-pager", str(unit))
        score = float(re.findall(r"exposure level for .*?: ([0-9.]+)", said)[0])
        print(f"  systemd: exposure {score} of 10")
        if score > MOST_EXPOSED:
            yield f"exposure {score}, more than {MOST_EXPOSED}"


def applied() -> list[Path]:
    """The directories that are given to `kubectl apply -k`."""
    return [*sorted((HERE / "kubernetes/overlays").iterdir()), HERE / "kubernetes/monitoring"]


def rendered(directory: Path) -> list[dict[str, object]]:
    command = [tool("kubectl"), "kustomize"] if shutil.which("kubectl") else [tool("kustomize"), "build"]
    return list(yaml.safe_load_all(ran(*command, str(directory))))


def tool(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise Lacks(f"there is no {name}")
    return found


def ran(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
