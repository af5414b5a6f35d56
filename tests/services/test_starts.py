"""Quick starts: what is started so is a Python as any other, with its own files, environment, streams and end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest

from tests.integration.workers import eventually
from tests.program import program
from tests.services.starts import Forked, run_python, start_python, stays

TELLS = """\
import json, os, sys
told = dict(argv=sys.argv, path=sys.path, cwd=os.getcwd(), env=dict(os.environ), name=__name__, file=__file__)
told.update(session=os.getsid(0) == os.getpid(), stdin=sys.stdin.read(), modules=sorted(sys.modules))
print(json.dumps(told))
print('on the other', file=sys.stderr)
sys.exit(7)
"""
TELLS_OF_THE_PROGRAM = """\
import json, sys
ours = ("config", "defaults", "framework", "main", "models", "utils", "worker")
told = {name: module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] in ours}
print(json.dumps(told), file=sys.stderr)
def process(message, consumer_name): return message
"""
SETTINGS = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "CONSUMER_NAME": "orders"}


@pytest.fixture
def told_by(tmp_path: Path) -> Any:
    (tmp_path / "main.py").write_text(TELLS)

    def told(start: Any) -> tuple[dict[str, Any], str, int]:
        options: dict[str, Any] = {"cwd": tmp_path, "env": SETTINGS, "stdin": PIPE, "stdout": PIPE, "stderr": PIPE}
        with start(**options, text=True, start_new_session=True) as process:
            out, log = process.communicate("given", timeout=60)
        return json.loads(out), log, process.returncode

    return told


def test_it_has_what_a_python_has_that_was_started_in_full(told_by: Any, tmp_path: Path) -> None:
    quick = told_by(lambda **options: start_python(["main.py", "--all", "é"], **options))
    full = told_by(lambda **options: subprocess.Popen([sys.executable, "main.py", "--all", "é"], **options))
    assert full[0].pop("argv") == ["main.py", "--all", "é"]
    assert quick[0].pop("argv") == [str(tmp_path / "main.py"), "--all", "é"]
    assert set(full[0].pop("modules")) < set(quick[0].pop("modules"))
    assert quick == full


def test_so_has_one_that_is_given_code(told_by: Any) -> None:
    given = ["-c", TELLS.replace(", file=__file__", ", main='json' in vars(sys.modules['__main__'])"), "--all", "é"]
    quick = told_by(lambda **options: start_python(given, **options))
    full = told_by(lambda **options: subprocess.Popen([sys.executable, *given], **options))
    assert set(full[0].pop("modules")) < set(quick[0].pop("modules"))
    assert full[0]["argv"] == ["-c", "--all", "é"]
    assert quick == full


def test_nothing_of_the_program_is_there_before_it_runs(told_by: Any) -> None:
    told, _, _ = told_by(lambda **options: start_python(["main.py"], **options))
    assert "sqlalchemy" in told["modules"]
    ours = {"config", "models", "framework", "main", "worker", "defaults", "utils", "tests"}
    assert not ours & {name.partition(".")[0] for name in told["modules"]}


@pytest.mark.parametrize("times", [1, 2])
def test_a_program_that_stays_has_the_same(told_by: Any, tmp_path: Path, times: int) -> None:
    tells = "".join(f"    {line}\n" for line in TELLS.splitlines())
    (tmp_path / "main.py").write_text(f"import helper\nif __name__ == '__main__':\n    import worker\n{tells}")
    (tmp_path / "helper.py").write_text("")
    (tmp_path / "worker.py").write_text("")
    stays(tmp_path)
    for _ in range(times):
        quick = told_by(lambda **options: start_python(["main.py", "a"], **options))
    full = told_by(lambda **options: subprocess.Popen([sys.executable, "main.py", "a"], **options))
    assert full[0].pop("argv")[1:] == quick[0].pop("argv")[1:]
    modules = set(full[0].pop("modules"))
    assert {"helper", "worker"} < modules < set(quick[0].pop("modules"))
    assert quick == full


def test_what_the_users_of_a_program_that_stays_write_is_read_at_each_start(tmp_path: Path) -> None:
    main = "import helper\nif __name__ == '__main__':\n    import worker\n    print(worker.x)"
    (tmp_path / "main.py").write_text(main)
    (tmp_path / "helper.py").write_text("")
    stays(tmp_path)
    for x in (1, 22):
        (tmp_path / "worker.py").write_text(f"x = {x}")
        assert run_python(["main.py"], tmp_path, SETTINGS).stdout == f"{x}\n"


def test_a_program_that_stays_and_cannot_be_imported_says_so(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import no_such_module")
    stays(tmp_path)
    done = run_python(["main.py"], tmp_path, SETTINGS)
    assert done.returncode == 1
    assert "No module named 'no_such_module'" in done.stderr


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_command_does_the_same_as_one_that_was_started_in_full(tmp_path: Path, command: str) -> None:
    (tmp_path / "its_worker.py").write_text(TELLS_OF_THE_PROGRAM)
    its_program = program(tmp_path / "its_worker.py")
    env = {**SETTINGS, "DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}
    quick = run_python(["main.py", command], its_program, env)
    in_full = [sys.executable, "main.py", command]
    full = subprocess.run(in_full, cwd=its_program, env=env, capture_output=True, text=True)
    assert (quick.stdout, quick.returncode) == (full.stdout, full.returncode)
    told, told_in_full = (json.loads(done.stderr.splitlines()[0]) for done in (quick, full))
    assert told.items() >= told_in_full.items(), "its own files, and no others"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, -15), (signal.SIGINT, 1)])
def test_a_signal_reaches_it(tmp_path: Path, number: signal.Signals, code: int) -> None:
    waits = "import time\ntry:\n print('ready', flush=True)\n time.sleep(60)\nexcept KeyboardInterrupt:\n exit(1)"
    (tmp_path / "main.py").write_text(waits)
    with start_python(["main.py"], cwd=tmp_path, env=SETTINGS, stdout=PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0)
        process.send_signal(number)
        assert process.wait(60) == code
        process.kill()  # of one that has ended: nothing


def test_what_a_program_holds_ends_with_it(tmp_path: Path) -> None:
    held = "class Held:\n    def __del__(self): print('ends in', self.__module__, flush=True)\nheld = Held()\n"
    (tmp_path / "helper.py").write_text(held)
    (tmp_path / "main.py").write_text(f"import helper, sqlalchemy\nif __name__ == '__main__': exec({held!r})")
    full = subprocess.run([sys.executable, "main.py"], cwd=tmp_path, env=SETTINGS, stdout=PIPE, text=True)
    quick = run_python(["main.py"], tmp_path, SETTINGS)
    stays(tmp_path)
    kept = run_python(["main.py"], tmp_path, SETTINGS)
    both = ["ends in __main__", "ends in helper"]
    assert [sorted(done.stdout.splitlines()) for done in (full, quick, kept)] == [both, both, both[:1]]


def test_what_fails_at_its_end_fails(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import atexit\natexit.register(print, 'at its end')\nraise ValueError('mine')")
    with start_python(["main.py"], cwd=tmp_path, env=SETTINGS, stdout=PIPE, stderr=PIPE, text=True) as process:
        out, log = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "at its end\n")
    assert log.endswith("ValueError: mine\n")


def test_what_cannot_be_written_fails_as_it_does_in_full(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("print('what cannot be written')")
    (tmp_path / "output").touch()
    ends = []
    with (tmp_path / "output").open() as only_to_be_read:
        options: dict[str, Any] = {"cwd": tmp_path, "env": SETTINGS, "stdout": only_to_be_read, "stderr": PIPE}
        in_full = subprocess.Popen([sys.executable, "main.py"], **options, text=True)
        for process in (start_python(["main.py"], **options, text=True), in_full):
            with process:
                _, log = process.communicate(timeout=60)
            ends.append((process.returncode, log))
    assert ends[0] == ends[1]
    assert "Bad file descriptor" in ends[0][1]


def test_all_end_with_who_has_started_them(tmp_path: Path) -> None:
    waits = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
    (tmp_path / "main.py").write_text(waits)
    starts = f"""
import os, signal, subprocess, sys
from tests.services.starts import quick_starts, start_python
with quick_starts():
    process = start_python(['main.py'], cwd={str(tmp_path)!r}, env={{}}, stdout=subprocess.PIPE, text=True)
    print(process.stdout.readline(), end='', flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", starts], cwd=root, stdout=PIPE, text=True)
    pid = int(done.stdout)

    def is_gone() -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    eventually(is_gone, "its end")


def test_what_is_told_to_python_itself_and_a_module_take_a_full_start(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import sys\nprint(sys.flags.optimize)")
    env = {**SETTINGS, "PYTHONOPTIMIZE": "1"}
    with start_python(["main.py"], cwd=tmp_path, env=env, stdout=PIPE, text=True) as process:
        assert process.communicate(timeout=60)[0] == "1\n"
        assert not isinstance(process, Forked)
    with start_python(["-m", "platform"], stdin=DEVNULL, stdout=DEVNULL) as process:
        assert process.wait(60) == 0
        assert not isinstance(process, Forked)
