"""Processes of pytest-xdist: forked where the tests can be imported, and started in full where they cannot."""

from pathlib import Path

import execnet
import pytest

from tests.services.nodes import forked_nodes

PROGRAM = "def is_the_users(path): return path.stem == 'test_worker'"
TELLS = "import sys; channel.send(sorted(name for name in sys.modules if name.startswith('tests.test_')))"
TEST = "def test_it(): pass\n"
THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"


@pytest.mark.parametrize(
    ("test", "is_forked"),
    [
        (TEST, True),
        (f"import pytest\npytest.skip('not here', allow_module_level=True)\n{TEST}", False),
        (f"import no_such_module\n{TEST}", False),
        (THREAD + TEST, False),
    ],
    ids=["imported", "skipped half-way", "not imported", "a thread"],
)
def test_they_are_forked_with_what_was_imported_to_its_end_and_runs_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, test: str, is_forked: bool
) -> None:
    (tmp_path / "tests").mkdir()
    for name, text in {
        "__init__": "",
        "program": PROGRAM,
        "test_it": test,
        "test_too": TEST,
        "test_worker": TEST,
    }.items():
        (tmp_path / "tests" / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    group = execnet.Group()
    with forked_nodes(["tests"]):
        told = [group.makegateway("popen").remote_exec(TELLS).receive(60) for _ in range(2)]
        group.terminate(60)
    assert told == [["tests.test_it", "tests.test_too"] if is_forked else []] * 2, "and never with what is of the users"
