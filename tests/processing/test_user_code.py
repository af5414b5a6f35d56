"""worker.py as its user may have written it: what is wrong with it is one line, whoever needs it."""

import logging
import os
import re
import subprocess
import sys
import threading
import urllib.request
from contextvars import Context
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any
from urllib.error import HTTPError

import pytest

from config import ConfigError, NeedsNewProcessError, Settings
from tests.builders import group
from tests.integration.workers import eventually
from tests.program import ROOT, copied
from tests.services.processes import free_port
from tests.services.starts import run_python, start_python
from utils.logger import logger
from utils.metrics import Histogram
from utils.processing import user_code
from utils.running.calls import runner_of

GOOD = "def process(message, consumer_name):\n    return message\n"
BAD = {
    "missing": (
        "import os\n",
        "worker.py defines no process(): it must be a function, process(message, consumer_name)",
    ),
    "no function": ("process = 7\n", "worker.py defines no process()"),
    "one argument": (
        "def process(message):\n    return message\n",
        "worker.py: process(message) must take two arguments: message, consumer_name",
    ),
    "three arguments": ("def process(a, b, c):\n    return a\n", "worker.py: process(a, b, c) must take two arguments"),
    "yields": ("def process(message, consumer_name):\n    yield message\n", "worker.py: process() must return"),
    "import": (
        f"import os\nimport no_such_module\n{GOOD}",
        "worker.py cannot be imported: ModuleNotFoundError at worker.py:2: No module named 'no_such_module';"
        " add what it needs to requirements.txt (then make lock, make setup),",
    ),
    "name": (f"from os import no_such_name\n{GOOD}", "worker.py cannot be imported: ImportError at worker.py:1: "),
    "a value of config.py": (
        f"import config\nURL = config.API_URL\n{GOOD}",
        "worker.py cannot be imported: AttributeError at worker.py:2: module 'config' has no attribute 'API_URL';"
        " config.py is the frame's: move a value of yours into defaults.py, and import that",
    ),
    "a name of config.py": (
        f"from config import API_URL\n{GOOD}",
        "worker.py cannot be imported: ImportError at worker.py:1: cannot import name 'API_URL' from 'config'"
        f" ({ROOT / 'config.py'}); config.py is the frame's: move a value of yours into defaults.py, and import that",
    ),
    "a helper in utils": (
        f"from utils.helpers import clean\n{GOOD}",
        "worker.py cannot be imported: ModuleNotFoundError at worker.py:1: No module named 'utils.helpers';"
        " utils/ is the frame's: move yours into a directory of your own; ",
    ),
    "a helper in a package of its own": (
        f"from utils_of_mine import clean\n{GOOD}",
        "worker.py cannot be imported: ModuleNotFoundError at worker.py:1: No module named 'utils_of_mine'; add",
    ),
    "a name of utils": (
        f"from utils.logger import get_logger\n{GOOD}",
        "worker.py cannot be imported: ImportError at worker.py:1: cannot import name 'get_logger' from 'utils.logger'"
        f" ({ROOT / 'utils/logger.py'}); utils/ is the frame's: move yours into a directory of your own; of its"
        " logger.py take logger",
    ),
    "syntax": (
        "def process(message, consumer_name)\n    return message\n",
        "worker.py cannot be imported: SyntaxError in ",
    ),
    "pattern": (f"import re\nre.compile('(topsecret')\n{GOOD}", "worker.py cannot be imported: "),
    "shared library": (
        f"import ctypes\nctypes.CDLL('libnowhere.so.7')\n{GOOD}",
        "worker.py cannot be imported: OSError at __init__.py:",
    ),
    "raises": (f"raise RuntimeError('topsecret')\n{GOOD}", "worker.py cannot be imported: RuntimeError at worker.py:1"),
    "exits": (f"import sys\nsys.exit(0)\n{GOOD}", "worker.py cannot be imported: SystemExit at worker.py:2"),
    "hook": (f"{GOOD}def setup(pool):\n    pass\n", "worker.py: setup must be a function that takes no arguments"),
    "hook yields": (
        f"{GOOD}def setup():\n    yield\n",
        "worker.py: setup() must do its work and return, and not yield",
    ),
    "hook is a context": (
        f"from contextlib import contextmanager\n{GOOD}@contextmanager\ndef setup():\n    yield\n",
        "worker.py: setup() must do its work and return, and not yield",
    ),
    "async hook": (
        f"{GOOD}async def teardown():\n    pass\n",
        "worker.py: teardown() is `async def`, so process() must be so too",
    ),
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a worker.py can be written that is imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "worker", ModuleType("worker"))  # so that its end takes away what a test imports
    monkeypatch.delitem(sys.modules, "worker")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path / "worker.py"


@pytest.mark.parametrize("fault", BAD)
def test_what_is_wrong_with_it_is_one_line(written: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, says = BAD[fault]
    written.write_text(source)
    with pytest.raises(ConfigError) as caught:
        user_code.load()
    monkeypatch.delitem(sys.modules, "worker", raising=False)
    [problem] = caught.value.problems
    assert problem.startswith(says)
    assert "\n" not in problem
    assert "topsecret" not in problem


@pytest.mark.parametrize(
    "raises",
    [
        "raise ConnectionRefusedError('topsecret')",
        "import socket\nraise socket.gaierror('topsecret')",
        "import pymysql\nraise pymysql.err.OperationalError('topsecret')",
        "import http.client\nraise http.client.BadStatusLine('topsecret')",
        "raise OSError('topsecret: no connection to load the files')",  # as libraries of models say it
    ],
)
def test_a_service_that_is_away_while_it_is_imported_may_come_later(
    written: Path, monkeypatch: pytest.MonkeyPatch, raises: str
) -> None:
    """After a boot with a slow network the worker ended with 78, and systemd starts it no more."""
    written.write_text(f"{raises}\n{GOOD}")
    with pytest.raises(NeedsNewProcessError, match=r"^worker.py cannot be imported: \w+ at worker.py:\d; if this "):
        user_code.load()
    monkeypatch.delitem(sys.modules, "worker", raising=False)


@pytest.mark.parametrize("file", ["worker.py", "defaults.py"])
def test_what_has_failed_half_way_is_not_imported_a_second_time_in_this_process(tmp_path: Path, file: str) -> None:
    """The metric was there already at the second try: the worker ended with 78, as if somebody must change worker.py.
    With a table of SQLAlchemy it waited for ever, also when the service was there again.
    """
    directory = program(tmp_path, GOOD)
    asks = "import prometheus_client\nprometheus_client.Counter('calls', '')\nraise ConnectionRefusedError\n"
    (directory / file).write_text(asks + GOOD)
    run = ended(directory, "main.py", "run")
    [line] = run.stderr.splitlines()
    assert f"{file} cannot be imported: ConnectionRefusedError at {file}:3; if this stays, " in line
    assert run.returncode == 1, "whoever has started it starts it again"


@pytest.mark.parametrize(
    "needs",
    [
        "import signal\nsignal.signal(signal.SIGUSR2, signal.SIG_DFL)",
        "import asyncio\nasyncio.get_event_loop()",
        "import asyncio\nasyncio.get_running_loop()",  # as aiohttp.ClientSession() does
    ],
)
def test_what_needs_the_main_thread_fails_here_as_it_does_in_run(
    written: Path, monkeypatch: pytest.MonkeyPatch, needs: str
) -> None:
    written.write_text(f"{needs}\n{GOOD}")
    with pytest.raises(ConfigError, match="it is imported in a thread: leave signals to the frame"):
        user_code.load()
    monkeypatch.delitem(sys.modules, "worker", raising=False)


@pytest.mark.parametrize(
    "text",
    [
        "libgomp.so.1: cannot open shared object file: No such file or directory",
        "Error loading shared library libgomp.so.1: No such file or directory",  # Alpine's
        "cannot load library 'libcairo.so.2': libcairo.so.2: cannot open it",  # by cffi
        "/lib/x.so: undefined symbol: a_b",
        "/lib/x.so: wrong ELF class: ELFCLASS32",
    ],
)
def test_a_shared_library_that_is_not_there_is_named_and_no_service_that_is_away(
    written: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """`import lightgbm` in a slim image: the worker waited for ever, and did not say for what."""
    written.write_text(f"raise OSError({text!r})\n{GOOD}")
    with pytest.raises(
        ConfigError, match=f"^worker.py cannot be imported: OSError at worker.py:1: {re.escape(text)}; "
    ):
        user_code.load()
    monkeypatch.delitem(sys.modules, "worker", raising=False)


def test_annotations_may_name_what_only_type_checkers_import(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Python 3.14, which needs no `from __future__` for that, `run` ended by a NameError of ours and a traceback."""
    source = """
    from typing import TYPE_CHECKING

    if TYPE_CHECKING:
        from orders_types import Order

    def setup() -> "Order" | None: ...

    def process(message: Order, consumer_name: str) -> list[Order]:
        return message
    """
    needed = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
    written.write_text(needed + dedent(source))
    assert user_code.load().process({}, "") == {}
    monkeypatch.delitem(sys.modules, "worker", raising=False)


def test_a_file_of_another_encoding_is_said_to_be_one(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written.write_text(GOOD, encoding="utf-16")  # so PowerShell's `>` writes it
    with pytest.raises(ConfigError) as caught:
        user_code.load()
    monkeypatch.delitem(sys.modules, "worker", raising=False)
    [problem] = caught.value.problems
    assert problem.startswith("worker.py cannot be imported: ")
    assert problem.endswith("; save it as UTF-8")


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        "async def process(message, consumer_name):\n    return message\nasync def setup():\n    pass\n",
        "class Process:\n    def __call__(self, message, name):\n        return message\nprocess = Process()\n",
        "class Process:\n    async def __call__(self, message, name):\n        return message\nprocess = Process()\n",
        "def process(message, *arguments, **named):\n    return message\n",
        "def process(message, consumer_name, pool=None):\n    return message\n",
    ],
)
def test_what_can_be_called_with_a_message_and_a_name_is_taken(
    written: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written.write_text(source)
    code = user_code.load()
    monkeypatch.delitem(sys.modules, "worker", raising=False)
    assert code.is_async == ("async" in source)
    assert not code.hides_async


def test_a_decorator_that_hides_an_async_def_is_seen(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may run the coroutine, so it is taken; but nothing told of it, and each message failed."""
    written.write_text(
        "import functools\ndef logged(f):\n    @functools.wraps(f)\n    def g(*a):\n        return f(*a)\n"
        "    return g\n@logged\nasync def process(message, consumer_name):\n    return message\n"
    )
    code = user_code.load()
    monkeypatch.delitem(sys.modules, "worker", raising=False)
    assert (code.is_async, code.hides_async) == (False, True)


DECORATED = """
import functools

def with_session(function):
    @functools.wraps(function)
    def called(*arguments):
        return function(*arguments, "a session")
    return called

@with_session
def process(message, consumer_name, session):
    return {"by": [consumer_name, session]}

@with_session
def setup(session):
    pass
"""


def test_what_a_decorator_adds_is_not_asked_of_the_worker(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended with 78: "process(message, consumer_name, session) must take two arguments", though it takes these."""
    written.write_text(DECORATED)
    code = user_code.load()
    monkeypatch.delitem(sys.modules, "worker")
    assert code.process({}, "orders") == {"by": ["orders", "a session"]}
    code.hooks.setup()


def test_what_a_decorator_leaves_over_is_what_counts(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written.write_text(
        "import functools\ndef of_message(f):\n    @functools.wraps(f)\n    def g(message):\n"
        "        return f(message, '')\n    return g\n@of_message\n"
        "def process(message, consumer_name):\n    return message\n"
    )
    with pytest.raises(ConfigError, match=r"process\(message\) must take two arguments"):
        user_code.load()
    monkeypatch.delitem(sys.modules, "worker")


def test_what_it_says_for_its_context_while_it_is_imported_holds_in_process(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is imported in a thread of its own: decimal rounded otherwise in the worker than in the tests of its user."""
    monkeypatch.setattr(user_code, "_OF_IMPORT", Context())
    written.write_text(
        "import decimal\ndecimal.getcontext().rounding = decimal.ROUND_HALF_UP\n"
        "def process(message, consumer_name):\n"
        "    return {'rounded': str(decimal.Decimal('2.5').quantize(decimal.Decimal(1)))}\n"
    )
    code = user_code.load()
    assert user_code.load().context is code.context, "also where it was imported before"
    monkeypatch.delitem(sys.modules, "worker")
    runner = runner_of("orders", Settings(), Histogram(), code)
    runner.open()
    runner.submit([group("1")])
    outcomes = runner.collect(60)
    runner.close(60)
    assert [result.value for each in outcomes for result in each.results] == [b'{"rounded":"3"}']


def program(directory: Path, source: str) -> Path:
    (directory / "bad.py").write_text(source)
    return copied(directory / "program", directory / "bad.py")


def ended(program: Path, *command: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    environ = {**kept, "CONSUMER_NAME": "orders", "DATABASE_URL": f"sqlite:///{program}/rows.db", **environ}
    return run_python(command, program, environ)


def test_run_and_check_say_it_and_other_commands_do_without_it(tmp_path: Path) -> None:
    source, says = BAD["import"]
    directory = program(tmp_path, source)
    init = ("init", "--topics-input", "a", "--topics-output", "b", "--kafka-bootstrap-server", "127.0.0.1:1")

    made, run, check = (ended(directory, "main.py", *command) for command in (init, ("run",), ("check",)))

    assert made.returncode == 0, made.stderr
    assert run.returncode == 78
    [line] = run.stderr.splitlines()
    assert line.startswith("{")
    assert says in line
    assert f"✗ worker.py    {says}" in check.stdout
    assert "✓ row" in check.stdout
    listing = ended(directory, "main.py", "dlq", "list")
    assert "cannot be reached" in listing.stderr
    assert ended(directory, "main.py", "--help").returncode == 0


def test_a_directory_that_hides_a_file_of_the_worker_is_named(tmp_path: Path) -> None:
    """Python prefers a package: it was a traceback with exit code 1, after which the worker is started again."""
    directory = program(tmp_path, GOOD)
    for name in ("models", "mine", "config"):
        (directory / name).mkdir()
        (directory / name / "__init__.py").touch()
    for command in ("run", "check"):
        done = ended(directory, "main.py", command)
        assert done.returncode == 78
        assert done.stderr.splitlines() == [
            f"the directory {name}/ hides {name}.py, which the worker needs: give it another name"
            for name in ("config", "models")
        ]


def test_a_file_that_has_the_name_of_a_directory_of_the_frame_shall_be_renamed_and_not_the_directory(
    tmp_path: Path,
) -> None:
    """A utils.py of the user's own: the advice was to give utils/ another name, without which nothing works."""
    directory = program(tmp_path, GOOD)
    (directory / "utils.py").touch()
    done = ended(directory, "main.py", "check")
    assert done.returncode == 78
    assert done.stderr.splitlines() == ["the directory utils/ hides utils.py: give utils.py another name"]


def test_what_hides_a_module_of_pythons_own_is_named(tmp_path: Path) -> None:
    """It was a traceback out of a library, and exit code 1."""
    directory = program(tmp_path, GOOD)
    (directory / "queue.py").touch()
    (directory / "email").mkdir()
    (directory / "email" / "__init__.py").touch()
    (directory / "json").mkdir()  # of data: it hides nothing
    done = ended(directory, "main.py", "check")
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        f"{name} hides a module of Python's own, which libraries need: give it another name"
        for name in ("queue.py", "email/")
    ]


def test_a_file_of_ones_own_in_the_place_of_one_of_the_frames_is_named(tmp_path: Path) -> None:
    """Those of a hand-written worker: it was a traceback and exit code 1."""
    directory = program(tmp_path, GOOD)
    names = ("config.py", "models.py", "utils/logger.py")
    for name in names:
        (directory / name).unlink()
        (directory / name).write_text("API_URL = 'https://prices.example'\n")
    (directory / ".#worker.py").symlink_to("user@host.1:2")  # as Emacs makes it of what is not saved yet
    done = ended(directory, "main.py", "check")
    assert done.returncode == 78
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        f"{name} is not the frame's, which the worker needs" for name in names
    ]


def test_probes_are_answered_while_it_is_imported(tmp_path: Path) -> None:
    """A model that takes more than a minute to load: Kubernetes started the worker again, for ever."""
    go, port = tmp_path / "go", free_port()
    waits = f"import pathlib, time\nwhile not pathlib.Path('{go}').exists():\n    time.sleep(0.05)\n"
    directory = program(tmp_path, waits + BAD["missing"][0])
    environ = {"CONSUMER_NAME": "orders", "DATABASE_URL": f"sqlite:///{directory}/rows.db", "HTTP_PORT": str(port)}
    with start_python(["main.py"], cwd=directory, env={**os.environ, **environ}, stderr=subprocess.DEVNULL) as run:
        try:
            assert eventually(lambda: _is_live(port), "an answer of the port")
            assert eventually(
                lambda: "the import of worker.py has not returned for" in _why(port), "why it is not ready"
            )
            go.touch()
            assert run.wait(60) == 78
        finally:
            run.kill()


def test_a_thread_that_it_begins_comes_to_its_end_as_in_any_program(tmp_path: Path) -> None:
    """One that writes, when all else has ended, what it has collected: it was cut off without a word."""
    written = tmp_path / "rows"
    source = f"""
    import pathlib, threading, time

    def write() -> None:
        threading.main_thread().join()
        time.sleep(0.1)
        pathlib.Path({str(written)!r}).touch()

    threading.Thread(target=write).start()
    """
    assert ended(program(tmp_path, dedent(source) + GOOD), "main.py", "run").returncode == 78, "there is no row"
    assert written.exists()


def _is_live(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _why(port: int) -> str:
    with (
        pytest.raises(HTTPError) as refused,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=60),
    ):
        pass
    return refused.value.read().decode()


def test_an_import_that_does_not_return_is_told_more_and_more_rarely(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that takes the connection and does not answer: the worker stood still, without a line."""
    told, enough = list[tuple[str, float]](), threading.Event()

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append((record.getMessage(), record.seconds))  # type: ignore[attr-defined]
            if len(told) == 3:
                enough.set()

    gate: Any = ModuleType("gate")
    gate.enough = enough
    monkeypatch.setitem(sys.modules, "gate", gate)
    monkeypatch.setattr(user_code, "IMPORT_IS_SLOW", 0.125)
    written.write_text(f"import gate\ngate.enough.wait(60)\n{GOOD}")
    noting = Noting()
    logger.addHandler(noting)
    try:
        user_code.load()
    finally:
        logger.removeHandler(noting)
        sys.modules.pop("worker", None)
    assert enough.is_set()
    assert told[:3] == [("worker.py has not been imported yet", seconds) for seconds in (0.125, 0.25, 0.5)]


LOGGING = {
    "all lines to a handler": "logging.config.dictConfig({'version': 1, 'root': {'handlers': ['all']},"
    " 'handlers': {'all': {'class': 'logging.StreamHandler'}}})",
    "another logger": "logging.config.dictConfig({'version': 1, 'loggers': {'mine': {'level': 'INFO'}}})",
    "no handler": "logging.config.dictConfig({'version': 1, 'root': {'level': 'INFO'}})",
    "by force": "logging.basicConfig(level=logging.INFO, force=True)",
}


@pytest.mark.parametrize("how", LOGGING)
def test_however_it_sets_up_logging_what_is_wrong_is_told_once(tmp_path: Path, how: str) -> None:
    """The process ended with 78 and without a word: dictConfig() disables the loggers that it does not name."""
    run = ended(program(tmp_path, f"import logging.config\n{LOGGING[how]}\n{GOOD}"), "main.py", "run")
    assert run.returncode == 78
    [line] = run.stderr.splitlines()
    assert "rows.db is not there" in line


def test_what_is_wrong_with_defaults_py_is_one_line_too(tmp_path: Path) -> None:
    directory = program(tmp_path, GOOD)
    (directory / "defaults.py").write_text("DB_PORT = 3306\nDB_NAME = DATABASE\n")
    for command in ("run", "check"):
        done = ended(directory, "main.py", command)
        assert done.returncode == 78
        told = done.stdout + done.stderr
        assert "defaults.py cannot be imported: NameError at defaults.py:2: name 'DATABASE' is not defined" in told
        assert "Traceback" not in told
    assert ended(directory, "-m", "utils.processing.user_code").returncode == 1


def test_what_a_variable_that_is_not_set_has_left_in_defaults_py_counts_as_left_out(tmp_path: Path) -> None:
    """`os.getenv()` gives None, which was called wrong: `run` ended with 78."""
    directory = program(tmp_path, GOOD)
    names = ("DB_PASSWORD", "MESSAGE_TIMEOUT", "KAFKA_SASL_PASSWORD", "KAFKA_SSL_KEY_PASSWORD_FILE")
    lines = [f"{name} = os.getenv('{name}')\n" for name in names]
    (directory / "defaults.py").write_text(f"import os\n{''.join(lines)}")
    [line] = ended(directory, "main.py", "run").stderr.splitlines()
    assert "rows.db is not there" in line


def test_there_need_not_be_a_defaults_py(tmp_path: Path) -> None:
    directory = program(tmp_path, GOOD)
    (directory / "defaults.py").unlink()
    assert "rows.db is not there" in ended(directory, "main.py", "run").stderr


def test_a_thread_that_never_ends_does_not_hold_up_the_making_of_an_image(tmp_path: Path) -> None:
    begins = "import threading\nprint('begun')\nthreading.Thread(target=threading.Event().wait).start()\n"
    done = ended(program(tmp_path, begins + GOOD), "-m", "utils.processing.user_code")
    assert (done.returncode, done.stdout) == (0, "begun\n")


def test_an_image_is_not_made_with_what_cannot_run_but_with_what_wants_its_environment(tmp_path: Path) -> None:
    bad = program(tmp_path, BAD["one argument"][0])
    tried = ended(bad, "-m", "utils.processing.user_code")
    assert (tried.returncode, tried.stderr.strip()) == (1, BAD["one argument"][1])
    for lacks in ("shared library", "pattern"):
        (bad / "worker.py").write_text(BAD[lacks][0])
        assert ended(bad, "-m", "utils.processing.user_code").returncode == 1, lacks
    asks = "import os\ndef __getattr__(name):\n    try:\n        return os.environ[name]\n"
    asks += "    except KeyError:\n        raise AttributeError(name) from None\n"
    (bad / "of_the_environment.py").write_text(asks)
    for wrong, code in (
        ("import config\nURL = config.API_URL", 1),
        ("import of_the_environment\nURL = of_the_environment.API_URL", 0),
        ("import os\nTOKEN = os.environ['NO_SUCH_TOKEN']", 0),
        ("import os\nTOKEN = os.environ.get('NO_SUCH_TOKEN').strip()", 0),
    ):
        (bad / "worker.py").write_text(dedent(f"{wrong}\n{GOOD}"))
        assert ended(bad, "-m", "utils.processing.user_code").returncode == code, wrong


@pytest.mark.parametrize("command", [("-m", "utils.processing.user_code"), ("main.py", "demo", "--results", "1")])
def test_defaults_py_is_imported_before_worker_py(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A .env that is loaded there was not: what worker.py had from it was said to be missing."""
    directory = program(tmp_path, f"import os\nURL = os.environ['PRICES_URL']\n{GOOD}")
    (directory / "defaults.py").write_text("import os\nos.environ['PRICES_URL'] = 'http://prices.example'\n")
    done = ended(directory, *command)
    assert done.returncode == 0, done.stderr
    assert "cannot be imported" not in done.stderr


def test_the_step_of_the_dockerfile_that_copies_the_program_fails_with_it(tmp_path: Path) -> None:
    source = program(tmp_path, BAD["missing"][0])
    (source / ".frame").touch()
    target = tmp_path / "app"
    target.mkdir()
    (target / ".venv").symlink_to(sys.prefix)
    made = subprocess.run(
        ["sh", ROOT / "deploy/image.sh", "program", target], cwd=source, capture_output=True, text=True
    )
    assert made.returncode != 0
    assert made.stderr.strip().splitlines()[-1] == BAD["missing"][1]
