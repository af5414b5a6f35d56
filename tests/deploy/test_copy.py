"""`make copy`: what it makes, and what works there."""

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import config
from deploy.frame import copy
from tests.deploy.frames import GIT, committed, git, of_the_frame, write
from tests.program import outside_of_make
from utils.version import frame_version


@pytest.fixture(scope="session")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the frame as it is here."""
    return committed(tmp_path_factory.mktemp("frame") / "frame", of_the_frame())


def copied(frame: Path, to: Path, name: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.frame", "copy", str(to), "--name", name]
    return subprocess.run(command, cwd=frame, env=GIT, capture_output=True, text=True)


def test_a_copy_is_a_repository_with_its_name_and_the_commit_that_it_was_made_of(frame: Path, tmp_path: Path) -> None:
    to = tmp_path / "paid orders"
    made = copied(frame, to, "Paid_orders-2.0")
    assert made.returncode == 0, made.stderr
    assert f"\nnext:\n  cd '{to}'\n" in made.stdout
    assert "tests/test_worker.py" in made.stdout, "it is red after each edit of worker.py"
    assert frame_version(to / ".frame").commit == git(frame, "rev-parse", "HEAD")
    assert frame_version(to / ".frame").left_out
    assert '\nCONSUMER_NAME = "Paid_orders-2.0"  #' in (to / "defaults.py").read_text()
    assert git(to, "status", "--porcelain") == ""
    assert git(to, "rev-list", "--count", "HEAD") == "1"


def test_the_python_of_debian_12_makes_one(frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tarfile knows no filters."""
    extract_all = tarfile.TarFile.extractall

    def extract_all_of_3_11_2(self: tarfile.TarFile, path: Path) -> None:
        extract_all(self, path, filter="data")

    if hasattr(tarfile, "data_filter"):  # else that very Python runs this
        monkeypatch.delattr(tarfile, "data_filter")
        monkeypatch.setattr(tarfile.TarFile, "extractall", extract_all_of_3_11_2)
    copy.made(frame, tmp_path / "copy", "")
    assert (tmp_path / "copy" / "worker.py").is_file()


@pytest.mark.parametrize("name", ["x y;z", "../../x", "a'b", 'a"b', "a\nb", "ä", "x" * 201])
def test_a_name_that_no_consumer_can_have_is_refused(frame: Path, tmp_path: Path, name: str) -> None:
    refused = copied(frame, tmp_path / "copy", name)
    assert refused.returncode == 2
    assert "1 to 200 characters of A-Z a-z 0-9 . _ -" in refused.stderr
    assert not (tmp_path / "copy").exists()
    assert copy.CONSUMER_NAME.pattern == config.CONSUMER_NAME, "the rule of a worker"


def test_where_to_must_be_said(frame: Path) -> None:
    command = [sys.executable, "-m", "deploy.frame", "copy", ""]  # of `make copy NAME=x`
    refused = subprocess.run(command, cwd=frame, env=GIT, capture_output=True, text=True)
    assert (refused.returncode, refused.stderr) == (
        2,
        "say where the copy shall be: make copy TO=../paid-orders NAME=…\n",
    )


def test_a_home_that_the_shell_has_left_as_a_tilde_is_that_of_the_user(frame: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.frame", "copy", "~/copy", "--name", "orders"]
    subprocess.run(command, cwd=frame, env={**GIT, "HOME": str(tmp_path)}, capture_output=True, check=True)
    assert (tmp_path / "copy/worker.py").is_file()
    assert not (frame / "~").exists()


def test_inside_another_repository_it_begins_none(frame: Path, tmp_path: Path) -> None:
    around = committed(tmp_path / "around", {"other.txt": "other"})
    assert "inside the repository" in copied(frame, around / "worker").stdout
    assert not (around / "worker/.git").exists()


def test_the_name_of_the_machine_is_not_the_name_of_the_consumer(frame: Path, tmp_path: Path) -> None:
    """WSL sets NAME in each shell, and the copy looked for the row DESKTOP-AB12CD."""
    environ = {**outside_of_make(), "NAME": "DESKTOP-AB12CD"}
    command = ["make", "copy", f"TO={tmp_path}/copy", f"PYTHON={sys.executable}"]
    for given, name in (([], ""), (["NAME=refunds"], "refunds")):
        made = subprocess.run(
            [*command, *given, "-n"], cwd=frame, env=environ, capture_output=True, text=True, check=True
        )
        assert made.stdout.endswith(f'--name "{name}"\n')


def test_what_is_there_is_left_alone(frame: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    refused = copied(frame, tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_make_lists_what_works_there_and_each_of_it_has_what_it_needs(frame: Path, tmp_path: Path) -> None:
    assert copied(frame, tmp_path / "copy").returncode == 0
    to = tmp_path / "copy"
    listed = subprocess.run(["make"], cwd=to, env=outside_of_make(), capture_output=True, text=True, check=True).stdout
    commands = [line.split()[0] for line in listed.splitlines()]
    assert {"demo", "test", "check", "update", "lock"} <= set(commands)
    assert not {"copy", "simulate", "bench", "chaos", "copies", "pictures"} & set(commands)
    for command in commands:
        dry = subprocess.run(["make", "-n", command], cwd=to, env=outside_of_make(), capture_output=True, text=True)
        assert dry.returncode == 0, dry.stderr
        assert not {"tests.", "bench.", "tests/frame.mk"} & set(dry.stdout.split())


def test_targets_of_ones_own_stand_beside_those_of_the_frame(frame: Path, tmp_path: Path) -> None:
    to = tmp_path / "copy"
    assert copied(frame, to).returncode == 0
    write(to, {"GNUmakefile": "include Makefile\n\nrelease: check  ## pushes our image\n\t@echo pushed\n"})
    listed = subprocess.run(["make"], cwd=to, env=outside_of_make(), capture_output=True, text=True, check=True).stdout
    assert {"release", "demo"} <= {line.split()[0] for line in listed.splitlines()}
    told = subprocess.run(["sh", "deploy/image.sh", "left_out"], cwd=to, capture_output=True, text=True, check=True)
    assert told.stdout == ""


def test_every_link_of_its_documents_leads_to_a_file_of_it(frame: Path, tmp_path: Path) -> None:
    to = tmp_path / "copy"
    assert copied(frame, to).returncode == 0
    pages = list(to.rglob("*.md"))
    assert {"README.md", "CHANGELOG.md", "docs/README.md"} <= {page.relative_to(to).as_posix() for page in pages}
    for page in pages:
        links = re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"#\s]+)", page.read_text())
        dead = [link for link in links if "://" not in link and not (page.parent / link).exists()]
        assert dead == [], page


def test_it_checks_and_tests_itself_without_the_frames_tests(frame: Path, tmp_path: Path) -> None:
    to = tmp_path / "copy"
    assert copied(frame, to).returncode == 0
    for command in (
        ["-m", "utils.processing.user_code"],
        ["-m", "pytest", "-q"],
        ["main.py", "demo", "--results", "2"],
    ):
        done = subprocess.run([sys.executable, *command], cwd=to, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_where_git_gives_files_the_line_ends_of_windows_its_scripts_run(frame: Path, tmp_path: Path) -> None:
    assert copied(frame, tmp_path / "copy").returncode == 0
    to = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "-c", "core.autocrlf=true", "copy", "clone")
    assert b"\r\n" in (to / "main.py").read_bytes()
    (to / "taxes").mkdir()
    listed = subprocess.run(["make", "-n", "test-mine"], cwd=to, env=outside_of_make(), capture_output=True, text=True)
    assert listed.stdout.split()[-1] == "taxes", listed.stderr


def test_a_script_that_fails_ends_make(frame: Path, tmp_path: Path) -> None:
    """Its directories would else be left out, and `make test-mine` would say that all is well."""
    to = tmp_path / "copy"
    assert copied(frame, to).returncode == 0
    (to / "deploy/image.sh").write_text("echo broken >&2; exit 1\n")
    failed = subprocess.run(["make", "-n", "test-mine"], cwd=to, env=outside_of_make(), capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[0] == "broken"


@pytest.mark.parametrize("path", ["tests/unit/test_prices.py", "tests/prices_test.py", "prices/test_rates.py"])
def test_make_test_mine_runs_the_tests_of_a_copy_wherever_they_are(frame: Path, tmp_path: Path, path: str) -> None:
    to = tmp_path / "copy"
    assert copied(frame, to).returncode == 0
    write(to, {path: "def test_it(): assert 0\n"})
    made = ["make", "-n", "test-mine"], ["make", "-n", "check"]
    listed = [
        subprocess.run(command, cwd=to, env=outside_of_make(), capture_output=True, text=True, check=True).stdout
        for command in made
    ]
    given = listed[0].splitlines()[-1].split(" -m ")[1]
    done = subprocess.run([sys.executable, "-m", *given.split()], cwd=to, capture_output=True, text=True)
    assert "1 failed" in done.stdout
    [compiles] = [line.split(" -m ")[1] for line in listed[1].splitlines() if "compileall" in line]
    (to / path).write_text("def broken(:\n")
    done = subprocess.run([sys.executable, "-m", *compiles.split()], cwd=to, capture_output=True, text=True)
    assert done.returncode != 0


def test_make_check_looks_at_each_module_beside_worker_py(frame: Path, tmp_path: Path) -> None:
    """The build of the image did, and failed where `make check` had been green."""
    to = tmp_path / "copy"
    assert copied(frame, to).returncode == 0
    write(to, {"rates.py": "def broken(:\n"})
    command = ["make", "-n", "check"]
    told = subprocess.run(command, cwd=to, env=outside_of_make(), capture_output=True, text=True, check=True).stdout
    [compiles] = [line.split(" -m ")[1] for line in told.splitlines() if "compileall" in line]
    done = subprocess.run([sys.executable, "-m", *compiles.split()], cwd=to, capture_output=True, text=True)
    assert "rates.py" in done.stdout
    assert done.returncode != 0


def test_a_copy_whose_tests_all_lie_beside_its_packages_tests_and_checks_itself(frame: Path, tmp_path: Path) -> None:
    """Without tests/ and defaults.py, both of which it may delete, `make test-mine` failed for want of a directory."""
    to = tmp_path / "copy"
    assert copied(frame, to).returncode == 0
    shutil.rmtree(to / "tests")
    write(to, {"defaults.py": None, "prices/test_rates.py": "def test_it(): assert 0\n"})
    listed = subprocess.run(
        ["make", "-n", "test-mine", "check"], cwd=to, env=outside_of_make(), capture_output=True, text=True, check=True
    )
    told = {line.split()[2]: line.split(" -m ")[1] for line in listed.stdout.splitlines() if " -m " in line}
    done = subprocess.run([sys.executable, "-m", *told["pytest"].split()], cwd=to, capture_output=True, text=True)
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    done = subprocess.run([sys.executable, "-m", *told["compileall"].split()], cwd=to, capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
