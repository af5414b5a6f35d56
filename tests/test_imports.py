"""The rules of the house: which room may know which, and who may import whom."""

import ast
import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from tests.program import ROOT, sources

ROOMS: Mapping[str, set[str]] = {
    "joining": set(),
    "kafka": set(),
    "processing": {"joining"},
    "reading": {"kafka", "joining"},
    "sending": {"processing", "kafka", "joining"},
    "monitoring": {"sending", "reading", "processing", "kafka", "joining"},
    "running": {"framework", "monitoring", "sending", "reading", "processing", "kafka", "joining"},
    "fleet": {"monitoring", "sending", "kafka", "joining"},
    "commands": {"framework", "fleet", "monitoring", "running", "sending", "reading", "processing", "kafka", "joining"},
    "framework": {"monitoring", "sending", "reading", "processing", "joining"},
    "ground": set(),
}
"""Which rooms each may know. `ground`: the files on which all of them stand; `framework`: framework.py."""
GROUND = {"logger", "retry", "metrics", "errors", "threads", "version", "topic_ids", "sparing", "plain"}
GROUND |= {"database_errors"}  # below models.py
ALIASES = {"messages", "cases"}  # tests/test_worker.py imports them by these names, which stay; see there
OF_JOINING = {"retry", "errors", "topic_ids", "plain"}  # what the pure room may know of the ground: what is pure, too

KNOW_KAFKA = {"kafka", "reading", "sending", "framework", "fleet", "commands", "running"}
"""The rooms whose files may import Kafka's client."""
IMPURE = {"time", "datetime", "logging", "os", "io", "pathlib", "socket", "threading", "subprocess", "random", "queue"}
IMPURE |= {"asyncio", "concurrent", "multiprocessing", "signal", "sys"}

EXAMPLE = "examples/http_session.py"  # of a worker.py; the one beside main.py is the user's

SHIPPED = sorted(
    path.relative_to(ROOT).as_posix()
    for path in sources()
    if path.name != "__init__.py" and path.parent.name != "examples"
)
OF_UTILS = [path for path in SHIPPED if path.startswith("utils/")]
OURS = {path.removesuffix(".py").replace("/", ".") for path in SHIPPED} | {"utils", "tests", "examples", "bench"}


@cache
def imports(path: str) -> set[str]:
    """Every module that a file imports anywhere, also in functions; `from utils.kafka import ends` is
    `utils.kafka.ends`.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & OURS
            found |= submodules or {str(node.module)}
    return found


def package(module: str) -> str:
    return module.partition(".")[0]


def names(path: str) -> set[str]:
    """Every dotted name that a file uses, such as `os.environ`."""
    return {
        ast.unparse(node) for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Attribute)
    }


def room(path: str) -> str:
    """Of a file of the worker: `ground` for those at the top of utils/, else its directory or its own name."""
    parts = path.removesuffix(".py").split("/")
    return parts[0] if parts[0] != "utils" else parts[1] if len(parts) == 3 else "ground"


def known(path: str) -> set[str]:
    """The other rooms that a file knows. config.py and models.py are none: they are beside the house."""
    files = {each.replace(".", "/") + ".py" for each in imports(path)} & set(SHIPPED)
    return {room(each) for each in files} - {room(path), "ground", "config", "models"}


def test_the_files_of_the_worker_are_found() -> None:
    assert {"main.py", "framework.py", "config.py", "models.py", "utils/joining/offsets.py"} <= set(SHIPPED)
    assert "utils.joining.offsets" in imports("framework.py")
    assert "utils.commands.command" in imports("main.py")
    assert known("framework.py") >= {"monitoring", "sending", "reading", "processing", "joining"}


def test_every_file_of_utils_is_in_a_room_but_those_on_which_all_stand() -> None:
    at_the_top = {Path(path).stem for path in OF_UTILS if room(path) == "ground"}
    assert at_the_top == GROUND | ALIASES
    assert {room(path) for path in OF_UTILS} - {"ground"} == set(ROOMS) - {"ground", "framework"}


@pytest.mark.parametrize("name", sorted(set(ROOMS) - {"ground", "framework"}))
def test_every_room_says_what_it_is(name: str) -> None:
    said = ast.get_docstring(ast.parse((ROOT / "utils" / name / "__init__.py").read_text()))
    assert said
    assert {"No", "no", "nothing", "neither", "never"} & set(said.replace(".", " ").replace(":", " ").split())


@pytest.mark.parametrize("path", [*sorted(set(OF_UTILS) - {f"utils/{each}.py" for each in ALIASES}), "framework.py"])
def test_a_room_knows_only_those_below_it(path: str) -> None:
    assert known(path) <= ROOMS[room(path)]


@pytest.mark.parametrize("path", [path for path in OF_UTILS if room(path) == "joining"])
def test_joining_knows_the_standard_library_and_msgspec(path: str) -> None:
    allowed = sys.stdlib_module_names | {"msgspec"}
    foreign = {each for each in imports(path) if package(each) not in allowed and not each.startswith("utils.joining.")}
    assert foreign <= {f"utils.{name}" for name in OF_JOINING}


@pytest.mark.parametrize("path", [path for path in OF_UTILS if room(path) == "joining"])
def test_joining_has_no_clock_no_log_no_environment_no_files_and_no_threads(path: str) -> None:
    assert {package(module) for module in imports(path)} & IMPURE == set()


@pytest.mark.parametrize("path", ["utils/processing/attempts.py", "utils/processing/parking.py"])
def test_so_have_the_files_beside_it_that_say_so(path: str) -> None:
    assert {package(module) for module in imports(path)} & IMPURE == set()


def test_no_file_imports_another_that_imports_it_in_turn() -> None:
    """Not even for its types: what only a type checker follows, a reader follows too."""
    files = {path.removesuffix(".py").replace("/", "."): imports(path) & OURS for path in SHIPPED}
    done: set[str] = set()

    def circle(module: str, way: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        if module in way:
            yield (*way[way.index(module) :], module)
        elif module not in done:
            for each in sorted(files.get(module, ())):
                yield from circle(each, (*way, module))
            done.add(module)

    assert [found for module in files for found in circle(module, ())] == []


def test_a_file_that_users_edit_need_know_nothing_of_the_framework_but_the_logger_and_retry() -> None:
    assert imports(EXAMPLE) & OURS <= {"utils.logger", "utils.retry"}
    assert imports("utils/retry.py") == set()


def test_main_imports_neither_worker_py_nor_defaults_py_before_a_command_needs_them() -> None:
    code = "import sys, main; print(sorted({'worker', 'defaults'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_imports_no_other_command() -> None:
    commands = "sorted(name for name in sys.modules if name.startswith('utils.commands.'))"
    code = f"import sys, main; main.main(['run', '--help']); print({commands})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['utils.commands.command', 'utils.commands.moments']"


@pytest.mark.parametrize("path", sorted({path.relative_to(ROOT).as_posix() for path in sources()}))
def test_no_module_of_the_users_own_takes_the_place_of_one_of_the_frame(path: str) -> None:
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin == str(ROOT / path), f"{found.origin} hides {path}: give it another name"


def test_only_the_loop_and_the_rooms_around_kafka_know_it() -> None:
    knowing = {path for path in SHIPPED if "confluent_kafka" in {package(module) for module in imports(path)}}
    assert {room(path) for path in knowing} <= KNOW_KAFKA


@pytest.mark.parametrize("path", [path for path in SHIPPED if path != "main.py"])
def test_nobody_imports_main(path: str) -> None:
    assert "main" not in imports(path)


def test_only_threads_that_have_no_client_of_kafka_are_plain_daemons() -> None:
    """Python taken apart around a client ends with SIGSEGV. `leave` does not do it around threads that are Apart."""
    lines = [(path, line) for path in SHIPPED for line in (ROOT / path).read_text().splitlines()]
    assert Counter(path for path, line in lines if "daemon=True" in line) == {
        "utils/running/lifetime.py": 6,  # they wait for events and signals, and write a line of the log
        "utils/monitoring/status.py": 1,  # this one and the next answer HTTP, of what others have found
        "utils/commands/fleet.py": 1,
    }


def test_the_loop_reads_neither_the_environment_nor_the_database() -> None:
    assert {package(module) for module in imports("framework.py")}.isdisjoint({"os", "models", "sqlalchemy"})
    assert not {name for name in names("framework.py") if "environ" in name or "getenv" in name}


def test_only_main_py_reads_the_environment() -> None:
    reading = {path for path in SHIPPED if {"os.environ", "os.getenv"} & names(path)}
    assert reading == {"main.py", "utils/monitoring/status.py"}  # the container's health check is a program of its own


MOST_PARAMETERS, MOST_ATTRIBUTES = 6, 12
LARGE = {
    "config.py Settings": "a setting each",
    "utils/metrics.py Counters": "a number each",
    "utils/monitoring/report.py Report": "what the page shows, and /status.json by the same names",
    "utils/monitoring/view.py Snapshot": "what the page shows, and /status.json by the same names",
    "utils/joining/dead_letters.py write": "a header of the dead letter each",
    "framework.py Worker": "the loop holds all that a message passes on its way",
    "utils/commands/replay.py Replay": "as the worker, and what it counts",
    "utils/running/steps.py Start": "what each step before a start has found, for those after it",
    "utils/running/refresh.py Refresh": "shared by two threads: what each may write stands in one place",
    "utils/joining/offsets.py PartitionOffsets": "touched for each record: one look-up less is a percent of the CPU",
    "utils/processing/coroutines.py Coroutines": "queues around an event loop, for which order of access is all",
    "utils/sending/delivery.py AtLeastOnce": "one commit, from what is sent to what is confirmed",
    "utils/sending/delivery.py ExactlyOnce": "one transaction, from what is staged to what is committed",
    "utils/fleet/verdicts.py ConsumerSeen": "what the page shows, and `fleet --json` by the same names",
    "utils/sending/map_store.py MapStore": "what it is given, and how far the last commit came",
}
"""What may be larger, and why."""


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = function.args
    return len({each.arg for each in given.posonlyargs + given.args + given.kwonlyargs} - {"self", "cls"})


def attributes(of: ast.ClassDef) -> set[str]:
    """Of the instances of a class, as far as the class itself sets them."""
    declared = {
        each.target.id for each in of.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    stored = (each for each in ast.walk(of) if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store))
    return declared | {each.attr for each in stored if ast.unparse(each.value) == "self"}


def test_what_has_many_parameters_or_attributes_has_a_reason() -> None:
    large = set()
    for path in SHIPPED:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and parameters(node) > MOST_PARAMETERS:
                large.add(f"{path} {node.name}")
            if isinstance(node, ast.ClassDef) and len(attributes(node)) > MOST_ATTRIBUTES:
                large.add(f"{path} {node.name}")
    assert large == set(LARGE)


def test_the_loop_stays_short_enough_to_be_read_at_a_sitting() -> None:
    assert len((ROOT / "framework.py").read_text().splitlines()) <= 340
