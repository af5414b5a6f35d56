"""The command line as people meet it: what it prints, what it waits for, and how it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url, text

import main
from config import ConfigError, UnavailableError
from models import Row, engine, init_db, load, ping, save, set_paused
from tests.conftest import Topics
from tests.integration.workers import eventually
from tests.kafka.brokers import listening
from tests.monitoring.test_status import has_ipv6
from tests.program import FORWARDING, ROOT, copied, program
from tests.services.kafka import KafkaBroker, unique_name
from tests.services.processes import free_port
from tests.services.starts import start_python

SECONDS = 120.0  # that anything may take before a test fails
INIT = ("init", "--topics-input", "a,b", "--topics-output", "c", "--kafka-bootstrap-server", "h:9092")


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    log: list[str]  # the messages of the JSON lines on stderr


class Worker:
    """One `python main.py` with nothing in its environment but what is given here."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        names = ("PATH", "HOME", "LD_LIBRARY_PATH", "SYSTEMROOT")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        self.process: subprocess.Popen[str] = start_python(
            ["main.py", *arguments],
            cwd=program(),
            env={**kept, "CONSUMER_NAME": "orders", **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8" if environ.get("PYTHONIOENCODING") != "ascii" else "ascii",
        )

    def waits_for(self, text: str) -> str:
        """Read the log up to the line with this text."""
        assert self.process.stderr
        for line in self.process.stderr:
            if text in line:
                return line
        raise AssertionError(f"ended without a word of {text!r}")

    def end(self) -> Ended:
        out, log = self.process.communicate(timeout=SECONDS)
        assert "Traceback" not in out + log
        lines = log.splitlines()
        return Ended(self.process.returncode, out, [json.loads(line)["message"] for line in lines if line[0] == "{"])


@contextmanager
def working(*arguments: str, **environ: str) -> Iterator[Worker]:
    worker = Worker(*arguments, **environ)
    watchdog = threading.Timer(SECONDS, worker.process.kill)  # whoever reads its output then sees the end of it
    watchdog.start()
    try:
        yield worker
    finally:
        watchdog.cancel()
        worker.process.kill()
        worker.process.communicate()


def run(*arguments: str, **environ: str) -> Ended:
    with working(*arguments, **environ) as worker:
        return worker.end()


def with_row(url: str, *, servers: str = "h:9092", topics: tuple[str, str] = ("a,b", "c"), metadatas: str = "") -> str:
    """The database with a row for `orders`; its URL."""
    database = with_table(url)
    save(database, Row.validated("orders", *topics, servers, metadatas))
    return url


def with_table(url: str) -> Engine:
    database = engine(make_url(url), create=True)
    init_db(database)
    return database


# ---------------------------------------------------------------- the command line


def test_help_tells_the_commands_the_environment_and_the_exit_codes() -> None:
    ended = run("--help")

    assert ended.code == 0
    for word in ("run", "check", "init", "demo", "CONSUMER_NAME", "DATABASE_URL", "KAFKA_<PROPERTY>", "78"):
        assert word in ended.out


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("fleet", "--help")])
def test_a_help_that_cannot_be_written_is_no_success(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-u", "main.py", *arguments]
        done = subprocess.run(command, cwd=program(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=SECONDS)
    assert done.returncode == 1
    assert "standard output cannot be written: No space left on device" in done.stderr


IDS = [
    ("trace", ""),
    ("try", "--id", ""),
    ("dlq", "show", ""),
    ("dlq", "show", "--id", ""),
    ("dlq", "discard", "--id", "", "--reason", "too_large"),
]


@pytest.mark.parametrize("arguments", IDS)
def test_an_id_is_never_empty_though_a_variable_of_a_shell_may_be(arguments: tuple[str, ...]) -> None:
    """`dlq discard --id "$id" --reason …` would discard all of that reason."""
    with working(*arguments, DATABASE_URL="sqlite:////no/f") as worker:
        out, log = worker.process.communicate(timeout=SECONDS)
    assert (out, worker.process.returncode) == ("", 78)
    assert re.fullmatch("main.py .*: error: argument (ID|--id): must not be empty", log.splitlines()[-1])


def test_an_argument_that_is_no_utf_8_is_bad_configuration(caplog: pytest.LogCaptureFixture) -> None:
    assert main.main(["trace", "1\udcff"]) == 78
    assert caplog.messages == ["the argument '1\\udcff' is no text in UTF-8"]


@pytest.mark.parametrize("arguments", [("no-such-command",), ("init",), ("check", "--no-such-option")])
def test_a_wrong_command_line_is_bad_configuration(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).code == 78


def test_an_empty_environment_names_everything_that_is_missing() -> None:
    ended = run(CONSUMER_NAME="")

    assert ended.code == 78
    assert [message.split()[0] for message in ended.log] == ["CONSUMER_NAME", "DB_NAME", "DB_USER"]


# ---------------------------------------------------------------- defaults.py


def test_what_defaults_py_says_holds_where_the_environment_says_nothing(tmp_path: Path, sqlite_url: str) -> None:
    defaults = f"CONSUMER_NAME = 'consumer_1'\nDATABASE_URL = {with_row(sqlite_url)!r}\n"
    done = subprocess.run(
        [sys.executable, "main.py", "run"],
        cwd=copied(tmp_path / "program", FORWARDING, defaults),
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 78
    assert "no row 'consumer_1' (CONSUMER_NAME), but: orders" in done.stderr


# ---------------------------------------------------------------- run: what does not heal


def test_a_missing_sqlite_file_is_one_clear_line_and_not_created(sqlite_url: str) -> None:
    ended = run(DATABASE_URL=sqlite_url)

    assert ended.code == 78
    (line,) = ended.log
    assert "is not there" in line
    assert not Path(make_url(sqlite_url).database or "").exists()


def test_a_missing_table_names_the_command_that_creates_it(database_url: str) -> None:
    ping(engine(make_url(database_url), create=True))

    ended = run(DATABASE_URL=database_url)

    assert ended.code == 78
    (line,) = ended.log
    assert "python main.py init" in line


def test_a_missing_row_names_those_that_exist(database_url: str) -> None:
    ended = run(DATABASE_URL=with_row(database_url), CONSUMER_NAME="payments")

    assert ended.code == 78
    (line,) = ended.log
    assert "no row 'payments' (CONSUMER_NAME), but: orders" in line


def test_metadatas_that_are_not_json_are_one_clear_line(sqlite_url: str) -> None:
    ended = run(DATABASE_URL=with_row(sqlite_url, metadatas="{see the wiki"))

    assert ended.code == 78
    assert ended.log == [
        "metadatas must be JSON, or empty, or a note: "
        "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    ]


def test_settings_of_the_row_are_checked_too(sqlite_url: str) -> None:
    ended = run(DATABASE_URL=with_row(sqlite_url, metadatas='{"message_timeout": 0, "delivery": "never"}'))

    assert ended.code == 78
    assert [message.split()[0] for message in ended.log] == ["metadatas.message_timeout", "metadatas.delivery"]


@pytest.mark.parametrize(
    "server",
    [
        pytest.param("mariadb_url", marks=pytest.mark.mariadb),
        pytest.param("postgresql_url", marks=pytest.mark.postgresql),
    ],
)
def test_a_wrong_password_is_one_clear_line_without_it(server: str, request: pytest.FixtureRequest) -> None:
    url = make_url(request.getfixturevalue(server)).set(password="topsecret")

    ended = run(DATABASE_URL=url.render_as_string(hide_password=False))

    assert ended.code == 78
    (line,) = ended.log
    assert "check DB_USER and DB_PASSWORD (or DATABASE_URL)" in line
    assert "topsecret" not in line


def test_mysql_is_reached_by_its_parts_with_any_password(mariadb_url: str) -> None:
    url = make_url(mariadb_url)
    parts = {"DB_HOST": url.host, "DB_PORT": url.port, "DB_NAME": url.database, "DB_USER": url.username}

    ended = run(DB_PASSWORD=f"{url.password}", **{name: str(part) for name, part in parts.items()})

    assert ended.code == 78
    assert "has no table consumer_configs" in ended.log[0]


def test_a_broker_that_wants_tls_is_one_clear_line(sqlite_url: str) -> None:
    alert = bytes([0x15, 3, 3, 0, 2, 2, 40])  # TLS: fatal, handshake failure

    def refuse(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(alert)

    with listening(refuse) as address:
        ended = run(DATABASE_URL=with_row(sqlite_url, servers=address))

    assert ended.code == 78
    assert ended.log[-1].startswith(f"{address} wants TLS: set KAFKA_SECURITY_PROTOCOL")


def test_a_missing_topic_is_one_clear_line_that_names_what_exists(
    sqlite_url: str, real_kafka: KafkaBroker, topics: Topics
) -> None:
    (a,) = topics(real_kafka, "a")

    ended = run(DATABASE_URL=with_row(sqlite_url, servers=real_kafka.bootstrap, topics=(a, f"{a}x")))

    assert ended.code == 78
    assert ended.log[-1].startswith(f"topic {a}x of topics_output does not exist")
    assert f"there are: {a}" in ended.log[-1]


# ---------------------------------------------------------------- run: what heals, and signals


@contextmanager
def relay(port: int, target: tuple[str, int]) -> Iterator[None]:
    """Whoever connects to the port talks to the target."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(target)
                ends.enter_context(here)
                ends.enter_context(there)
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with ExitStack() as ends, closing(socket.create_server(("127.0.0.1", port))) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(SECONDS)


@pytest.mark.parametrize(
    "server",
    [
        pytest.param("mariadb_url", marks=pytest.mark.mariadb),
        pytest.param("postgresql_url", marks=pytest.mark.postgresql),
    ],
)
def test_a_database_that_is_not_up_yet_is_waited_for(server: str, request: pytest.FixtureRequest) -> None:
    url = make_url(request.getfixturevalue(server))
    with_table(url.render_as_string(hide_password=False))
    port = free_port()
    through = url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)

    with working(DATABASE_URL=through) as worker:
        waiting = json.loads(worker.waits_for("waiting"))
        assert f"at 127.0.0.1:{port} cannot be reached" in waiting["message"]
        assert waiting["next_try_in_s"] == 1
        with relay(port, (url.host or "", url.port or 0)):
            worker.waits_for("no row 'orders'")  # so it has been there
            assert worker.end().code == 78


def test_a_broker_that_is_not_up_yet_is_waited_for(sqlite_url: str, real_kafka: KafkaBroker) -> None:
    port = free_port()
    host, _, real_port = real_kafka.bootstrap.partition(":")

    with working(DATABASE_URL=with_row(sqlite_url, servers=f"127.0.0.1:{port}")) as worker:
        worker.waits_for("waiting: Kafka at")
        with relay(port, (host, int(real_port))):
            worker.waits_for("topic a of topics_input does not exist")
            assert worker.end().code == 78


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_waiting_in_order(number: signal.Signals) -> None:
    url = f"mysql://u:p@127.0.0.1:{free_port()}/d"

    with working(DATABASE_URL=url) as worker:
        worker.waits_for("waiting")
        worker.process.send_signal(number)
        ended = worker.end()
        assert (ended.code, ended.log) == (0, [])  # and it has not tried again


def test_a_signal_ends_it_also_while_a_server_keeps_it_hanging() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"postgresql://u:p@127.0.0.1:{silent.getsockname()[1]}/d"
        with working("run", DATABASE_URL=url) as worker:
            connection, _ = silent.accept()
            with connection:
                worker.process.send_signal(signal.SIGTERM)
                ended = worker.end()
                assert (ended.code, ended.log) == (0, [])  # and it has not waited for the server to be slow


def test_the_second_signal_ends_it_at_once_also_where_another_thread_receives_it() -> None:
    code = "import time\nfrom utils.running import lifetime\nlifetime.AGAIN = 0.1\nlifetime.stop_on_signals()\n"
    code += "print('ready', flush=True)\ntime.sleep(60)"
    ends = []
    for _ in range(20):  # of two signals at once the kernel gives the second to another thread now and then
        with start_python(["-c", code], cwd=program(), stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            try:
                for _ in range(int(SECONDS / 0.2)):  # on a busy machine the first two may be read as one
                    time.sleep(0.2)
                    if process.poll() is not None:
                        break
                    process.send_signal(signal.SIGTERM)
                    process.send_signal(signal.SIGINT)
                ends.append(process.wait(SECONDS))
            finally:
                process.kill()
    assert ends == [1] * 20


def test_a_worker_alone_that_is_slow_to_end_does_not_end_the_process_until_that_is_to_stop() -> None:
    slow = """
import threading, time
from utils.running import lifetime

lifetime.GRACE = 0.0
process_stop = threading.Event()
with lifetime.ending_in_time(process_stop, 0.0) as worker_stop:
    worker_stop.set()
    time.sleep(0.5)
    print('still there', flush=True)
    process_stop.set()
    time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", slow], cwd=program(), stdout=subprocess.PIPE, text=True, timeout=SECONDS
    )
    assert (done.stdout, done.returncode) == ("still there\n", 1)


def assert_a_signal_ends(code: str, stderr: int | None = None) -> None:
    """With 1, once it has said that it is ready. What it writes to `stderr` nobody reads."""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=program(), text=True, stdout=subprocess.PIPE, stderr=stderr) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(SECONDS) == 1
        finally:
            process.kill()


def test_a_signal_ends_it_also_while_its_main_thread_is_stuck_in_a_call_of_a_library() -> None:
    stuck = """
import ctypes, os, pathlib, threading
from utils.running import lifetime

worker = lifetime.ending_in_time(lifetime.stop_on_signals(), 0.0)
worker.__enter__()
mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
syscall = pathlib.Path(f'/proc/self/task/{os.getpid()}/syscall')

def tell():
    while hex(ctypes.addressof(mutex)) not in syscall.read_text():
        pass
    print('ready', flush=True)

threading.Thread(target=tell).start()
lock(mutex), lock(mutex)
"""
    assert_a_signal_ends(stuck)


def test_a_call_that_lets_no_other_thread_run_ends_the_process_and_is_named() -> None:
    """A regular expression that tries for ever: no thread of Python can see it."""
    stands_still = """
import re, threading, time
from utils.running import lifetime

def process():
    re.match('(a+)+$', 'a' * 60 + 'b')

with lifetime.ending_in_time(threading.Event(), 0.0, standstill=3.0):
    time.sleep(2.5)  # it is armed by now, and again
    print('begins', flush=True)
    process()
"""
    pipe = subprocess.PIPE
    done = subprocess.run(
        [sys.executable, "-c", stands_still], cwd=program(), stdout=pipe, stderr=pipe, text=True, timeout=SECONDS
    )
    assert (done.stdout, done.returncode) == ("begins\n", 1)
    assert "in process" in done.stderr


def test_a_forked_child_ends_also_while_the_timer_of_a_standstill_runs() -> None:
    forks = """
import os, sys, threading, time
from utils.running import first_moment, lifetime

first_moment.begin()
with lifetime.ending_in_time(threading.Event(), 0.0, standstill=600.0):
    time.sleep(1.5)  # it is armed by now
    for _ in range(20):
        if not (child := os.fork()):
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    time.sleep(1.5)
"""
    with subprocess.Popen([sys.executable, "-c", forks], cwd=program(), start_new_session=True) as process:
        try:
            assert process.wait(SECONDS) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and a child that waits for ever


def test_a_thread_that_process_has_left_behind_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    """As of an executor whose call process() has given up. Python waits for it without an end."""
    worker = tmp_path / "worker.py"
    worker.write_text("""
import time
from concurrent.futures import ThreadPoolExecutor

pool = ThreadPoolExecutor()

def process(message, consumer_name):
    pool.submit(time.sleep, 10**6)
    return message
""")
    (tmp_path / "messages.jsonl").write_text('{"id": "1"}\n')
    done = subprocess.run(
        [sys.executable, "main.py", "try", "--file", str(tmp_path / "messages.jsonl")],
        cwd=copied(tmp_path / "program", worker), capture_output=True, text=True, timeout=SECONDS,
        env={**os.environ, "CONSUMER_NAME": "orders"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ended without threads that do not end" in done.stderr


def test_where_threads_run_nothing_ends_the_process() -> None:
    lives = """
import threading, time
from utils.running import lifetime

with lifetime.ending_in_time(threading.Event(), 0.0, standstill=2.0):
    time.sleep(5)
time.sleep(3)  # nor after the worker has ended
"""
    assert subprocess.run([sys.executable, "-c", lives], cwd=program(), timeout=SECONDS).returncode == 0


def test_a_signal_ends_it_also_while_nobody_reads_its_log() -> None:
    """A log shipper that hangs: the loop waits for it, and who was to end the process did, too."""
    unheard = """
import contextlib, os
from utils.logger import configure, logger
from utils.running import lifetime

worker = lifetime.ending_in_time(lifetime.stop_on_signals(), 0.0)
worker.__enter__()
configure("INFO")
os.set_blocking(2, False)
with contextlib.suppress(BlockingIOError):
    while True:
        os.write(2, b"full")
os.set_blocking(2, True)
print('ready', flush=True)
logger.error("nobody will read this")
"""
    assert_a_signal_ends(unheard, stderr=subprocess.PIPE)


def test_a_signal_ends_it_also_where_it_waits_for_its_database_and_nobody_reads_its_log() -> None:
    """It waited for ever with its next line, which said that it waits."""
    code = "import main\nfrom utils.running import lifetime\nlifetime.AT_LAST = 0.0\nlifetime.leave(main.main([]))"
    url = f"mysql://u:p@127.0.0.1:{free_port()}/d"
    env = {"PATH": os.environ["PATH"], "CONSUMER_NAME": "c", "SHUTDOWN_TIMEOUT": "0.5", "DATABASE_URL": url}
    heard, told = os.pipe()
    full = os.open(f"/proc/self/fd/{told}", os.O_WRONLY | os.O_NONBLOCK)
    with start_python(["-c", code], cwd=program(), env=env, stderr=told) as process:
        try:
            said = b""
            while b"waiting: " not in said:
                said += os.read(heard, 65_536)
            for size in (4_096, 1):
                with suppress(BlockingIOError):
                    while True:
                        os.write(full, b"x" * size)
            syscall = Path(f"/proc/{process.pid}/syscall")
            eventually(lambda: syscall.read_text().split()[1:2] == ["0x2"], "a line that nobody takes", SECONDS)
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 1
        finally:
            process.kill()
            for each in (heard, told, full):
                os.close(each)


# ---------------------------------------------------------------- init


def test_init_inserts_and_then_updates(database_url: str) -> None:
    first = run(*INIT, "--metadatas", '{"message_timeout": 5}', DATABASE_URL=database_url)
    second = run(*INIT[:2], "x, y", *INIT[3:], DATABASE_URL=database_url)

    assert (first.code, second.code) == (0, 0)
    assert first.out == "table consumer_configs created\nrow orders inserted: a, b -> c\n"
    assert second.out == "table consumer_configs is there\nrow orders updated: x, y -> c\n"
    assert load(engine(make_url(database_url)), "orders") == Row(
        "orders", ("x", "y"), ("c",), "h:9092", '{"message_timeout": 5}'
    )


@pytest.mark.parametrize("metadatas", ['{"message_timeout": 5.0}', '\ufeff{"message_timeout": 5.0}', "", None])
def test_init_keeps_the_pause_that_somebody_has_set(sqlite_url: str, metadatas: str | None) -> None:
    """A deployment in an incident must not let the workers go on."""
    database = with_table(sqlite_url)
    assert "paused" not in run(*INIT, DATABASE_URL=sqlite_url).out
    set_paused(database, ["orders"], paused=True)
    given = () if metadatas is None else ("--metadatas", metadatas)
    ended = run(*INIT, *given, DATABASE_URL=sqlite_url)
    assert ended.out.splitlines()[-1] == "row orders stays paused: its workers go on after fleet resume orders"
    assert load(database, "orders").metadatas == (
        '{"message_timeout": 5.0, "paused": true}' if metadatas else '{"paused": true}'
    )
    ended = run(*INIT, "--metadatas", '{"paused": false}', DATABASE_URL=sqlite_url)
    assert ended.out.splitlines()[-1] == "row orders is no longer paused: its workers go on"
    assert load(database, "orders").metadatas == '{"paused": false}'


def test_init_says_so_where_a_note_takes_the_place_of_a_pause(sqlite_url: str) -> None:
    database = with_table(sqlite_url)
    assert run(*INIT, "--metadatas", '{"paused": true}', DATABASE_URL=sqlite_url).out.endswith("fleet resume orders\n")
    ended = run(*INIT, "--metadatas", "ask the team", DATABASE_URL=sqlite_url)
    assert ended.out.splitlines()[-1] == "row orders is no longer paused: its workers go on"
    assert load(database, "orders").metadatas == "ask the team"


def test_init_says_so_where_a_worker_could_not_read_what_it_has_written(sqlite_url: str) -> None:
    with with_table(sqlite_url).begin() as connection:
        connection.execute(text("ALTER TABLE consumer_configs DROP COLUMN metadatas"))

    ended = run(*INIT, DATABASE_URL=sqlite_url)

    assert ended.code == 78
    assert "without some column of models.py: add it" in ended.log[-1]


def test_init_names_all_problems_at_once_and_writes_nothing(sqlite_url: str) -> None:
    bad = ("init", "--topics-input", "a,a", "--topics-output", "a", "--kafka-bootstrap-server", "h:x")

    ended = run(*bad, "--metadatas", "{", DATABASE_URL=sqlite_url, MESSAGE_TIMEOUT="never")

    assert ended.code == 78
    assert len(ended.log) == 5
    for part in (
        "MESSAGE_TIMEOUT",
        "names a twice",
        "an input too",
        "kafka_bootstrap_server",
        "metadatas must be JSON",
    ):
        assert any(part in message for message in ended.log)
    assert not Path(make_url(sqlite_url).database or "").exists()


def test_init_warns_of_a_key_that_is_nearly_a_setting(sqlite_url: str) -> None:
    ended = run(*INIT, "--metadatas", '{"message_timout": 5}', DATABASE_URL=sqlite_url)

    assert ended.code == 0
    assert "did you mean message_timeout?" in ended.log[0]


@pytest.mark.parametrize("dead_letters", ["c", "orders-offsets"])
def test_init_refuses_dead_letters_in_another_topic_of_the_consumer(sqlite_url: str, dead_letters: str) -> None:
    ended = run(*INIT, DATABASE_URL=sqlite_url, DLQ_TOPIC=dead_letters)
    assert ended.code == 78
    [line] = ended.log
    assert line.startswith(f"DLQ_TOPIC is {dead_letters}, wh")
    with pytest.raises(ConfigError, match="has no row"):
        load(engine(make_url(sqlite_url)), "orders")


def test_init_goes_by_the_metadatas_that_stay(sqlite_url: str) -> None:
    """Not by what the environment says beside them."""
    assert run(*INIT, "--metadatas", '{"dlq_topic": "failed"}', DATABASE_URL=sqlite_url).code == 0
    assert run(*INIT, DATABASE_URL=sqlite_url, DLQ_TOPIC="c").code == 0
    assert run(*INIT[:4], "failed", *INIT[5:], DATABASE_URL=sqlite_url).code == 78
    assert run(*INIT[:4], "failed", *INIT[5:], "--metadatas", "", DATABASE_URL=sqlite_url).code == 0


def test_init_warns_of_what_another_row_takes(sqlite_url: str) -> None:
    assert run(*INIT, DATABASE_URL=sqlite_url).log == []
    ended = run(*INIT[:4], "orders-offsets", *INIT[5:], DATABASE_URL=sqlite_url, CONSUMER_NAME="bills")
    assert ended.code == 0
    assert ended.log == [
        "row bills: topics_output names orders-offsets, where orders keeps its maps: choose another topic"
    ]


def test_init_without_a_database_does_not_wait() -> None:
    ended = run(*INIT, DATABASE_URL=f"mysql://u:p@127.0.0.1:{free_port()}/d")

    assert ended.code == 1
    (line,) = ended.log
    assert "cannot be reached" in line


# ---------------------------------------------------------------- check


def checked(ended: Ended) -> list[str]:
    """Mark and subject of each line."""
    return [" ".join(line.split()[:2]) for line in ended.out.splitlines()]


def test_check_goes_through_everything(database_url: str, real_kafka: KafkaBroker, topics: Topics) -> None:
    a, b, c = topics(real_kafka, "a", "b", "c")

    ended = run("check", DATABASE_URL=with_row(database_url, servers=real_kafka.bootstrap, topics=(f"{a},{b}", c)))

    subjects = "settings http worker.py database row names properties broker session topics partitions reading dead"
    subjects += " writing replay maps commits"
    assert checked(ended) == [f"✓ {subject}" for subject in subjects.split()]
    assert "and stay for 7 d without a worker (" in ended.out
    assert ended.code == 0


def test_check_tells_of_a_row_that_is_paused(sqlite_url: str) -> None:
    """By all else that it says, the worker would take messages in."""
    ended = run("check", DATABASE_URL=with_row(sqlite_url, metadatas='{"paused": true}'))
    assert "- row          paused: a worker takes nothing in until fleet resume orders" in ended.out.splitlines()
    assert "paused" not in run("check", DATABASE_URL=with_row(sqlite_url)).out


def test_check_goes_on_after_a_failure(sqlite_url: str, real_kafka: KafkaBroker, topics: Topics) -> None:
    (a,), (b,) = topics(real_kafka, "a", partitions=3), topics(real_kafka, "b", partitions=2)
    url = with_row(sqlite_url, servers=real_kafka.bootstrap, topics=(f"{a},{b}", f"{a}-gone"), metadatas="{")

    ended = run("check", DATABASE_URL=url, MESSAGE_TIMEOUT="never")

    marks = [
        "✗ settings",
        "✓ http",
        "✓ worker.py",
        "✓ database",
        "✗ row",
        "✓ names",
        "✓ properties",
        "✓ broker",
        "✓ session",
    ]
    marks += ["✗ topics", "✗ partitions", "✓ reading", "✓ dead", "- writing", "✓ replay", "✓ maps", "✓ commits"]
    assert checked(ended) == marks
    assert ended.code == 78


def test_check_does_not_try_a_database_that_nobody_means() -> None:
    """It complained of the default port, too."""
    ended = run("check", CONSUMER_NAME="orders", DB_HOST="127.0.0.1", DB_NAME="d", DB_USER="u", DB_PORT="99999")
    assert ended.code == 78
    assert checked(ended) == ["✗ settings", "✓ worker.py", "- the"]


def test_check_does_not_wait_and_says_what_it_could_not_try(sqlite_url: str) -> None:
    ended = run("check", DATABASE_URL=with_row(sqlite_url, servers=f"127.0.0.1:{free_port()}"))

    assert checked(ended) == [
        "✓ settings",
        "✓ http",
        "✓ worker.py",
        "✓ database",
        "✓ row",
        "✓ names",
        "✓ properties",
        "✗ broker",
        "- the",
    ]
    assert "it needs the broker" in ended.out
    assert ended.code == 78


def test_check_finds_what_only_one_of_the_clients_refuses(sqlite_url: str) -> None:
    url = with_row(sqlite_url, servers=f"127.0.0.1:{free_port()}")

    ended = run("check", DATABASE_URL=url, KAFKA_MAX_POLL_INTERVAL_MS="5000")

    assert "✗ properties" in checked(ended)
    assert "KAFKA_MAX_POLL_INTERVAL_MS" in ended.out
    assert ended.code == 78


def test_what_a_client_refuses_is_said_once(sqlite_url: str) -> None:
    url = with_row(sqlite_url, servers=f"127.0.0.1:{free_port()}")
    environ = {"DATABASE_URL": url, "KAFKA_NO_SUCH_PROPERTY": "1"}
    for command in ("check", "run"):
        ended = run(command, **environ)
        assert f"{ended.out}{ended.log}".count("KAFKA_NO_SUCH_PROPERTY") == 1
        assert ended.code == 78


def test_what_is_tried_of_the_clients_prints_nothing_of_theirs_beside_the_log(sqlite_url: str) -> None:
    url = with_row(sqlite_url, servers=f"127.0.0.1:{free_port()}")
    with working("run", DATABASE_URL=url, KAFKA_DEBUG="all", KAFKA_NO_SUCH_PROPERTY="1") as worker:
        _, log = worker.process.communicate(timeout=SECONDS)
    assert "KAFKA_NO_SUCH_PROPERTY" in log
    assert [line for line in log.splitlines() if not line.startswith("{")] == []


def test_check_beside_a_worker_takes_its_port_for_that_of_a_worker(sqlite_url: str) -> None:
    environ = {"DATABASE_URL": with_row(sqlite_url, servers=f"127.0.0.1:{free_port()}"), "HTTP_PORT": f"{free_port()}"}
    assert "✓ http" in checked(run("check", **environ))
    with working(**environ) as worker:
        worker.waits_for("row loaded")
        assert "- http" in checked(run("check", **environ))
    with closing(socket.create_server(("127.0.0.1", int(environ["HTTP_PORT"])))):
        tried, ended = run("check", **environ), run("run", **environ)
    [line] = ended.log
    assert line.startswith(f"HTTP_PORT, HTTP_HOST: cannot listen on 127.0.0.1:{environ['HTTP_PORT']} (")
    assert f"✗ http         {line}" in tried.out.splitlines(), "both say the same, to the letter"
    assert (tried.code, ended.code) == (78, 78)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
def test_a_worker_and_the_check_beside_it_listen_over_ipv6(sqlite_url: str) -> None:
    environ = {"DATABASE_URL": with_row(sqlite_url, servers=f"127.0.0.1:{free_port()}"), "HTTP_HOST": "::"}
    assert "✓ http         ::, any free port" in run("check", HTTP_PORT="0", **environ).out
    with working(HTTP_PORT="0", **environ) as worker:
        status = json.loads(worker.waits_for("row loaded"))["status"]
        port = status.removeprefix("http://[::]:").removesuffix("/")
        assert "- http" in checked(run("check", HTTP_PORT=port, **environ))
        environ["HTTP_HOST"] = "::1"
        assert "- http" in checked(run("check", HTTP_PORT=port, **environ))


def test_an_older_python_is_told() -> None:
    """It was an AttributeError with a traceback."""
    code = "import runpy, sys; sys.version_info = (3, 10, 1); runpy.run_path('main.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 78
    assert done.stderr.startswith("the worker needs Python 3.11 or newer, and this is ")
    assert done.stderr.count("\n") == 1


def test_a_python_without_the_packages_is_told() -> None:
    """Where .venv was not activated it was a traceback, and an exit code that means: start it again."""
    done = subprocess.run([sys.executable, "-S", "main.py", "check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 78
    assert done.stderr.endswith(": `make setup`, then `source .venv/bin/activate`\n")
    assert done.stderr.count("\n") == 1


def test_no_log_level_hides_why_a_worker_does_not_start(sqlite_url: str) -> None:
    with_table(sqlite_url)

    ended = run(DATABASE_URL=sqlite_url, LOG_LEVEL="CRITICAL")

    [line] = ended.log
    assert "orders" in line
    assert ended.code == 78


def test_check_shows_no_password(mariadb_url: str) -> None:
    url = make_url(mariadb_url)

    ended = run("check", DATABASE_URL=mariadb_url)

    assert re.search(r"database +mysql\+pymysql://.*:\*\*\*@", ended.out)
    assert f":{url.password}@" not in ended.out


def test_check_says_that_a_worker_without_outputs_is_one(
    sqlite_url: str, real_kafka: KafkaBroker, topics: Topics
) -> None:
    (a,) = topics(real_kafka, "a")

    ended = run("check", DATABASE_URL=with_row(sqlite_url, servers=real_kafka.bootstrap, topics=(a, "")))

    [writing] = [line for line in ended.out.splitlines() if line.startswith("✓ writing")]
    assert writing.split(maxsplit=2)[2] == "nothing (topics_output is empty)"
    assert ended.code == 0


def test_check_does_without_marks_where_the_terminal_has_none(sqlite_url: str) -> None:
    ended = run("check", DATABASE_URL=sqlite_url, PYTHONIOENCODING="ascii")

    assert [line.split()[0] for line in ended.out.splitlines()] == ["ok", "ok", "ok", "FAIL", "-"]


def into(output: int, sqlite_url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A command whose standard output is this file."""
    env = {"PATH": os.environ["PATH"], "CONSUMER_NAME": "orders", "DATABASE_URL": sqlite_url}
    started = start_python(
        ["main.py", *arguments], cwd=program(), env=env, stdout=output, stderr=subprocess.PIPE, text=True
    )
    with started as process:
        _, log = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(arguments, process.returncode, "", log)


def test_nobody_listening_to_the_output_is_no_reason_for_a_traceback(sqlite_url: str) -> None:
    nobody, output = os.pipe()
    os.close(nobody)
    done = into(output, sqlite_url, "check")
    os.close(output)
    assert (done.returncode, done.stderr) == (1, "")


def test_output_that_cannot_be_written_is_one_clear_line(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "output").touch()
    for arguments in (("check",), INIT, ("--help",), ("trace", "--help"), ("--version",)):
        with (tmp_path / "output").open() as only_to_be_read:
            done = into(only_to_be_read.fileno(), sqlite_url, *arguments)
        (line,) = done.stderr.splitlines()
        assert json.loads(line)["message"] == "standard output cannot be written: Bad file descriptor"
        assert done.returncode == 1
    written = load(engine(make_url(sqlite_url)), "orders")
    assert written.topics_output == ("c",), "what cannot be told is done all the same"


def test_a_command_prints_by_one_function_which_knows_what_may_be_wrong_with_the_output() -> None:
    texts = {path.name: path.read_text() for path in (ROOT / "utils/commands").glob("*.py")}
    others = [line for name, text in texts.items() if name != "command.py" for line in re.findall(r"\bprint\(.*", text)]
    assert [line for line in others if "file=sys.stderr" not in line] == []


def test_what_the_database_names_drives_no_terminal(sqlite_url: str) -> None:
    columns = "consumer_name, topics_input, topics_output, kafka_bootstrap_server"
    inserted = f"INSERT INTO consumer_configs ({columns}) VALUES ('b\x1b[31m\n✓ row', 'a', '', 'h')"
    with with_table(sqlite_url).begin() as connection:
        connection.execute(text(inserted))
    [line] = [line for line in run("check", DATABASE_URL=sqlite_url).out.splitlines() if "✗" in line]
    assert "but: 'b\\x1b[31m\\n✓ row'" in line


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (SystemExit(0), 1),
        (ZeroDivisionError(), 1),
        (UnavailableError("no database"), 1),
        (KeyboardInterrupt(), 1),
        (ConfigError(["no such setting"]), 78),
    ],
)
def test_no_failure_ends_with_0(monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int) -> None:
    def command(_arguments: object, _environ: object) -> int:
        raise raised

    monkeypatch.setattr("utils.commands.check.check", command)
    monkeypatch.setattr("main.configure", lambda *_, **__: None)
    assert main.main(["check"]) == code


# ---------------------------------------------------------------- the topic of maps


def with_unusable_map_topic(url: str, broker: KafkaBroker, topics: Topics) -> str:
    """The name of a consumer whose topic of maps is one that deletes by age."""
    name = unique_name("orders")
    a, b = topics(broker, "a", "b")
    broker.create_topic(f"{name}-offsets", 1, {"cleanup.policy": "delete"})
    run("init", *init_options(broker, a, b), DATABASE_URL=url, CONSUMER_NAME=name)
    return name


def init_options(broker: KafkaBroker, a: str, b: str) -> list[str]:
    return ["--topics-input", a, "--topics-output", b, "--kafka-bootstrap-server", broker.bootstrap]


def test_exactly_once_refuses_to_start_without_a_topic_of_maps_that_can_be_used(
    sqlite_url: str, real_kafka: KafkaBroker, topics: Topics
) -> None:
    name = with_unusable_map_topic(sqlite_url, real_kafka, topics)
    environment = {"DATABASE_URL": sqlite_url, "CONSUMER_NAME": name, "DELIVERY": "exactly_once"}

    ended = run("run", **environment)
    check = run("check", **environment)

    assert ended.code == 78
    assert f"kafka-configs.sh --bootstrap-server {real_kafka.bootstrap}" in ended.log[-1]
    assert check.code == 78
    assert "kafka-configs.sh" in check.out


def test_at_least_once_starts_without_it_and_says_what_it_cannot_do(
    sqlite_url: str, real_kafka: KafkaBroker, topics: Topics
) -> None:
    name = with_unusable_map_topic(sqlite_url, real_kafka, topics)
    environment = {"DATABASE_URL": sqlite_url, "CONSUMER_NAME": name}

    check = run("check", **environment)

    assert check.code == 0
    assert any(line.startswith("- maps") for line in check.out.splitlines())
    assert "commits pause when a map of waiting messages does not fit" in check.out
    with working("run", **environment) as worker:
        assert "kafka-configs.sh" in worker.waits_for("commits pause")
