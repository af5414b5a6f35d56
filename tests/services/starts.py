"""Starts of Pythons for the tests: real ones, and those that take a third of the CPU.

    with quick_starts(): ...                                          (for all that these lines call, in this process)
    with shared_starts() as path: ... quick_starts(path)              (one Python forks for several processes)
    start_python(["main.py", "check"], cwd=…, env=…, stdout=PIPE)     (a subprocess.Popen; so `["-c", "…"]`)

Most of the tests' CPU was that of a thousand Pythons that imported the same libraries. A quick start is a fork of one
that has imported them. Nothing of the program is imported before: its files, its environment and what it is told are
read as at any start. What differs is the command line that the kernel shows, that one seed of hashes serves some, and
that the libraries are not taken apart at its end; what the program holds is.

Of a directory in which nothing changes any more (`stays`) the modules of the program are imported before, too, and
forked from then on. What its users write, and main.py itself, is read at each start. These modules are not taken apart
at the end either, as they are not where the worker has called gc.freeze().
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import json
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait as readable
from pathlib import Path
from types import ModuleType
from typing import Any

LIBRARIES = (
    "asyncio",
    "confluent_kafka.admin",
    "http.server",
    "msgspec.inspect",
    "msgspec.json",
    "prometheus_client",
    "psycopg",
    "pymysql",
    "pythonjsonlogger",
    "sqlalchemy.orm",
    "sqlalchemy.dialects.mysql.pymysql",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
)
PDEATHSIG = 1  # of prctl(2)

_template: "Template | None" = None
_staying: set[str] = set()


def stays(program: Path) -> None:
    """No file in this directory will change."""
    _staying.add(str(program))


@contextlib.contextmanager
def quick_starts(path: str = "") -> Iterator[None]:
    """`path`: where one that others have started is asked. Without it there is one of this process's own."""
    global _template
    _template = Template(path)
    try:
        yield
    finally:
        _template.close()
        _template = None


@contextlib.contextmanager
def shared_starts(*tests: str) -> Iterator[str]:
    """A Python that forks for all who are told where it is asked. With it end all that it has forked.

    `tests`: it imports these, and all that they import. Where it cannot, it ends, and whoever asks is told so.
    """
    with tempfile.TemporaryDirectory(prefix="consumer-skeleton-starts-", ignore_cleanup_errors=True) as directory:
        path = f"{directory}/asked"
        process, lifeline = _started(path, *tests)
        try:
            yield path
        finally:
            lifeline.close()
            process.wait()


def start_python(arguments: Sequence[str], *, tied: bool = False, **options: Any) -> "subprocess.Popen[Any]":
    """A Python with these arguments; `options` are those of subprocess.Popen. `tied`: it ends with who has started it.

    Quick where the first argument is a file or `-c`, and no variable for Python itself is in its environment.
    """
    told_python = any(name.startswith("PYTHON") for name in options.get("env") or ())
    if _template and arguments[0].endswith((".py", "-c")) and not told_python:
        return Forked(_template, arguments, **options)
    before = ["setpriv", "--pdeathsig", "KILL"] if tied and shutil.which("setpriv") else []
    return subprocess.Popen([*before, sys.executable, *arguments], **options)


def piped_python(arguments: Sequence[str], cwd: Path, env: Mapping[str, str]) -> "subprocess.Popen[str]":
    """The same; what it prints and logs can be read, as text."""
    pipe = subprocess.PIPE
    return start_python(arguments, cwd=cwd, env=env, stdout=pipe, stderr=pipe, text=True)


def run_python(
    arguments: Sequence[str], cwd: Path, env: Mapping[str, str], seconds: float = 120
) -> "subprocess.CompletedProcess[str]":
    """The same, to its end."""
    with piped_python(arguments, cwd, env) as process:
        try:
            out, log = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return subprocess.CompletedProcess(arguments, process.returncode, out, log)


class Template:
    """The Python that forks: the one at this path, or one of our own, which is started when it is first asked to."""

    def __init__(self, path: str = "") -> None:
        self._path = path
        self._socket: socket.socket | None = None
        self._own = contextlib.ExitStack()

    def fork(self, order: Mapping[str, Any], files: Sequence[int]) -> tuple[int, int]:
        """The new process, and a pipe in which its exit code comes when it has ended."""
        asking = self._socket or self._connect()
        told, tells = os.pipe()
        socket.send_fds(asking, [json.dumps(order).encode()], [tells, *files])
        os.close(tells)
        if not (pid := os.read(told, 4)):
            raise RuntimeError("the Python that forks has ended")
        return int.from_bytes(pid, "big"), told

    def _connect(self) -> socket.socket:
        self._path = self._path or self._own.enter_context(shared_starts())
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.connect(self._path)
        return self._socket

    def close(self) -> None:
        if self._socket:
            self._socket.close()
        self._own.close()


def _started(path: str, *tests: str) -> tuple["subprocess.Popen[bytes]", socket.socket]:
    """One that forks for whoever asks at this path, until the socket that is returned is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    kept = {name: value for name, value in os.environ.items() if tests or not name.startswith("PYTHON")}
    with theirs, listener:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), str(listener.fileno()), *tests],
            env=kept,
            pass_fds=[theirs.fileno(), listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=not tests,
        )
    return process, ours


class Forked(subprocess.Popen[Any]):
    """Popen, with all that it does with pipes. The process is not our child: its end is told by a pipe."""

    def __init__(self, template: Template, arguments: Sequence[str], **options: Any) -> None:
        self._template = template
        self._told = -1
        super().__init__(arguments, **options)

    def _execute_child(self, *given: Any) -> None:
        # What Popen hands on is the same from Python 3.11 to 3.13; the names are looked up, not counted.
        names = list(inspect.signature(subprocess.Popen._execute_child).parameters)[1:]  # type: ignore[attr-defined]
        all_told = dict(zip(names, given, strict=True))
        assert all_told["preexec_fn"] is None
        env = dict(os.environ) if all_told["env"] is None else all_told["env"]
        order = {"arguments": all_told["args"], "env": env, "cwd": os.path.abspath(all_told["cwd"] or ".")}  # noqa: PTH100
        order["session"] = all_told["start_new_session"]
        order["stays"] = order["cwd"] in _staying
        streams = [all_told[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        files = [number if given < 0 else given for number, given in enumerate(streams)]
        self.pid, self._told = self._template.fork(order, files)
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(all_told[name] for name in pipes))  # type: ignore[attr-defined]

    def poll(self) -> int | None:
        if self._told >= 0 and readable([self._told], 0):
            self._note_the_end()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self._told >= 0:
            if not readable([self._told], timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._note_the_end()
        return int(self.returncode)

    def _note_the_end(self) -> None:
        code = os.read(self._told, 4)
        os.close(self._told)
        self._told = -1
        self.returncode = int.from_bytes(code, "big", signed=True) if code else -signal.SIGKILL  # with the template


# ---------------------------------------------------------------- in the Python that forks


def serve(lifeline: socket.socket, listener: socket.socket | None = None, directory: str = "") -> dict[str, Any] | None:
    """Fork for each order that comes on the lifeline, or from who connects. What to run, in the new process; None when
    the lifeline is closed.

    Orders for a directory that stays go on to a fork of its own, which has imported what is in that `directory`.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a keeper
    programs: dict[str, socket.socket] = {}
    asking = [each for each in (lifeline, listener) if each]
    while True:
        for asked in readable(asking):
            assert isinstance(asked, socket.socket)
            if asked is listener:
                asking.append(listener.accept()[0])
                continue
            told, files, _, _ = socket.recv_fds(asked, 1_000_000, 4)
            if not told:
                if asked is lifeline:
                    return None
                asking.remove(asked)
                asked.close()
                continue
            order: dict[str, Any] = json.loads(told)
            goes_on = order["stays"] and order["cwd"] != directory
            if goes_on and order["cwd"] not in programs:
                programs[order["cwd"]], theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                if os.fork() == 0:
                    end_with_the_parent()
                    close(*asking, *programs.values())
                    close_files(files)
                    with contextlib.suppress(Exception):  # then each start says what is wrong with it
                        import_program(order["cwd"])
                    return serve(theirs, directory=order["cwd"])
                theirs.close()
            if goes_on:
                socket.send_fds(programs[order["cwd"]], [told], files)
            elif os.fork() == 0:
                close(*asking, *programs.values())
                if keep(*files):
                    return order
                os._exit(0)
            close_files(files)


def import_tests(tests: Sequence[str]) -> None:
    """As pytest does it, but for those that the users have written: nobody knows what these would not survive.

    SystemExit where something is not imported to its end, or runs beside: a thread is not forked.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those that are forked
    sys.path[0] = os.getcwd()  # noqa: PTH109
    pytest, program = importlib.import_module("pytest"), importlib.import_module("tests.program")
    unfinished = []

    class Collecting:
        def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
            return True if collection_path.is_file() and program.is_the_users(collection_path) else None

        def pytest_collectreport(self, report: Any) -> None:
            if not report.passed:
                unfinished.append(report)

    code = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *tests], [Collecting()])
    gc.unfreeze()  # what has been collected goes, what has been imported stays
    gc.collect()
    threads = list(Path("/proc/self/task").glob("*"))  # those of the Kafka client, too
    if code or unfinished or len(threads) != 1:
        sys.exit()


def close(*sockets: socket.socket) -> None:
    for each in sockets:
        each.close()


def close_files(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def import_program(directory: str) -> None:
    """All that main.py may import, and not what the users write: that differs."""
    sys.path[0] = directory
    os.chdir(directory)
    importlib.import_module("main")
    for command in Path(directory, "utils", "commands").glob("[a-z]*.py"):
        importlib.import_module(f"utils.commands.{command.stem}")
    del sys.modules["main"]  # it is run, and not imported
    gc.freeze()


def keep(tells: int, *files: int) -> bool:
    """Fork once more. True in the new process. Its parent stays only to tell its end; False then."""
    end_with_the_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (pid := os.fork()) == 0:
        end_with_the_parent()
        os.close(tells)
        for number, file in enumerate(files):
            os.dup2(file, number)
        close_files(files)
        return True
    close_files([*files, 0, 1, 2])
    os.write(tells, pid.to_bytes(4, "big"))
    _, status = os.waitpid(pid, 0)
    os.write(tells, os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))
    return False


def end_with_the_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGKILL)


def become(order: Mapping[str, Any]) -> None:
    """Run the program, as `python FILE …` or `python -c CODE …` does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if order["session"]:
        os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = order["arguments"]
    if sys.argv[0] == "-c":
        sys.path[0] = ""
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(sys.argv.pop(1), vars(main))
        return
    sys.path[0] = order["cwd"]
    runpy.run_path(os.path.join(order["cwd"], sys.argv[0]), run_name="__main__")  # noqa: PTH118


def leave(modules: Sequence[str]) -> None:
    """Have Python not take these apart at its end: half of the CPU of a quick start was copies of what then goes."""
    for name in modules:
        if module := sys.modules.pop(name, None):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(module))


if __name__ == "__main__":
    imported: list[str] = []
    atexit.register(leave, imported)  # the first one is called last
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):  # then it is imported by whoever needs it, or missed there
            importlib.import_module(library)
    if sys.argv[3:]:
        import_tests(sys.argv[3:])
    imported += sys.modules.keys() - {"builtins", "sys", "__main__"}
    gc.freeze()  # what is there already is never looked at by the new processes, and so not copied
    if ordered := serve(socket.socket(fileno=int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2]))):
        become(ordered)
