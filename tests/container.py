"""`make container`: builds the image without Docker, and runs it as it is to be run, on real Kafka and MariaDB.

Debian's buildah, podman, runc and debootstrap are needed, and root. The base is Debian with its Python, not the one
that the Dockerfile names: that cannot be had here. It is kept among podman's images, and nothing in the repository.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, Producer

from tests.services.databases import PASSWORD, USER, mariadb_of_this_machine, scratch_database
from tests.services.kafka import JavaBroker, unique_name
from tests.services.processes import HOST, free_port, running

ROOT = Path(__file__).parents[1]
BASE, IMAGE = "localhost/consumer-skeleton-base:bookworm", "localhost/consumer-skeleton-check"
PACKAGES = "python3,python3-venv,ca-certificates"
PYTHON = "3.11"  # of Debian bookworm
PAIRS = 2_000
STORAGE = ("--storage-driver", "vfs")  # overlayfs needs rights that a container around this one has not got
# podman's own default is crun, which does not start where cgroups are read-only; the limits are the container's hosts'.
PODMAN = ("podman", *STORAGE, "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file")
HARDENED = (
    "--network", "host", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
    "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=4096:4096",
)  # fmt: skip
COPIED = (".frame", "*.py", "requirements*", "Dockerfile", ".dockerignore", "utils", "examples", "deploy")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.container", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tree", type=Path, default=ROOT, help="what it is built from: a copy, slim or not")
    tree: Path = parser.parse_args().tree
    figures: dict[str, str] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="consumer-skeleton-image-")))
        base(directory)
        began = time.monotonic()
        build(tree.resolve(), directory / "context")
        figures["built in"] = f"{time.monotonic() - began:.0f} s"
        size = int(ran(*PODMAN, "image", "inspect", "--format", "{{.Size}}", IMAGE))
        own = size - int(ran(*PODMAN, "image", "inspect", "--format", "{{.Size}}", BASE))
        figures["size"] = f"{size / 1e6:.0f} MB, of them {own / 1e6:.0f} MB on top of the base"
        figures |= run(directory, stack)
    print("\n".join(f"{name}: {figure}" for name, figure in figures.items()))
    return 0


# ---------------------------------------------------------------- The image.


def base(directory: Path, image: str = BASE, packages: str = PACKAGES) -> None:
    """Debian with these packages, as an image of this name, where it is not there already."""
    if subprocess.run([*PODMAN, "image", "exists", image]).returncode == 0:
        return
    root = directory / "root"
    ran("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root))
    skipped = ("./proc", "./sys", "./var/cache/apt", "./var/lib/apt/lists", "./usr/share/doc", "./usr/share/locale")
    ran("tar", "-C", str(root), *(f"--exclude={each}" for each in skipped), "-cf", f"{root}.tar", ".")
    ran(*PODMAN, "import", f"{root}.tar", image)
    shutil.rmtree(root)


def build(tree: Path, context: Path) -> None:
    """From the files that a Dockerfile's context would have, with a process() that forwards; no network is used."""
    context.mkdir()
    for path in (path for pattern in COPIED for path in tree.glob(pattern)):
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, context / path.name)
    shutil.copy(ROOT / "tests/forwarding.py", context / "worker.py")
    (context / "defaults.py").write_text("")
    wheels(str(tree / "requirements.lock"), context / "deploy/wheels", "--require-hashes")
    bud(context, IMAGE, f"PYTHON_IMAGE={BASE}")


def wheels(requirements: str, directory: Path, *options: str) -> None:
    """For the Python of the base."""
    platforms = [f"--platform=manylinux{each}_{platform.machine()}" for each in ("2014", "_2_17", "_2_28", "_2_34")]
    pinned = ["--only-binary=:all:", "--no-deps", "--python-version", PYTHON, *platforms, *options]
    ran(sys.executable, "-m", "pip", "download", "--quiet", *pinned, "-r", requirements, "-d", str(directory))


def bud(context: Path, image: str, argument: str, *options: str) -> None:
    """What `docker build --build-arg` would make of this directory."""
    chroot = ("--isolation", "chroot", "--network", "host")  # without rights for namespaces of its own
    arguments = ("--build-arg", argument, "-t", image, *options)
    # Of the two formats only Docker's has a HEALTHCHECK.
    ran("buildah", *STORAGE, "bud", *chroot, "--format", "docker", "--quiet", *arguments, str(context))


# ---------------------------------------------------------------- The container.


def run(directory: Path, stack: ExitStack) -> dict[str, str]:
    """Join pairs in it, look at what it may and needs, and stop it; the figures. AssertionError says what is not so."""
    broker = stack.enter_context(running(JavaBroker(heap="400m")))
    server = stack.enter_context(mariadb_of_this_machine())
    url = stack.enter_context(scratch_database(server))
    secret = directory / "db-password"
    secret.write_text(f"{PASSWORD}\n")
    directory.chmod(0o711)
    secret.chmod(0o444)
    a, b, out, name = (unique_name(each) for each in ("orders", "payments", "paid", "paid-orders"))
    for topic in (a, b, out):
        broker.create_topic(topic, 4)
    container = Container(name, free_port(), secret)
    environ = {
        "CONSUMER_NAME": name, "DB_HOST": HOST, "DB_PORT": str(server.url.port), "DB_NAME": url.rpartition("/")[2],
        "DB_USER": USER, "DB_PASSWORD_FILE": "/run/secrets/db-password",
        "HTTP_HOST": HOST, "HTTP_PORT": str(container.port), "LOG_LEVEL": "INFO",
    }  # fmt: skip
    container.command(
        environ, "init", "--topics-input", f"{a},{b}", "--topics-output", out,
        "--kafka-bootstrap-server", broker.bootstrap,
    )  # fmt: skip
    checked = container.command(environ, "check")
    assert "✗" not in checked, checked
    assert PASSWORD not in checked, "check shows the password"
    refused = container.command({**environ, "DB_PASSWORD_FILE": "/no/secret"}, "run", fails=True)
    assert "names '/no/secret', which cannot be read" in refused, refused

    produce(broker.bootstrap, (a, b))
    began = time.monotonic()
    with container.worker(environ):
        with results(broker.bootstrap, out) as arriving:
            ids = {next(arriving)}
            first = time.monotonic() - began
            ids |= {next(arriving) for _ in range(PAIRS - 1)}
            took = time.monotonic() - began
        assert len(ids) == PAIRS, f"{PAIRS} pairs were sent, {len(ids)} ids came"
        container.is_healthy()
        container.is_confined()
        memory = container.resident()
        ended, log = container.stop()
    stopped = log.strip().splitlines()[-1]
    assert json.loads(stopped)["message"] == "stopped", log
    assert PASSWORD not in log, "the log shows the password"
    return {
        "start to first result": f"{first:.1f} s, to all {PAIRS:,}: {took:.1f} s",
        "memory": f"{memory / 1e6:.0f} MB resident after them",
        "stop": f"{ended:.1f} s after SIGTERM",
    }


@dataclass(frozen=True)
class Container:
    name: str
    port: int
    secret: Path

    def command(self, environ: dict[str, str], *command: str, fails: bool = False) -> str:
        done = subprocess.run([*self._run(environ), "--rm", IMAGE, *command], capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == (78 if fails else 0), f"{command} ended with {done.returncode}: {said}"
        return said

    @contextmanager
    def worker(self, environ: dict[str, str]) -> Iterator[None]:
        ran(*self._run(environ), "--detach", "--name", self.name, IMAGE)
        try:
            yield
        except BaseException:
            print(subprocess.run([*PODMAN, "logs", self.name], capture_output=True, text=True))
            raise
        finally:
            subprocess.run([*PODMAN, "rm", "--force", self.name], capture_output=True)

    def _run(self, environ: dict[str, str]) -> list[str]:
        variables = [f"--env={name}={value}" for name, value in environ.items()]
        return [*PODMAN, "run", *HARDENED, *variables, f"--volume={self.secret}:/run/secrets/db-password:ro"]

    def is_healthy(self) -> None:
        """As the image's own HEALTHCHECK sees it."""
        described = json.loads(ran(*PODMAN, "image", "inspect", "--format", "{{json .HealthCheck}}", IMAGE))
        assert described["Test"][0] == "CMD", described
        ran(*PODMAN, "exec", self.name, *described["Test"][1:])

    def is_confined(self) -> None:
        status = dict(line.split(":\t", 1) for line in self._process("status").splitlines() if ":\t" in line)
        assert set(status["Uid"].split()) == {"10001"}, status["Uid"]
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0, status["CapEff"]
        assert status["NoNewPrivs"] == "1"
        assert re.search(r"Max core file size +0 +0 ", self._process("limits")), "a crash would leave its secrets"
        by_root = [*PODMAN, "exec", "--user", "0", self.name, "touch", "/app/main.py"]
        written = subprocess.run(by_root, capture_output=True, text=True)
        assert written.returncode != 0
        assert "Read-only file system" in written.stderr, written.stderr
        assert PASSWORD not in self._process("environ") + self._process("cmdline")

    def resident(self) -> int:
        """Bytes."""
        [line] = [line for line in self._process("status").splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def stop(self) -> tuple[float, str]:
        """Seconds that it took, and its log."""
        began = time.monotonic()
        ran(*PODMAN, "kill", "--signal", "TERM", self.name)
        code = ran(*PODMAN, "wait", self.name).strip()
        took = time.monotonic() - began
        done = subprocess.run([*PODMAN, "logs", self.name], capture_output=True, text=True)
        assert code == "0", f"ended with {code}: {done.stderr}"
        return took, done.stdout + done.stderr

    def _process(self, file: str) -> str:
        pid = ran(*PODMAN, "inspect", "--format", "{{.State.Pid}}", self.name).strip()
        return Path(f"/proc/{pid}/{file}").read_text()


# ---------------------------------------------------------------- What goes in and comes out.


def produce(bootstrap: str, topics: tuple[str, str]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 5})
    for topic in topics:
        for id in range(PAIRS):
            producer.produce(topic, json.dumps({"id": id, "content": {topic: id}}).encode(), str(id).encode())
        producer.flush(30)


@contextmanager
def results(bootstrap: str, topic: str) -> Iterator[Iterator[int]]:
    """The ids of the results, as they come; TimeoutError where none comes for a minute."""
    group = {"group.id": unique_name("results"), "auto.offset.reset": "earliest", "isolation.level": "read_committed"}
    consumer = Consumer({"bootstrap.servers": bootstrap, **group})

    def ids() -> Iterator[int]:
        while record := consumer.poll(60):
            message = json.loads(record.value() or b"")
            assert len(message["content"]) == 2, message
            yield message["id"]
        raise TimeoutError("no result for a minute")

    consumer.subscribe([topic])
    try:
        yield ids()
    finally:
        consumer.close()


def ran(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    if done.returncode:
        with suppress(IndexError):
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
