"""`make machine`: boots a Debian with its systemd in a container, and does there what docs/deploy.md says of systemd.

Debian's systemd-container and debootstrap are needed, and root. Kafka and MariaDB run beside it, on the loopback that
it shares. Its files are kept in the cache; what is written while it runs is written to memory.
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.container import ROOT, produce, ran, results, wheels
from tests.integration.workers import eventually
from tests.services.databases import PASSWORD, USER, mariadb_of_this_machine, scratch_database
from tests.services.kafka import CACHE, JavaBroker, unique_name
from tests.services.processes import HOST, free_port, running

FILES = CACHE / "machine-bookworm"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,ca-certificates"
UNIT, SECOND = "consumer@paid-orders", "consumer@paid-orders-2"
PAIRS = 2_000


def main() -> int:
    made()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="consumer-skeleton-machine-")))
        tree = directory / "tree"
        tree.mkdir()
        files = "git ls-files --cached --others --exclude-standard -z"  # what a checkout would have
        ran("sh", "-euc", f"{files} | tar --null -T - -cf - | tar -xf - -C {tree}")
        shutil.copy(ROOT / "tests/forwarding.py", tree / "worker.py")
        wheels("requirements.lock", directory / "wheels", "--require-hashes")
        broker = stack.enter_context(running(JavaBroker(heap="400m")))
        server = stack.enter_context(mariadb_of_this_machine())
        database = stack.enter_context(scratch_database(server)).rpartition("/")[2]
        with Machine.booted(directory) as machine:
            try_out(machine, broker, f"{HOST}\\nDB_PORT={server.url.port}", database)
    return 0


def made() -> None:
    """The files of the machine, where they are not there already."""
    if not FILES.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            root = Path(unfinished, "root")
            ran("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
            root.rename(FILES)


@dataclass(frozen=True)
class Machine:
    pid: int
    """Of its systemd."""

    @classmethod
    @contextmanager
    def booted(cls, directory: Path) -> Iterator["Machine"]:
        log = directory / "boot.log"
        with own_group() as into_it, log.open("w") as out:
            command = [
                *into_it,
                "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--volatile=overlay",
                "--console=pipe", f"--directory={FILES}", f"--bind-ro={directory}:/mnt",
            ]  # fmt: skip
            container = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            try:
                machine = cls(eventually(lambda: child_of(container.pid), "systemd is started"))
                eventually(lambda: machine.is_up(), "the machine is up")
                yield machine
            except BaseException:
                print(log.read_text()[-3000:], file=sys.stderr)
                raise
            finally:
                with suppress(ProcessLookupError):
                    container.send_signal(signal.SIGTERM)  # its systemd shuts down
                try:
                    container.wait(30)
                except subprocess.TimeoutExpired:
                    container.kill()
                    container.wait()

    def is_up(self) -> bool:
        said = subprocess.run([*self._inside(), "systemctl", "is-system-running"], capture_output=True, text=True)
        return said.stdout.strip() in {"running", "degraded"}  # what is degraded has to do with the container

    def does(self, script: str, stdin: str = "") -> str:
        """What a shell of root prints there."""
        command = [*self._inside(), "sh", "-euc", script]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        assert done.returncode == 0, f"{script}: {done.stdout}{done.stderr}"
        return done.stdout

    def shows(self, unit: str, *properties: str) -> dict[str, str]:
        shown = self.does(f"systemctl show {unit} {' '.join(f'-p {each}' for each in properties)}")
        return dict(line.split("=", 1) for line in shown.splitlines())

    def log(self, unit: str) -> str:
        return self.does(f"journalctl --no-pager -o cat -u {unit}")

    def _inside(self) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd"]


@contextmanager
def own_group() -> Iterator[list[str]]:
    """Words that enter a control group of the machine's: its systemd takes the one in which it starts for its own."""
    root, name = Path("/sys/fs/cgroup"), unique_name("consumer-skeleton")
    hierarchies = [each for each in (root / "systemd", root / "unified") if each.is_dir()] or [
        root
    ]  # of version 1, or 2
    groups = [each / name for each in hierarchies]
    for group in groups:
        group.mkdir()
    try:
        enter = "".join(f"echo $$ > {group}/cgroup.procs; " for group in groups)
        yield ["sh", "-euc", f'{enter}exec "$@"', "sh"]
    finally:
        for group in groups:
            ran("find", str(group), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";")


def child_of(pid: int) -> int | None:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return next(
        (int(each) for each in children if Path(f"/proc/{each}/comm").read_text() in {"systemd\n", "init\n"}), None
    )


def documented() -> str:
    """The commands of docs/deploy.md under systemd."""
    page = (ROOT / "docs/deploy.md").read_text().partition("\n## systemd\n")[2].partition("\n## ")[0]
    [block] = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return str(block)


def beside_a_worker(command: str) -> str:
    """The line of docs/deploy.md that runs a command with the settings of a unit."""
    [line] = re.findall(r"^sh -c 'cd /opt/.*'$", (ROOT / "docs/deploy.md").read_text(), re.MULTILINE)
    assert " main.py dlq list'" in line
    return str(line).replace("dlq list", command)


def try_out(machine: Machine, broker: JavaBroker, host: str, database: str) -> None:
    a, b, out = (unique_name(each) for each in ("orders", "payments", "paid"))
    for topic in (a, b, out):
        broker.create_topic(topic, 4)
    port = free_port()
    commands = (
        documented()
        .replace("DB_HOST=db.example", f"DB_HOST={host}")
        .replace("DB_NAME=consumers", f"DB_NAME={database}")
    )
    commands = commands.replace("DB_USER=worker", f"DB_USER={USER}").replace("HTTP_PORT=8080", f"HTTP_PORT={port}")
    offline = "export PIP_NO_INDEX=1 PIP_FIND_LINKS=/mnt/wheels"
    began = time.monotonic()
    # What the page says in other words: the row is written before, from anywhere.
    before, start = commands.rstrip().rsplit("\n", 1)
    strict = "umask 077"  # the user of the unit must be able to read it all the same
    machine.does(f"{strict}; cp -r /mnt/tree /root/copy; cd /root/copy; {offline}; {before}", PASSWORD)
    arguments = f"--topics-input {a},{b} --topics-output {out} --kafka-bootstrap-server {broker.bootstrap}"
    machine.does(beside_a_worker(f"init {arguments}"))
    produce(broker.bootstrap, (a, b))
    started = time.monotonic()
    machine.does(start)
    with results(broker.bootstrap, out) as arriving:
        ids = {next(arriving)}
        first = time.monotonic() - started
        ids |= {next(arriving) for _ in range(PAIRS - 1)}
    assert len(ids) == PAIRS
    print(
        f"installed in {started - began:.0f} s, the first result {first:.1f} s after the start, all {PAIRS:,} are there"
    )
    is_confined(machine)
    assert "paid-orders" in machine.does(beside_a_worker("check"))
    comes_back(machine)
    a_second_one(machine, port)
    stops(machine)
    ends_for_good(machine)


def is_confined(machine: Machine) -> None:
    pid = machine.shows(UNIT, "MainPID")["MainPID"]
    files = {name: machine.does(f"cat /proc/{pid}/{name}") for name in ("status", "limits", "environ", "cmdline")}
    status = dict(line.split(":\t", 1) for line in files["status"].splitlines() if ":\t" in line)
    assert "0" not in status["Uid"].split(), status["Uid"]
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert re.search("Max core file size +0 +0 ", files["limits"])
    assert PASSWORD not in "".join(files.values()) + machine.log(UNIT)
    print(
        f"confined: uid {status['Uid'].split()[0]}, no capability, a filter of system calls, no core; password nowhere"
    )


def comes_back(machine: Machine) -> None:
    """After a crash, and without a core."""
    machine.does(f"systemctl kill --kill-who=main -s SEGV {UNIT}")
    again = {"NRestarts": "1", "SubState": "running"}
    eventually(lambda: machine.shows(UNIT, *again) == again, "it is started again")
    eventually(lambda: machine.log(UNIT).count("partitions assigned") == 2, "it has its partitions again")
    assert "Segmentation fault" in machine.log(UNIT)
    assert not machine.does("find /opt /var/lib -name 'core*' -type f -size +1M").strip()
    print("a crash: started again, no core")


def a_second_one(machine: Machine, port: int) -> None:
    """As a link to the same copy."""
    machine.does(
        "ln -s paid-orders /opt/consumers/paid-orders-2; cd /etc/consumers;"
        f" sed 's/HTTP_PORT={port}/HTTP_PORT={free_port()}/' paid-orders.env > paid-orders-2.env;"
        f" cp paid-orders.db-password paid-orders-2.db-password; systemctl start {SECOND}"
    )
    eventually(lambda: "partitions assigned" in machine.log(SECOND), "the second worker has its partitions")
    print("a second worker of the same copy: has its partitions")


def stops(machine: Machine) -> None:
    began = time.monotonic()
    machine.does(f"systemctl stop {UNIT} {SECOND}")
    took = time.monotonic() - began
    for unit in (UNIT, SECOND):
        shown = machine.shows(unit, "Result", "ExecMainStatus", "ActiveState")
        assert shown == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive"}, shown
        assert '"message": "stopped"' in machine.log(unit)
    print(f"stopped in order, after {took:.1f} s")


def ends_for_good(machine: Machine) -> None:
    """With a configuration that is wrong."""
    restarts = machine.shows(UNIT, "NRestarts")["NRestarts"]
    machine.does(f"echo wrong > /etc/consumers/paid-orders.db-password; systemctl start {UNIT}")
    eventually(lambda: machine.shows(UNIT, "ActiveState")["ActiveState"] == "failed", "it is given up")
    shown = machine.shows(UNIT, "ExecMainStatus", "NRestarts")
    assert shown["ExecMainStatus"] == "78", shown
    assert int(shown["NRestarts"]) <= int(restarts), shown
    assert "refuses the login: check DB_USER and DB_PASSWORD" in machine.log(UNIT)
    print("a wrong password: 78, and not started again")


if __name__ == "__main__":
    sys.exit(main())
