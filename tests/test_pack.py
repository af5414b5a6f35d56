"""deploy/pack.sh: which files are packed. `make pack-check` packs all, and installs that."""

import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.deploy.frames import GIT, committed, git, write
from tests.program import ROOT, outside_of_make

PROGRAM = {"main.py": "", "worker.py": "", "Dockerfile": ""}


def pack(source: Path, archive: str = "out.tar") -> subprocess.CompletedProcess[str]:
    (source / "deploy/wheels").mkdir(parents=True, exist_ok=True)
    write(source, {"cyclonedx": '#!/bin/sh\ntouch "$5"\n', "deploy/install.sh": ""})
    (source / "cyclonedx").chmod(0o755)
    environ = {**GIT, "CYCLONEDX": str(source / "cyclonedx"), "ENGINE": "false", "PYTHON_IMAGE": "python"}
    command = ["sh", str(ROOT / "deploy/pack.sh"), archive]
    return subprocess.run(command, cwd=source, env={**environ, "HOME": str(source)}, capture_output=True, text=True)


def packed(source: Path) -> tuple[set[str], str]:
    """The files of the tree in the archive, without the wheels; and what was said."""
    done = pack(source)
    assert done.returncode == 0, done.stderr
    tree = "consumer/tree/"
    with tarfile.open(source / "out.tar") as archive:
        found = {name.removeprefix(tree) for name in archive.getnames() if name.startswith(tree)}
    return found - {"deploy", "deploy/wheels"}, done.stderr


def test_what_git_knows_is_packed(tmp_path: Path) -> None:
    """A file that was deleted, and not yet committed so, ended it: `Cannot stat`."""
    ignored = ".env\nout.tar\n/deploy/\n/cyclonedx\n"
    kept = {**PROGRAM, "a name\nof two lines": "", ".gitignore": ignored}
    committed(tmp_path, {**kept, "docs/gone.md": "", "gone.py": ""})
    write(tmp_path, {"docs/gone.md": None, "gone.py": None, "fresh.py": "", ".env": "secret"})
    (tmp_path / "link").symlink_to("nowhere")
    git(tmp_path, "add", "fresh.py", "link")
    found, said = packed(tmp_path)
    assert found == {*kept, "fresh.py", "link"}
    assert "not taken" not in said


def test_what_git_does_not_know_is_named_and_stays_here(tmp_path: Path) -> None:
    """A `prod.env` that somebody had left in the copy was in the archive, and nothing said so."""
    kept = {**PROGRAM, ".gitignore": "out.tar\n/deploy/\n/cyclonedx\n"}
    committed(tmp_path, kept)
    write(tmp_path, {"prod.env": "secret", "keys/one.pem": "", "keys/two.pem": ""})
    found, said = packed(tmp_path)
    assert found == {*kept}
    assert "pack: not taken, for git does not know them: keys/ prod.env (where the worker needs it: git add)" in said


def test_what_git_ignores_in_a_directory_of_ones_own_is_named(tmp_path: Path) -> None:
    """A model: an image takes it, and the worker on the machine without a network had none, and nothing said so."""
    ignored = "out.tar\n/deploy/\n/cyclonedx\n__pycache__\n*.onnx\n*.pem\n"
    committed(tmp_path, {**PROGRAM, ".gitignore": ignored, "model/__init__.py": ""})
    write(
        tmp_path,
        {"model/big.onnx": "", "model/__pycache__/a.pyc": "", "docs/b.onnx": "", "c.pem": "", "keys/d.pem": ""},
    )
    _, said = packed(tmp_path)
    assert said.splitlines()[0] == (
        "pack: not taken, for .gitignore names them: keys/d.pem model/big.onnx (where the worker needs it: git add"
        " --force)"
    )


def test_of_many_that_git_ignores_it_says_that_there_are_more(tmp_path: Path) -> None:
    """A model behind 20 files of data was not named, and nothing said so."""
    committed(tmp_path, {**PROGRAM, ".gitignore": "out.tar\n/deploy/\n/cyclonedx\n*.csv\n*.onnx\n", "model/a.py": ""})
    data = [f"model/{number}.csv" for number in range(10, 30)]
    for ninth, told in (("", f"{' '.join(data)} and more (where"), (None, f"{' '.join(data)} (where")):
        write(tmp_path, dict.fromkeys(data, "") | {"model/9.csv": ninth})
        assert told in pack(tmp_path).stderr


def test_a_directory_with_a_blank_that_git_does_not_know_ends_nothing(tmp_path: Path) -> None:
    committed(tmp_path, {**PROGRAM, ".gitignore": "out.tar\n/deploy/\n/cyclonedx\n"})
    write(tmp_path, {"my notes/a.txt": ""})
    found, _ = packed(tmp_path)
    assert found == {*PROGRAM, ".gitignore"}


def test_a_wheel_by_its_address_is_named(tmp_path: Path) -> None:
    """pip goes to the address also where it is told of no index: without a network that ends the installation."""
    lock = "a==1.0 \\\n    --hash=x\nprices @ https://us:secret@x.example/prices-1.0-py3-none-any.whl \\\n    --hash=x"
    committed(tmp_path, {**PROGRAM, ".gitignore": "out.tar\n/deploy/\n/cyclonedx\n", "requirements.lock": lock})
    _, said = packed(tmp_path)
    assert said.splitlines()[0].startswith("pack: pip fetches prices from its address in requirements.lock, ")
    assert "secret" not in said


@pytest.mark.parametrize("unknown", PROGRAM)
def test_without_the_program_there_is_no_archive(unknown: str, tmp_path: Path) -> None:
    """In a copy of which git knew nothing yet all ended well; what was missing, the machine without a network said."""
    committed(tmp_path, PROGRAM)
    git(tmp_path, "rm", "--cached", unknown)
    done = pack(tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith(f"pack: git does not know {unknown}: git add what the worker needs\n")
    assert not (tmp_path / "out.tar").exists()


def test_where_there_is_no_repository_it_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    """It was after a minute and a half, and the line said that git was needed, which was there."""
    for name in ("Makefile", "requirements.lock", "deploy/image.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    environ = {**outside_of_make(), "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    done = subprocess.run(["make", "pack"], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 2
    [told, _make] = done.stderr.splitlines()
    assert told.startswith("pack: only what git knows is packed, and git says: fatal: not a git repository")
    assert told.endswith("(where there is no repository yet: git init && git add --all)")
    assert not (tmp_path / ".venv").exists()


def test_a_home_that_the_shell_has_left_as_a_tilde_is_that_of_the_user(tmp_path: Path) -> None:
    committed(tmp_path, PROGRAM)
    assert pack(tmp_path, "~/out.tar").returncode == 0
    assert (tmp_path / "out.tar.sha256").exists()


def test_the_archive_has_the_name_that_was_given_also_where_that_has_a_blank() -> None:
    """`../my pack.tar` was written to `../my`, over what was there."""
    command = ["make", "-n", "pack", "ARCHIVE=../my pack.tar"]
    told = subprocess.run(command, cwd=ROOT, env=outside_of_make(), capture_output=True, text=True, check=True).stdout
    assert told.endswith(' sh deploy/pack.sh "../my pack.tar"\n')
