"""The rules of the house: who may import whom, and how long the loop may grow."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import ROOT, sources

PURE = ["messages", "aggregator", "offsets", "partitions", "dead_letters", "attempts", "retry", "references"]
PURE += ["trace", "arrivals", "states", "packing"]
# kafka.py of the design is five files, one noun each: clients, intake, ends, locator, preflight.
KAFKA = {"utils/kafka.py", "utils/intake.py", "utils/ends.py", "utils/locator.py", "utils/preflight.py"}
# map_store.py is the topic of rule 3, with a consumer of its own; delivery.py and locator.py need the same one.
MAY_KNOW_KAFKA = KAFKA | {"framework.py", "utils/delivery.py", "utils/outbox.py", "utils/map_store.py"}
MAY_KNOW_KAFKA |= {"utils/dlq.py", "utils/replay.py", "utils/identities.py", "utils/membership.py"}

EXAMPLE = "examples/http_session.py"  # of a worker.py; the one beside main.py is the user's

SHIPPED = sorted(
    path.relative_to(ROOT).as_posix()
    for path in sources()
    if path.name != "__init__.py" and path.parent.name != "examples"
)
OURS = {path.removesuffix(".py").replace("/", ".") for path in SHIPPED} | {"utils", "tests", "examples", "bench"}


def imports(path: str) -> set[str]:
    """Every module that a file imports anywhere, also in functions; `from utils import kafka` is `utils.kafka`."""
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


def test_the_files_of_the_worker_are_found() -> None:
    assert {"main.py", "framework.py", "config.py", "models.py", "utils/offsets.py"} <= set(SHIPPED)
    assert "utils.offsets" in imports("framework.py")
    assert "utils.kafka" in imports("main.py")


def test_a_file_that_users_edit_need_know_nothing_of_the_framework_but_the_logger_and_retry() -> None:
    assert imports(EXAMPLE) & OURS <= {"utils.logger", "utils.retry"}
    assert imports("utils/retry.py") == set()


def test_main_imports_neither_worker_py_nor_defaults_py_before_a_command_needs_them() -> None:
    code = "import sys, main; print(sorted({'worker', 'defaults'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted({path.relative_to(ROOT).as_posix() for path in sources()}))
def test_no_module_of_the_users_own_takes_the_place_of_one_of_the_frame(path: str) -> None:
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin == str(ROOT / path), f"{found.origin} hides {path}: give it another name"


@pytest.mark.parametrize("path", [path for path in SHIPPED if Path(path).stem in PURE])
def test_pure_files_know_the_standard_library_msgspec_and_each_other(path: str) -> None:
    allowed = {f"utils.{name}" for name in PURE}
    for module in imports(path):
        assert module in allowed or package(module) in sys.stdlib_module_names | {"msgspec"}, f"{path}: {module}"


@pytest.mark.parametrize("path", [path for path in SHIPPED if Path(path).stem in PURE])
def test_pure_files_have_no_clock_no_log_no_environment_no_files_and_no_threads(path: str) -> None:
    impure = {"time", "datetime", "logging", "os", "io", "pathlib", "socket", "threading", "subprocess", "random"}
    assert imports(path) & impure == set()


def test_only_the_loop_and_the_files_around_kafka_know_it() -> None:
    knowing = {path for path in SHIPPED if "confluent_kafka" in {package(module) for module in imports(path)}}
    assert knowing <= MAY_KNOW_KAFKA


@pytest.mark.parametrize("path", [path for path in SHIPPED if path != "main.py"])
def test_nobody_imports_main(path: str) -> None:
    assert "main" not in imports(path)


def test_the_loop_reads_neither_the_environment_nor_the_database() -> None:
    assert {package(module) for module in imports("framework.py")}.isdisjoint({"os", "models", "sqlalchemy"})
    assert not {name for name in names("framework.py") if "environ" in name or "getenv" in name}


def test_only_main_py_reads_the_environment() -> None:
    reading = {path for path in SHIPPED if {"os.environ", "os.getenv"} & names(path)}
    assert reading == {"main.py", "utils/status.py"}  # the container's health check is a program of its own


def test_the_loop_stays_short_enough_to_be_read_at_a_sitting() -> None:
    assert len((ROOT / "framework.py").read_text().splitlines()) <= 340
