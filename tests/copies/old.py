"""`python -m tests.copies.old`: copies of every tenth commit of this repository's history are brought to what is here.

Each as a clone, as a directory without git and as an archive, with a worker.py of its own, a requirement more and
changed defaults; every third with an edited file of the frame. A table says for each: clean, or which conflict; whether
all that is its owner's is as it was; whether it passes its tests and joins in the demo, and with --kafka on a real
broker; and how long the update took. After a conflict the edit is given up, and the update tried again. Where the files
of two copies are all the same afterwards, their tests run once.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Producer

from tests.copies.edits import EXAMPLE_TEST, example
from tests.deploy.frames import GIT, files_of, git, write
from tests.integration.oracle import Oracle
from tests.integration.workers import Job, Outputs
from tests.program import ROOT
from tests.services.kafka import JavaBroker, KafkaBroker, unique_name
from tests.services.processes import running

MARK = "# an edit of ours"
EDITED = (
    "utils/messages.py",
    "framework.py",
    "utils/offsets.py",
    "Dockerfile",
    "utils/kafka.py",
    "Makefile",
    "main.py",
)
DEMO = [sys.executable, "main.py", "demo", "--results", "3"]
BASE = re.compile(r"BASE=(\w+)")
HEAD = """\
| commit | kind | edited | outcome | its own | tests, demo | real Kafka | seconds |
|---|---|---|---|---|---|---|---|
"""
FINE = {"pass", "joins", "-"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.copies.old", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--every", type=int, default=10, help="commits from one to the next")
    parser.add_argument("--first", type=int, default=0, help="the number of the first commit")
    parser.add_argument("--last", type=int, default=10**9)
    parser.add_argument("--into", type=Path, help="a file for the table: what is in it already is not done again")
    parser.add_argument("--minutes", type=float, default=10**9, help="begin no commit after so many")
    parser.add_argument("--jobs", type=int, default=1, help="so many copies at once")
    parser.add_argument("--kafka", action="store_true", help="let a worker of one copy of each commit join on a broker")
    options = parser.parse_args()
    commits = list(enumerate(git(ROOT, "log", "--reverse", "--format=%H").split()))
    chosen = [each for each in commits[:: options.every] if options.first <= each[0] <= options.last]
    known = options.into.read_text() if options.into and options.into.exists() else ""
    _tell("" if known else HEAD, options.into)
    ends = time.monotonic() + options.minutes * 60
    cases = [
        (number, commit, kind, (number // options.every) % len(KINDS) == index)
        for number, commit in chosen
        for index, kind in enumerate(KINDS)
        if f"| {number} {commit[:7]} | {kind} |" not in known
    ]
    with running(JavaBroker(heap="400m")) if options.kafka else nullcontext() as broker:

        def try_one(number: int, commit: str, kind: str, is_joining: bool) -> Row | None:
            if time.monotonic() > ends:
                return None
            with tempfile.TemporaryDirectory(prefix="old-copy-") as directory:
                return _row(number, commit, kind, Path(directory), broker if is_joining else None)

        with ThreadPoolExecutor(options.jobs) as pool:
            is_well = []
            for row in pool.map(lambda case: try_one(*case), cases):
                if row:
                    _tell(f"{row}\n", options.into)
                    is_well.append(row.is_well)
    return int(not all(is_well))


def _tell(text: str, file: Path | None) -> None:
    print(text, end="", flush=True)
    if file:
        with file.open("a") as opened:
            opened.write(text)


def clone(commit: str, copy: Path) -> None:
    git(ROOT, "clone", "--quiet", str(ROOT), str(copy))
    git(copy, "checkout", "--quiet", "-b", "mine", commit)


def directory(commit: str, copy: Path) -> None:
    clone(commit, copy)
    shutil.rmtree(copy / ".git")


def archive(commit: str, copy: Path) -> None:
    copy.mkdir()
    subprocess.run(f"git -C '{ROOT}' archive {commit} | tar -xf - -C '{copy}'", shell=True, check=True)


KINDS: Mapping[str, Callable[[str, Path], None]] = {"clone": clone, "cp -r": directory, "archive": archive}


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one copy."""

    name: str
    kind: str
    edited: str
    outcome: str
    own: str
    works: str
    joins: str
    seconds: float

    def __str__(self) -> str:
        cells = (self.name, self.kind, self.edited, self.outcome, self.own, self.works, self.joins)
        return f"| {' | '.join(cells)} | {self.seconds:.1f} |"

    @property
    def is_well(self) -> bool:
        is_told = self.outcome.startswith(("clean", "conflict"))
        return is_told and self.own == "as it was" and {self.works, self.joins} <= FINE


def _row(number: int, commit: str, kind: str, directory: Path, broker: KafkaBroker | None) -> Row:
    copy = directory / "copy"
    KINDS[kind](commit, copy)
    own, edited = _edit(copy, number)
    _commit(copy)
    before = files_of(copy)
    began = time.monotonic()
    done, base = _update(copy)
    seconds = time.monotonic() - began
    outcome, kept = "clean" if base in ("", commit[: len(base)]) else "clean, by another base", True
    if done.returncode == 1:
        outcome = f"conflict: {'; '.join(_reasons(done.stdout))}"
        kept = files_of(copy) == before
        write(copy, {edited: git(ROOT, "show", f"{commit}:{edited}") + "\n"})
        edited, given_up = "", edited
        _commit(copy)
        done, _ = _update(copy)
        outcome += f"; clean without the edit of {given_up}" if done.returncode == 0 else "; AND WITHOUT the edit"
    if done.returncode:
        outcome = f"impossible: {done.stderr.strip()}" if done.returncode == 2 else outcome
        return Row(f"{number} {commit[:7]}", kind, edited, outcome, "?", "?", "?", seconds)
    after = files_of(copy)
    kept &= all(after.get(path) == content.encode() for path, content in own.items()) and _values_are_kept(copy)
    marked = not edited or any(MARK.encode() in content for content in after.values())
    its_own = ("as it was" if kept else "CHANGED") + ("" if marked else ", the edit is LOST")
    joins = _joins(copy, broker, directory) if broker else "-"
    return Row(f"{number} {commit[:7]}", kind, edited, outcome, its_own, _WORKING.of(copy, after), joins, seconds)


def _commit(copy: Path) -> None:
    if (copy / ".git").exists():
        git(copy, "add", "--all")
        git(copy, "commit", "--quiet", "-m", "ours")


def _edit(copy: Path, number: int) -> tuple[dict[str, str], str]:
    """What its owner has written, and the file of the frame that was edited."""
    own = {
        "worker.py": _example_worker(),
        "tests/test_worker.py": EXAMPLE_TEST,
        "tests/test_worker_more.py": "import worker\n",
    }
    own |= {"taxes/__init__.py": "RATE = 0.07\n"}
    write(copy, dict(own))
    with (copy / "requirements.txt").open("a") as file:
        file.write("requests==2.34.2\n")
    values = copy / ("defaults.py" if (copy / "defaults.py").exists() else "config.py")
    text = values.read_text().replace('CONSUMER_NAME = ""', 'CONSUMER_NAME = "paid"').replace("= 3306", "= 3307")
    values.write_text(text)
    if number // 10 % 3:
        return own, ""
    there = [path for path in EDITED if (copy / path).exists()]
    if not there:
        return own, ""
    edited = there[number // 30 % len(there)]
    lines = (copy / edited).read_text().splitlines(keepends=True)
    later = range(len(lines) * 2 // 3, len(lines))
    at = next((index for index in later if not lines[index][:1].isspace()), len(lines))  # between two definitions
    (copy / edited).write_text("".join([*lines[:at], f"{MARK}\n", *lines[at:]]))
    return own, edited


def _example_worker() -> str:
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        (copy / "tests").mkdir()
        shutil.copy(ROOT / "README.md", copy)
        example(copy)
        return "# mine\n" + (copy / "worker.py").read_text()


def _update(copy: Path) -> tuple["subprocess.CompletedProcess[str]", str]:
    """As its owner would: where the updater asks for the base, the one that it names, which is returned, too."""
    done = _updated(copy)
    guessed = BASE.search(done.stderr) if done.returncode == 2 else None
    return (_updated(copy, "--base", guessed.group(1)), guessed.group(1)) if guessed else (done, "")


def _updated(copy: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.frame", "update", "--copy", str(copy), *options]
    return subprocess.run(command, cwd=ROOT, env=GIT, capture_output=True, text=True)


def _reasons(told: str) -> list[str]:
    return re.findall(r"^  (\S+: .*)$", told.partition("conflicts: ")[2], re.MULTILINE)


def _values_are_kept(copy: Path) -> bool:
    defaults = (copy / "defaults.py").read_text()
    return '"paid"' in defaults and "3307" in defaults and "requests==2.34.2" in (copy / "requirements.txt").read_text()


def _works(copy: Path) -> str:
    tests = [sys.executable, "-m", "pytest", "-q", "tests/test_worker.py", "tests/test_worker_more.py"]
    for command in (tests, [sys.executable, "-m", "utils.processing.user_code"], DEMO):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        if done.returncode:
            return f"FAIL: {' '.join(command[1:4])}: {(done.stdout + done.stderr).strip()[-200:]!r}"
    return "pass"


class Verdicts:
    """What became of the tests of copies, which are run once for the same files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, Future[str]] = {}

    def of(self, copy: Path, files: Mapping[str, bytes]) -> str:
        key = hash(tuple(sorted(files.items())))
        with self._lock:
            is_new = key not in self._known
            verdict = self._known.setdefault(key, Future())
        if is_new:
            try:
                verdict.set_result(_works(copy))
            except BaseException as error:
                verdict.set_exception(error)
        return verdict.result()


_WORKING = Verdicts()


def _joins(copy: Path, broker: KafkaBroker, directory: Path) -> str:
    """Its worker, with a row of its own: of three orders two are paid, and one of these is still waiting."""
    orders, payments, paid = (unique_name(each) for each in ("orders", "payments", "paid"))
    for topic in (orders, payments, paid):
        broker.create_topic(topic, 2)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "partitioner": "murmur2_random"})
    for topic, id, content in (
        (orders, 1, {"item": "tea", "total": 2}),
        (orders, 2, {"item": "tea", "total": 2}),
        (orders, 3, {"item": "tea", "total": 2}),
        (payments, 2, {"paid": 1}),
        (payments, 1, {"paid": 2}),
    ):
        producer.produce(topic, json.dumps({"id": id, "content": content}).encode(), str(id).encode())
    producer.flush(30)
    results: dict[str, object] = {}
    with Job(broker, unique_name("old"), (orders, payments), (paid,), directory) as job:
        job.run_program(copy)
        worker = job.start()
        outputs = Outputs(job, Results(results))
        try:
            outputs.wait(lambda: "1" in results, worker)
            code = worker.stop()
        except AssertionError as error:
            return f"FAIL: {str(error)[-300:]!r}"
        finally:
            outputs.close()
        waiting = sum(len(commit.waiting) for commit in job.commits().values())
    expected = {"item": "tea", "total": 2, "paid": 2, "tax": 0.14}
    if code or results != {"1": expected} or waiting != 1:
        return f"FAIL: ended with {code}, {results}, {waiting} waiting"
    return "joins"


class Results(Oracle):
    """What has come, by id, and no ledger."""

    def __init__(self, found: dict[str, object]) -> None:
        super().__init__(())
        self._found = found

    def seen(self, key: bytes | None, value: bytes | None) -> None:
        self._found[(key or b"").decode()] = json.loads(value or b"{}").get("content")


if __name__ == "__main__":
    sys.exit(main())
