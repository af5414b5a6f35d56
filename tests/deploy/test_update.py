"""`make update`: a copy of any kind comes to another version, or stays as it was to the last byte."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.deploy.frames import GIT, committed, files_of, git, of_the_frame, write
from tests.deploy.updates import (
    LINES,
    MINE,
    MOVED,
    NEW,
    OLD,
    REWRITTEN,
    Frame,
    by_archive,
    cloned,
    inside,
    made,
    plain,
    update,
)
from tests.program import ROOT
from utils.version import FrameVersion, frame_version


def guessed(frame: Frame, copy: Path) -> list[str]:
    """The option that is asked for where nothing says what the base is; held against what it is."""
    asked = update(frame, copy)
    assert asked.returncode == 2
    told = asked.stderr.strip()
    assert "\n" not in told
    assert told.endswith(f"BASE={frame.old[:10]}")
    assert "equal" in told
    return ["--base", frame.old[:10]]


@pytest.mark.parametrize("way", [cloned, plain, inside])
def test_a_copy_of_any_kind_comes_to_the_new_version_with_all_that_is_its_owners(
    way: Callable[[Frame, Path], Path], frame: Frame, tmp_path: Path
) -> None:
    copy = way(frame, tmp_path / "copy")
    config = str(OLD["config.py"]).replace('""', '"paid"').replace("3306", "3307")
    edited = f"offsets\n{LINES}".replace("line_7", "my_line_7")
    write(copy, {**MINE, "config.py": config, "utils/offsets.py": edited})
    if way is not plain:
        committed(copy if way is cloned else tmp_path / "copy", {})
    done = update(frame, copy, *([] if way is cloned else guessed(frame, copy)))
    assert done.returncode == 0, done.stdout + done.stderr
    expected = {path: text for path, text in {**OLD, **MOVED, **NEW}.items() if text is not None}
    expected |= {path: MINE[path] or "" for path in ("worker.py", "tests/test_worker.py", "taxes/__init__.py")}
    expected["utils/joining/offsets.py"] = f"{edited}{REWRITTEN}"
    expected["defaults.py"] = '"""Yours."""\nCONSUMER_NAME = "paid"\n\nDB_PORT = 3307\n'
    expected["requirements.txt"] = "kafka==1.1\nmsgspec==0.1\nrequests==2.0\n"
    expected["requirements.lock"] = str(NEW["requirements.lock"]) + "requests==2.0 \\\n    --hash=sha256:20\n"
    expected[".frame"] = FrameVersion("1.0.0", frame.new).text()
    now = files_of(copy)
    assert now == {path: text.encode() if isinstance(text, str) else text for path, text in expected.items()}
    for told in (
        "older than 1.0.0",
        "1.0.0",
        "utils/joining/offsets.py: your edits are in it",
        "Mind the gap.",
        "undo",
    ):
        assert told in done.stdout
    assert "Old." not in done.stdout
    if way is not plain:
        assert git(copy, "log", "-1", "--format=%s") == "a change"  # nothing was committed
        assert git(copy, "status", "--porcelain") != ""
    else:
        undo = done.stdout.split("To undo it all: ")[1]
        subprocess.run(undo, shell=True, check=True)
        assert files_of(copy) == {
            path: text.encode() if isinstance(text, str) else text
            for path, text in {**OLD, **MINE, "config.py": config, "utils/offsets.py": edited}.items()
            if text is not None
        }


def test_what_undoes_it_in_a_repository_undoes_it(frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), MINE)
    before = files_of(copy)
    done = update(frame, copy)
    assert files_of(copy) != before
    subprocess.run(done.stdout.split("To undo it all: ")[1], shell=True, check=True)
    assert files_of(copy) == before


def test_a_second_update_has_nothing_to_do(frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), MINE)
    assert update(frame, copy, "--check").returncode == 3
    assert update(frame, copy).returncode == 0
    assert update(frame, copy, "--check").returncode == 0
    again = update(frame, copy)
    assert again.returncode == 0
    assert "is current" in again.stdout


def test_check_changes_nothing(frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), MINE)
    before = files_of(copy)
    assert update(frame, copy, "--check").returncode == 3
    assert files_of(copy) == before


def test_a_home_that_the_shell_has_left_as_a_tilde_is_that_of_the_user(
    frame: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GIT, "HOME", str(cloned(frame, tmp_path / "copy").parent))
    assert update(frame, Path("~/copy")).returncode == 0


def test_a_slim_copy_stays_slim(frame: Frame, tmp_path: Path) -> None:
    """Goes back to the old version and comes to the new one again: both know more than it has."""
    copy = by_archive(frame, tmp_path / "copy")
    slim = files_of(copy)
    assert frame_version(copy / ".frame").commit == frame.new
    assert update(frame, copy, to=frame.old).returncode == 2
    back = update(frame, copy, "--back", to=frame.old)
    assert back.returncode == 0, back.stdout
    older = files_of(copy)
    assert not {path for path in older if path.startswith(("bench/", "tests/"))} - {
        "tests/__init__.py",
        "tests/test_worker.py",
    }
    assert older["utils/offsets.py"] == str(OLD["utils/offsets.py"]).encode()
    assert update(frame, copy).returncode == 0
    now = files_of(copy)
    now[".frame"] = slim[".frame"]  # with a line more
    assert now == slim


def test_a_slim_copy_gets_what_the_frame_leaves_out_no_more(frame: Frame, tmp_path: Path) -> None:
    """As the pictures, which have moved into docs/, and the figures in bench/."""
    place = cloned(frame, tmp_path / "frame", frame.new)
    without = "".join(f"/{name}/** export-ignore\n" for name in ("bench", "images", "tests"))
    dot_frame = "version: 1.0.0\ncommit: $Format:%H$\nleft out: $Format:bench images tests$\n"
    committed(
        place,
        {
            ".frame": dot_frame,
            ".gitattributes": f".frame export-subst\n{without}",
            "images/plan.svg": "a plan\n",
            "bench/README.md": "figures\n",
        },
    )
    old = git(place, "rev-parse", "HEAD")
    copy = by_archive(Frame(place, old, old), tmp_path / "copy")
    assert not {path for path in files_of(copy) if path.startswith(("bench/", "images/", "tests/"))}
    moved = {"images/plan.svg": None, "docs/pictures/plan.svg": "a plan\n", "bench/README.md": "new figures\n"}
    committed(place, {**moved, ".gitattributes": NEW[".gitattributes"]})
    newer = Frame(place, old, git(place, "rev-parse", "HEAD"))
    done = update(newer, copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "you have deleted it" not in done.stdout
    assert (copy / "docs/pictures/plan.svg").read_text() == "a plan\n"
    assert {path for path in files_of(copy) if path.startswith("bench/")} == {"bench/README.md"}
    assert not (copy / "tests/test_fresh.py").exists()


def test_what_was_deleted_in_a_slim_copy_stays_deleted(frame: Frame, tmp_path: Path) -> None:
    """`rm -r bench` is what owners of a copy do first: its figures came back with each update."""
    place = cloned(frame, tmp_path / "frame", frame.new)
    committed(place, {"bench/README.md": "figures\n", "bench/bench.svg": "a plot\n"})
    old = git(place, "rev-parse", "HEAD")
    copy = by_archive(Frame(place, old, old), tmp_path / "copy")
    shutil.rmtree(copy / "bench")
    write(copy, {"tests/__init__.py": None})
    committed(place, {"bench/README.md": "new figures\n", "docs/fresh.md": "fresh\n"})
    done = update(Frame(place, old, git(place, "rev-parse", "HEAD")), copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed: 1\n  docs/fresh.md\n" in done.stdout
    assert "bench/README.md: you have deleted it" in done.stdout
    now = files_of(copy)
    assert not {path for path in now if path.startswith("bench/") or path == "tests/__init__.py"}


def test_in_a_slim_copy_files_with_names_of_what_was_left_out_are_yours(frame: Frame, tmp_path: Path) -> None:
    """Your own tests/conftest.py was taken for an edited one of the frame: no update came through."""
    place = cloned(frame, tmp_path / "frame", frame.new)
    committed(place, {"tests/conftest.py": f"of the frame\n{LINES}", "tests/fakes.py": "old\n"})
    old = git(place, "rev-parse", "HEAD")
    committed(place, {"tests/conftest.py": f"of the new frame\n{LINES}", "tests/fakes.py": None, "tests/x.py": "x\n"})
    newer = Frame(place, old, git(place, "rev-parse", "HEAD"))
    copy = by_archive(Frame(place, old, old), tmp_path / "copy")
    mine = {"tests/conftest.py": "mine\n", "tests/fakes.py": "mine, too\n", ".gitattributes": "*.bin lfs\n"}
    write(copy, {**mine, "tests/x.py": "mine\n"})
    done = update(newer, copy)
    assert done.returncode == 0, done.stdout + done.stderr
    for path, content in mine.items():
        assert (copy / path).read_text() == content
        assert path not in done.stdout


def test_files_and_folders_that_were_deleted_stay_deleted(frame: Frame, tmp_path: Path) -> None:
    copy = cloned(frame, tmp_path / "copy")
    shutil.rmtree(copy / "bench")
    committed(copy, {"utils/offsets.py": None, "tests/test_offsets.py": None})
    done = update(frame, copy)
    assert done.returncode == 0
    now = files_of(copy)
    assert not {path for path in now if path.startswith("bench/") or "offsets" in path}
    assert "utils/fresh.py" in now
    assert "utils/joining/offsets.py: you have deleted it" in done.stdout


CONFLICTS = {
    "both changed the same lines": ({"main.py": "my main\n"}, "main.py", "the same lines"),
    "yours is where the frame adds one": ({"utils/fresh.py": "mine\n"}, "utils/fresh.py", "one of yours is"),
    "yours is where the frame moves one": ({"utils/joining/offsets.py": "mine\n"}, "utils/joining/offsets.py", "yours"),
    "edited what is gone": ({"utils/gone.py": f"mine\n{LINES}"}, "utils/gone.py", "does without it"),
    "the same requirement": ({"requirements.txt": "kafka==1.2\n"}, "requirements.txt", "the line of kafka"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_conflict_writes_nothing_and_names_the_file(case: str, frame: Frame, tmp_path: Path) -> None:
    mine, path, why = CONFLICTS[case]
    copy = committed(cloned(frame, tmp_path / "copy"), dict(mine))
    before = files_of(copy)
    done = update(frame, copy)
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"  {path}: ")]
    assert why in line
    assert files_of(copy) == before
    assert git(copy, "status", "--porcelain") == ""


def test_markers_are_written_where_they_are_asked_for_and_all_else_is_done(frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), {"main.py": "my main\n"})
    assert update(frame, copy, "--markers").returncode == 1
    text = (copy / "main.py").read_text()
    assert text == "<<<<<<< yours\nmy main\n=======\nnew main\n>>>>>>> frame\n"
    assert (copy / "utils/fresh.py").exists()


MARKED = "<<<<<<< yours\n{}=======\n{}>>>>>>> frame\n"
MARKERS = {
    "a requirement": (
        {"requirements.txt": "kafka==1.2\nrequests==2.0\n"},
        "requirements.txt",
        MARKED.format("kafka==1.2\n", "kafka==1.1\n") + "msgspec==0.1\nrequests==2.0\n",
    ),
    "a file that the frame adds": ({"utils/fresh.py": "mine"}, "utils/fresh.py", MARKED.format("mine\n", "fresh\n")),
    "a file that the frame moves": (
        {"utils/joining/offsets.py": "mine\n", "utils/offsets.py": f"offsets\n{LINES}".replace("_7", "_seven")},
        "utils/joining/offsets.py",
        MARKED.format("mine\n", f"offsets\n{LINES}{REWRITTEN}".replace("_7", "_seven")),
    ),
}


@pytest.mark.parametrize("case", MARKERS)
def test_with_markers_all_of_the_frames_and_all_of_ones_own_is_there(case: str, frame: Frame, tmp_path: Path) -> None:
    """The frame's part was nowhere, and came with no later update: the copy had the new version, it was said."""
    mine, path, expected = MARKERS[case]
    copy = committed(cloned(frame, tmp_path / "copy"), dict(mine))
    done = update(frame, copy, "--markers")
    assert done.returncode == 1
    assert done.stdout.partition("conflicts: 1\n")[2].startswith(f"  {path}: ")
    assert "next: choose where git's marks are" in done.stdout
    assert (copy / path).read_text() == expected
    assert not (copy / "utils/offsets.py").exists()
    assert (copy / ".frame").read_text() == FrameVersion("1.0.0", frame.new).text()


def test_with_markers_what_can_hold_none_stands_beside_ones_own(frame: Frame, tmp_path: Path) -> None:
    place = cloned(frame, tmp_path / "frame", frame.new)
    committed(place, {"docs/plan.png": b"\0 the frame's", "docs/picture.png": b"\0 the frame's"})
    newer = Frame(place, frame.new, git(place, "rev-parse", "HEAD"))
    mine = {"docs/plan.png": b"\0 mine", "docs/picture.png": b"\0 mine"}
    copy = committed(cloned(frame, tmp_path / "copy", frame.new), dict(mine))
    done = update(newer, copy, "--markers")
    assert done.returncode == 1
    for path, content in mine.items():
        assert (copy / path).read_bytes() == content
        assert (copy / f"{path}.frame").read_bytes() == b"\0 the frame's"
        assert f"{path}.frame" in done.stdout.partition("conflicts: 2\n")[2]


@pytest.mark.parametrize("dirt", [{"main.py": "not committed\n"}, {"notes.txt": "not added\n"}])
def test_what_is_not_committed_is_in_its_way(dirt: dict[str, bytes | str | None], frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), MINE)
    write(copy, dirt)
    before = files_of(copy)
    done = update(frame, copy)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert next(iter(dirt)) in done.stderr
    assert files_of(copy) == before


def test_the_dirt_of_others_in_the_repository_around_it_is_not(frame: Frame, tmp_path: Path) -> None:
    copy = inside(frame, tmp_path / "around")
    (tmp_path / "around/other.txt").write_text("in work\n")
    assert update(frame, copy, "--base", frame.old).returncode == 0


def test_line_ends_of_windows_are_no_edit_and_stay(frame: Frame, tmp_path: Path) -> None:
    copy = plain(frame, tmp_path / "copy")
    for path, content in files_of(copy).items():
        if b"\0" not in content:
            write(copy, {path: content.replace(b"\n", b"\r\n")})
    done = update(frame, copy, "--base", frame.old)
    assert done.returncode == 0, done.stdout
    for path, content in files_of(copy).items():
        if b"\0" not in content:
            is_unix = path == ".ci/run"  # a shell takes no other line ends: whoever had them has a script that fails
            assert content.count(b"\r\n") == (0 if is_unix else content.count(b"\n")), path
    assert (copy / "docs/picture.png").read_bytes() == NEW["docs/picture.png"]
    assert (copy / "main.py").read_bytes() == b"new main\r\n"


def test_a_script_that_can_be_run_now_can_be_run(frame: Frame, tmp_path: Path) -> None:
    place = cloned(frame, tmp_path / "frame", frame.new)
    (place / "utils/retry.py").chmod(0o755)
    committed(place, {})
    newer = Frame(place, frame.old, git(place, "rev-parse", "HEAD"))
    copy = cloned(frame, tmp_path / "copy")
    assert update(newer, copy).returncode == 0
    assert (copy / "utils/retry.py").stat().st_mode & 0o111
    assert not (copy / "main.py").stat().st_mode & 0o111


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_a_readme_or_changelog_of_ones_own_is_left_alone(frame: Frame, tmp_path: Path, name: str) -> None:
    """Each update of a copy with a changelog of its own was a conflict."""
    copy = committed(cloned(frame, tmp_path / "copy"), {name: "ours\n"})
    done = update(frame, copy)
    assert done.returncode == 0
    assert (copy / name).read_text() == "ours\n"
    assert (copy / ".ci/run").read_text() == "new ci\n"
    assert f"{name}: you have edited it: it is yours now" in done.stdout
    assert "Mind the gap." in done.stdout, "what is to do is in the frame's"


def test_what_is_ones_own_stays_also_where_the_frame_has_not_changed_it(frame: Frame, tmp_path: Path) -> None:
    """The frame's came back: each update took away a pipeline of one's own."""
    place = cloned(frame, tmp_path / "frame", frame.new)
    committed(place, {"main.py": "newer main\n"})
    newer = Frame(place, frame.new, git(place, "rev-parse", "HEAD"))
    copy = committed(cloned(frame, tmp_path / "copy", frame.new), {"README.md": "ours\n", ".ci/run": "our ci\n"})
    done = update(newer, copy)
    assert done.returncode == 0, done.stderr
    assert (copy / "main.py").read_text() == "newer main\n"
    assert (copy / "README.md").read_text() == "ours\n"
    assert (copy / ".ci/run").read_text() == "our ci\n"
    assert "README.md" not in done.stdout


def test_a_copy_that_is_newer_than_the_frame_is_left_alone(frame: Frame, tmp_path: Path) -> None:
    copy = cloned(frame, tmp_path / "copy", frame.new)
    committed(copy, {".frame": FrameVersion("1.1.0", "0123456789" * 4).text()})
    done = update(frame, copy)
    assert done.returncode == 2
    assert "newer" in done.stderr
    older = cloned(frame, tmp_path / "other", frame.new)
    assert update(frame, older, "--check", to=frame.old).returncode == 0
    assert update(frame, older, to=frame.old).returncode == 2


@pytest.mark.parametrize(("file", "form"), [("offsets", "1"), ("references", "stored-1")])
def test_on_the_way_back_it_is_told_where_the_older_version_does_not_understand_the_commits(
    file: str, form: str, tmp_path: Path
) -> None:
    place = committed(tmp_path / "frame", of_the_frame())
    old, path = git(place, "rev-parse", "HEAD"), f"utils/joining/{file}.py"
    text = (place / path).read_text()
    assert text.count(f'_VERSION = "{form}"') == 1
    committed(place, {"docs/fresh.md": "fresh\n"})
    same = Frame(place, old, git(place, "rev-parse", "HEAD"))
    committed(place, {path: text.replace(f'_VERSION = "{form}"', '_VERSION = "another"')})
    other = Frame(place, old, git(place, "rev-parse", "HEAD"))
    for frame, is_told in ((same, False), (other, True)):
        copy = cloned(frame, tmp_path / f"copy-{is_told}", frame.new)
        done = update(frame, copy, "--back", to=old)
        assert done.returncode == 0, done.stderr
        assert ("does not understand all commits of this one" in done.stdout) is is_told


def test_what_is_no_copy_is_left_alone(frame: Frame, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "other", {"worker.py": "print()\n", "setup.py": "\n"})
    for place in ("empty", "other", "missing"):
        done = update(frame, tmp_path / place)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr
    assert files_of(tmp_path / "other").keys() == {"worker.py", "setup.py"}


def test_files_taken_over_by_hand_since_are_noticed(frame: Frame, tmp_path: Path) -> None:
    """History says the old version, most files say the new one: which is it?"""
    copy = cloned(frame, tmp_path / "copy")
    write(copy, MOVED)
    committed(copy, NEW)
    git(copy, "rm", "--quiet", ".frame")
    git(copy, "commit", "--quiet", "-m", "by hand")
    done = update(frame, copy)
    assert done.returncode == 2
    assert done.stderr.strip().endswith(f"BASE={frame.new[:10]}")


# ---------------------------------------------------------------- by the copy's own command


def test_by_path_by_address_and_by_bundle(real: Frame, tmp_path: Path) -> None:
    bundle = tmp_path / "frame.bundle"
    git(real.place, "bundle", "create", "--quiet", str(bundle), "--all")
    for source in (str(real.place), f"file://{real.place}", str(bundle)):
        copy = cloned(real, tmp_path / source.replace("/", "_"), real.old)
        done = made(copy, source)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (copy / "docs/fresh.md").exists()


def test_the_newest_version_is_taken_where_none_is_named(real: Frame, tmp_path: Path) -> None:
    tagged = cloned(real, tmp_path / "tagged", real.new)
    for tag, commit in (("v1.9.0", real.old), ("v1.10.0", real.new)):
        git(tagged, "tag", tag, commit)
    copy = cloned(real, tmp_path / "copy", real.old)
    assert made(copy, str(tagged), "", "--check").returncode == 3
    assert made(copy, str(tagged), "v1.9.0", "--check").returncode == 0
    none = made(copy, str(tagged), "v2.0.0")
    assert none.returncode == 2
    assert "v1.10.0" in none.stderr


@pytest.mark.parametrize("source", ["", "/no/such/place", "cut.bundle"])
def test_what_cannot_be_read_is_one_line(source: str, real: Frame, tmp_path: Path) -> None:
    copy = cloned(real, tmp_path / "copy", real.old)
    if source == "cut.bundle":
        git(real.place, "bundle", "create", "--quiet", str(tmp_path / "whole.bundle"), "--all")
        whole = (tmp_path / "whole.bundle").read_bytes()
        (tmp_path / source).write_bytes(whole[: len(whole) // 2])
        source = str(tmp_path / source)
    done = made(copy, source)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert git(copy, "status", "--porcelain") == ""


def test_the_frames_tests_run_on_a_slim_copy_with_its_edits(real: Frame, tmp_path: Path) -> None:
    copy = by_archive(real, tmp_path / "copy")
    (copy / ".venv").symlink_to(sys.prefix)
    write(copy, {"tests/test_worker_more.py": "import tests.program\n\ndef test_mine(): assert tests.program.ROOT\n"})
    only = "-p no:cacheprovider -n 0 -q tests/test_worker_more.py"
    (copy / "Makefile").write_text((copy / "Makefile").read_text().replace("test: setup", "test:"))  # it is set up
    command = [sys.executable, "-m", "deploy.frame", "test", str(real.place), "--arguments", only]
    done = subprocess.run(command, cwd=copy, env=GIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"the frame's tests of {real.new[:10]}" in done.stdout
    assert "1 passed" in done.stdout
    assert not (copy / "tests/program.py").exists()


def test_the_frames_tests_run_beside_whatever_else_is_in_a_slim_copy(real: Frame, tmp_path: Path) -> None:
    """A link to nothing ended it with "nothing was changed: None". Its tests/conftest.py stood in for the frame's."""
    copy = by_archive(real, tmp_path / "copy")
    (copy / ".venv").symlink_to(sys.prefix)
    of_the_frame = git(real.place, "show", f"{real.new}:tests/fakes.py")
    (tmp_path / "of the frame").write_text(of_the_frame)
    test = f"""
    from pathlib import Path

    def test_mine():
        here = Path(__file__).parent
        assert (here / "fakes.py").read_text().strip() == Path({str(tmp_path / "of the frame")!r}).read_text().strip()
        assert (here / "helpers.py").exists()
        assert not (here / "test_rates.py").exists(), "it was run without their conftest.py, as one of the frame's"
    """
    mine = {"tests/helpers.py": "", "tests/fakes.py": "mine\n", "data/x": ""}
    write(copy, {"tests/test_worker_more.py": textwrap.dedent(test), **mine})
    write(copy, {"tests/test_rates.py": "def test_rate(a_fixture_of_my_conftest): ...\n"})
    (copy / "data/latest").symlink_to("no such file")
    only = "-p no:cacheprovider -n 0 -q tests/test_worker_more.py"
    (copy / "Makefile").write_text((copy / "Makefile").read_text().replace("test: setup", "test:"))  # it is set up
    command = [sys.executable, "-m", "deploy.frame", "test", str(real.place), "--arguments", only]
    done = subprocess.run(command, cwd=copy, env=GIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "without tests/fakes.py of yours: the frame has a file of that name" in done.stdout
    assert "without your other tests (1)" in done.stdout
    (copy / "data/latest").unlink()
    os.mkfifo(copy / "data/pipe")
    done = subprocess.run(command, cwd=copy, env=GIT, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"{copy}/data/pipe cannot be copied" in done.stderr


def test_the_job_for_dozens_of_copies_pushes_a_branch_with_the_new_version(real: Frame, tmp_path: Path) -> None:
    [job] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/keep-up-to-date.md").read_text(), re.DOTALL)
    script = re.findall(r"^    - (.*(?:\n      .*)*)", job.split("script:\n")[1], re.MULTILINE)
    server = tmp_path / "server/group/copy.git"
    git(cloned(real, tmp_path / "copy", real.old), "clone", "--quiet", "--bare", ".", str(server))
    git(tmp_path, f"--git-dir={server}", "config", "receive.advertisePushOptions", "true")
    gitlab = {"CI_SERVER_HOST": "gitlab.example", "CI_PROJECT_PATH": "group/copy"}
    environ = {**GIT, **gitlab, "FRAME": str(real.place), "UPDATE_TOKEN": "secret", "FRAME_PYTHON": sys.executable}
    git(tmp_path / "copy", "config", f"url.{tmp_path}/server/.insteadOf", "https://oauth2:secret@gitlab.example/")
    lines = "set -e\n" + "\n".join(" ".join(line.split("\n")) for line in script)
    done = subprocess.run(["sh", "-c", lines], cwd=tmp_path / "copy", env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "docs/fresh.md" in git(tmp_path, f"--git-dir={server}", "ls-tree", "-r", "--name-only", f"frame-{real.new}")
    again = subprocess.run(["sh", "-c", lines], cwd=tmp_path / "copy", env=environ, capture_output=True, text=True)
    assert again.returncode == 0
    assert "is current" in again.stdout
    git(tmp_path / "copy", "checkout", "--quiet", real.old)  # as the next run of the schedule finds it
    third = subprocess.run(["sh", "-c", lines], cwd=tmp_path / "copy", env=environ, capture_output=True, text=True)
    assert third.returncode == 0, third.stdout + third.stderr
    branches = git(tmp_path, f"--git-dir={server}", "branch", "--list", "frame-*").split()
    assert branches == [f"frame-{real.new}"], "one merge request"
