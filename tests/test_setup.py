"""`make setup`: when it makes .venv, and when it installs into it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from shlex import quote, split

import pytest

from deploy.moved import renamed
from tests.program import ROOT, outside_of_make

PIP = """\
import os, sys
with open(os.environ["TOLD"], "a") as told:
    print(*sys.argv[1:], file=told)
"""
NEWEST = """\
#!/bin/sh
[ "$*" != "deploy/interpreter.py better" ] || exec echo "$BETTER"
[ "$2" != venv ] || set -- "$@" --without-pip
exec "{}" "$@"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What `make` needs, and a pip that installs nothing, and tells what it was told."""
    for name in ("Makefile", "requirements.txt", "requirements.lock", "requirements-dev.txt", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "deploy").mkdir()
    for name in ("deploy/locked.py", "deploy/interpreter.py", "deploy/moved.py", "deploy/requirements-check.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "modules/pip").mkdir(parents=True)
    (tmp_path / "modules/pip/__init__.py").touch()
    (tmp_path / "modules/pip/__main__.py").write_text(PIP)
    makefile = tmp_path / "Makefile"
    makefile.write_text(re.sub("^PYTHONS .*", "PYTHONS ?= ./newest", makefile.read_text(), flags=re.M))
    python_at(tmp_path / "newest")
    return tmp_path


def python_at(place: Path) -> Path:
    """One that makes environments without pip, and knows the optimized one that $BETTER names."""
    place.parent.mkdir(exist_ok=True)
    place.write_text(NEWEST.format(sys.executable))
    place.chmod(0o755)
    return place


def made(project: Path, goal: str, **more: str) -> list[str]:
    """What pip was told meanwhile, a line for each of its runs."""
    (project / "told").write_text("")
    found = os.pathsep.join([str(project / "modules"), sysconfig.get_path("purelib")])
    environ = {**outside_of_make(), "PYTHONPATH": found, "TOLD": str(project / "told"), **more}
    done = subprocess.run(["make", goal], cwd=project, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not found" not in done.stderr
    return (project / "told").read_text().splitlines()


@pytest.mark.parametrize(
    ("goal", "environment", "lock"),
    [
        ("setup", ".venv", "requirements-dev.lock"),
        (".venv-deploy/done", ".venv-deploy", "deploy/requirements-check.txt"),
    ],
)
def test_an_environment_is_made_anew_with_its_packages_where_its_python_is_gone(
    goal: str, environment: str, lock: str, project: Path
) -> None:
    """It was made without them, or its link left as it was; and each later `make setup` said that all was there."""
    assert f"-r {lock}" in "\n".join(made(project, goal))
    assert made(project, goal) == [], "all is there"
    python = project / environment / "bin/python"
    links = [link for link in python.parent.iterdir() if link.name.startswith("python")]
    for link in links:
        link.unlink()
        link.symlink_to("/no/such/python3.9")
    assert f"-r {lock}" in "\n".join(made(project, goal))
    assert subprocess.run([python, "-c", ""]).returncode == 0
    assert made(project, goal) == [], "all is there"


@pytest.mark.parametrize(("goal", "environment"), [("setup", ".venv"), (".venv-deploy/done", ".venv-deploy")])
@pytest.mark.parametrize(("moved", "name"), [(True, "{}, moved"), (False, "{}-copied")])
def test_an_environment_that_came_from_another_place_keeps_what_is_in_it_and_names_where_it_is(
    goal: str, environment: str, moved: bool, name: str, project: Path
) -> None:
    """Its scripts named the old place: `activate` led to a Python without packages, or to that of the other copy."""
    made(project, goal)
    at = project / environment
    (at / "bin/pip-audit").write_text(f"#!{at}/bin/python\nimport sys\nprint(sys.prefix)\n")
    (at / "bin/pip-audit").chmod(0o755)
    program = b"\x7fELF\r\n#!" + bytes(at)
    (at / "bin/ruff").write_bytes(program)
    (project.parent / "elsewhere").write_text(f"#!{at}/bin/python\n")
    (at / "bin/link").symlink_to(project.parent / "elsewhere")
    here = project.with_name(name.format(project.name))
    shutil.move(project, here) if moved else shutil.copytree(project, here, symlinks=True)
    assert made(here, goal) != []
    now = here / environment
    assert (now / "bin/ruff").read_bytes() == program
    assert (now / "bin/link").is_symlink()
    assert (now / "bin/link").read_text() == f"#!{at}/bin/python\n"
    assert subprocess.run([now / "bin/pip-audit"], stdout=-1, text=True).stdout == f"{now}\n"
    found = subprocess.run(
        ["sh", "-c", f". {environment}/bin/activate; command -v python"], cwd=here, stdout=-1, text=True
    )
    assert found.stdout == f"{now}/bin/python\n"
    assert moved or str(at) in (at / "bin/activate").read_text(), "that of the other copy stays as it is"
    assert made(here, goal) == [], "all is there"


def test_so_does_one_that_was_moved_before_its_stamp_said_where_it_was_made(project: Path) -> None:
    """In older versions it was empty. Those who had the trouble then kept it."""
    made(project, "setup")
    here = project.rename(project.with_name(f"{project.name}, renamed"))
    (here / ".venv/locked").write_text("")
    assert made(here, "setup") != []
    assert f"{project}/.venv" not in (here / ".venv/bin/activate").read_text()
    assert made(here, "setup") == [], "all is there"


LONG = "/" + "long" * 30
BY_PYTHON = {
    "/a": "#!/a/bin/python3\n",
    "/a b": """#!/bin/sh\n'''exec' "/a b/bin/python3" "$0" "$@"\n' '''\n""",
    LONG: f"""#!/bin/sh\n'''exec' "{LONG}/bin/python3" "$0" "$@"\n' '''\n""",
}


@pytest.mark.parametrize("after", BY_PYTHON)
@pytest.mark.parametrize("before", BY_PYTHON)
def test_a_script_begins_as_pip_writes_it_whatever_stands_in_the_place(before: str, after: str) -> None:
    """A kernel takes what follows a blank for an argument, and does not read a long line to its end."""
    for was in (BY_PYTHON[before], BY_PYTHON[before].replace(f'"{before}/bin/python3"', f"{before}/bin/python3")):
        assert renamed(f"{was}import sys\n", before, after) == f"{BY_PYTHON[after]}import sys\n"


@pytest.mark.parametrize("before", ['"/a b/.venv"', "'/a b/.venv'", "/a-b/.venv", quote("/a'b/.venv")])
@pytest.mark.parametrize("after", ["/c/.venv", "/c d/.venv", "/c'd/.venv"])
def test_the_shell_reads_the_place_whatever_stands_in_it(before: str, after: str) -> None:
    """Python 3.11 writes it with marks, newer ones only where it needs them."""
    activate = renamed(f"# for a shell\nVIRTUAL_ENV={before}\n", split(before)[0], after)
    told = subprocess.run(["sh", "-c", f"{activate}echo $VIRTUAL_ENV"], stdout=subprocess.PIPE, text=True).stdout
    assert told == f"{after}\n"


def test_by_a_link_to_its_directory_an_environment_has_not_moved(project: Path) -> None:
    """Such as /tmp is on a Mac, or many a /home: it would be mended at each `make`."""
    link = project.with_name(f"{project.name}-link")
    link.symlink_to(project)
    assert made(link, "setup", PWD=str(link)) != []
    assert made(link, "setup", PWD=str(link)) == []
    assert made(project, "setup") == []


def test_what_only_asks_changes_nothing_in_an_environment_that_was_moved(project: Path) -> None:
    """`make update ARGS=--check`, say, which needs a Python and none of the packages."""
    made(project, "setup")
    here = project.rename(project.with_name(f"{project.name}-renamed"))
    before = (here / ".venv/bin/activate").read_text()
    assert made(here, ".venv/bin/python") == []
    assert (here / ".venv/bin/activate").read_text() == before


def test_an_environment_that_others_have_made_is_named_where_it_is_of_no_use(project: Path) -> None:
    """One without pip, of `uv venv`, or of Python 3.10: up to sixty lines of pip, and no cure."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", project / ".venv"], check=True)
    done = subprocess.run(["make", "setup"], cwd=project, env=outside_of_make(), capture_output=True, text=True)
    assert "remove it (rm -r .venv), then run `make setup`" in done.stderr.splitlines()[0]
    assert (project / ".venv").exists(), "it is theirs"


def test_an_environment_is_made_with_the_optimized_python_unless_somebody_names_another(project: Path) -> None:
    """One in a directory with a blank, too."""
    better = python_at(project / "of Debian/python3")
    better.write_text(better.read_text().replace("set --", "touch taken && set --"))
    made(project, "setup", BETTER=str(better), PYTHONS=str(project / "newest"))
    assert not (project / "taken").exists()
    shutil.rmtree(project / ".venv")
    made(project, "setup", BETTER=str(better))
    assert (project / "taken").exists()


def test_an_environment_of_an_old_python_is_named(project: Path) -> None:
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncase "$2" in *version_info*) exit 1;; esac\necho Python 3.10.1\n')
    python.chmod(0o755)
    done = subprocess.run(["make", "setup"], cwd=project, env=outside_of_make(), capture_output=True, text=True)
    assert "the .venv that is here, of Python 3.10.1, is too old" in done.stderr


def test_an_environment_whose_python_is_there_keeps_what_is_in_it(project: Path) -> None:
    made(project, "setup")
    (project / ".venv/mine").touch()
    os.utime(project / ".venv/locked", (1, 1))  # older than the locks
    assert made(project, "setup") != []
    assert (project / ".venv/mine").exists()
