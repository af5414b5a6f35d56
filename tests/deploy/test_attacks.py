"""`make update` where something is not as it should be: it says so in a line, and the copy stays as it was."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.frame.apply import STAGE
from tests.deploy.frames import GIT, committed, files_of, git, write
from tests.deploy.updates import LINES, MINE, Frame, by_archive, cloned, made, plain, update
from tests.program import ROOT
from utils.version import FrameVersion, frame_version


def refused(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line that says why."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def undone(said: str) -> None:
    subprocess.run(said.split("To undo it all: ")[1], shell=True, check=True)


# ---------------------------------------------------------------- what lies in a copy


def test_a_folder_that_is_a_link_leads_no_update_out_of_the_copy(frame: Frame, tmp_path: Path) -> None:
    copy, shared = cloned(frame, tmp_path / "copy"), tmp_path / "shared"
    (copy / "utils").rename(shared)
    (copy / "utils").symlink_to(shared)
    committed(copy, {})
    before = files_of(shared)
    assert f"{copy}/utils is a symbolic link" in refused(update(frame, copy))
    assert files_of(shared) == before


def test_a_file_that_is_a_link_is_named(frame: Frame, tmp_path: Path) -> None:
    copy = cloned(frame, tmp_path / "copy")
    (copy / "main.py").rename(tmp_path / "main.py")
    (copy / "main.py").symlink_to(tmp_path / "main.py")
    committed(copy, {})
    assert "main.py is a symbolic link" in refused(update(frame, copy))


def test_rights_that_somebody_took_away_stay_away(frame: Frame, tmp_path: Path) -> None:
    copy = cloned(frame, tmp_path / "copy")
    (copy / "main.py").chmod(0o600)
    (copy / "requirements.txt").chmod(0o440)
    assert update(frame, copy).returncode == 0
    assert (copy / "main.py").read_text() == "new main\n"
    assert (copy / "main.py").stat().st_mode & 0o777 == 0o600
    assert (copy / "requirements.txt").stat().st_mode & 0o777 == 0o440


def test_what_cannot_be_written_is_told_before_anything_is(frame: Frame, tmp_path: Path) -> None:
    copy = cloned(frame, tmp_path / "copy")
    before = files_of(copy)
    with read_only(copy / "utils"):
        assert "copy/utils may not be written to" in refused(update(frame, copy))
        assert files_of(copy) == before
        assert not (copy / STAGE).exists()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Also for root, to whom rights say nothing."""
    if subprocess.run(["mount", "--bind", "-o", "ro", str(folder), str(folder)], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_repository_of_somebody_else_is_not_taken_for_none(frame: Frame, tmp_path: Path) -> None:
    """git refuses to read one that belongs to another user; what is not committed could not be seen then."""
    if os.getuid():
        pytest.skip("only root can give files away")
    copy = cloned(frame, tmp_path / "copy")
    write(copy, {"main.py": "not committed\n"})
    subprocess.run(["chown", "-R", "65534:65534", str(copy)], check=True)
    assert "safe.directory" in refused(update(frame, copy))
    assert (copy / "main.py").read_text() == "not committed\n"


def test_what_git_was_told_not_to_show_is_still_in_its_way(frame: Frame, tmp_path: Path) -> None:
    """The way to undo an update removes what is not committed."""
    copy = committed(cloned(frame, tmp_path / "copy"), MINE)
    git(copy, "config", "status.showUntrackedFiles", "no")
    write(copy, {"notes.txt": "not added\n"})
    assert "notes.txt" in refused(update(frame, copy))


def test_where_git_does_not_keep_the_copy_it_is_saved_beside_it(frame: Frame, tmp_path: Path) -> None:
    """Inside a repository that ignores the copy, or parts of it: git could not bring back what was there."""
    for ignored in ("worker/", "utils/\n*.lock\n"):
        around = tmp_path / f"around {len(ignored)}"
        copy = plain(frame, around / "worker")
        committed(around, {".gitignore": ignored})
        before = files_of(copy)
        done = update(frame, copy, "--base", frame.old)
        assert done.returncode == 0, done.stderr
        assert files_of(copy) != before
        undone(done.stdout)
        assert files_of(copy) == before


def test_spaces_and_umlauts_are_only_letters(real: Frame, tmp_path: Path) -> None:
    source = cloned(real, tmp_path / "der Rahmen (für alle)", real.new)
    copy = cloned(real, tmp_path / "bezahlte Aufträge 'neu'", real.old)
    committed(copy, {"meine Steuern/sätze und mehr.json": "{}"})
    before = files_of(copy)
    done = made(copy, f"../{source.name}")
    assert done.returncode == 0, done.stderr
    assert (copy / "docs/fresh.md").exists()
    undone(done.stdout)
    assert files_of(copy) == before
    shutil.rmtree(copy / ".git")
    done = made(copy, f"../{source.name}", "", "--base", real.old)
    assert done.returncode == 0, done.stderr
    undone(done.stdout)
    assert files_of(copy) == before


def test_make_finds_its_python_in_a_path_with_spaces(real: Frame, tmp_path: Path) -> None:
    copy = cloned(real, tmp_path / "paid orders", real.old)
    (copy / ".venv").symlink_to(sys.prefix)
    command = ["make", "update", f"FROM={real.place}"]
    done = subprocess.run(command, cwd=copy, env=GIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (copy / "docs/fresh.md").exists()


def test_edits_that_git_was_told_to_overlook_come_back(frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), MINE)
    git(copy, "update-index", "--skip-worktree", "utils/offsets.py")
    write(copy, {"utils/offsets.py": f"offsets, as here\n{LINES}"})
    before = files_of(copy)
    done = update(frame, copy)
    assert done.returncode == 0, done.stderr
    assert "offsets, as here" in (copy / "utils/joining/offsets.py").read_text()
    undone(done.stdout)
    assert files_of(copy) == before


def test_a_file_where_the_frame_has_a_folder_is_told_before_anything_is_written(frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), {"utils/joining": "mine\n"})
    before = files_of(copy)
    assert "utils/joining is a file of yours" in refused(update(frame, copy))
    assert files_of(copy) == before
    assert not (copy / STAGE).exists()


def test_a_file_of_the_frame_becomes_a_folder(frame: Frame, tmp_path: Path) -> None:
    place = cloned(frame, tmp_path / "frame", frame.new)
    committed(place, {"utils/retry.py": None, "utils/retry.py/__init__.py": "a folder\n"})
    newer = Frame(place, frame.old, git(place, "rev-parse", "HEAD"))
    copy = cloned(frame, tmp_path / "copy")
    done = update(newer, copy)
    assert done.returncode == 0, done.stderr
    assert (copy / "utils/retry.py/__init__.py").read_text() == "a folder\n"


@pytest.mark.parametrize("path", ["requirements.txt", "config.py"])
def test_letters_of_another_time_are_named(path: str, frame: Frame, tmp_path: Path) -> None:
    copy = cloned(frame, tmp_path / "copy")
    with (copy / path).open("ab") as file:
        file.write("# für alle\n".encode("latin-1"))
    committed(copy, {})
    assert f"{path} is not in UTF-8" in refused(update(frame, copy))


def test_a_token_in_the_frames_address_is_not_shown(real: Frame, tmp_path: Path) -> None:
    """A pipeline keeps its log. Git itself leaves it out."""
    copy = cloned(real, tmp_path / "copy", real.old)
    told = refused(made(copy, "https://oauth2:topsecret@127.0.0.1:1/frame.git"))
    assert told.startswith("FROM=https://127.0.0.1:1/frame.git cannot be read: ")
    assert "topsecret" not in told


def test_a_token_that_is_the_user_of_the_frames_address_is_not_shown_in_what_git_says(
    real: Frame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was: git asks for its password, and nobody is there."""
    copy = cloned(real, tmp_path / "copy", real.old)
    said = "fatal: could not read Password for 'https://ghp_secret@host', or 'https://ghp_secret@mirror': no prompts"
    write(tmp_path, {"bin/git": f'#!/bin/sh\ncase " $* " in *" fetch "*) echo "{said}" >&2; exit 128 ;; esac\n'})
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setitem(GIT, "PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    told = refused(made(copy, "https://ghp_secret@host/frame.git"))
    assert told.startswith("FROM=https://host/frame.git cannot be read: fatal: could not read Password for ")
    assert "'https://host', or 'https://mirror'" in told


def test_a_python_that_is_too_old_or_not_there_is_named(real: Frame, tmp_path: Path) -> None:
    copy = cloned(real, tmp_path / "copy", real.old)
    write(tmp_path, {"python3.9": "#!/bin/sh\nexit 1\n"})
    (tmp_path / "python3.9").chmod(0o755)
    for python in ("../python3.9", "no-such-python"):
        command = ["sh", "deploy/update.sh", str(real.place)]
        environ = {**GIT, "FRAME_PYTHON": python}
        done = subprocess.run(command, cwd=copy, env=environ, capture_output=True, text=True)
        assert f"{python} is no Python 3.11 or newer" in refused(done)


def test_a_copy_with_a_detached_head_and_a_submodule_is_a_copy(frame: Frame, tmp_path: Path) -> None:
    copy = cloned(frame, tmp_path / "copy")
    library = committed(tmp_path / "library", {"rates.json": "{}"})
    git(copy, "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(library), "rates")
    committed(copy, {})
    git(copy, "checkout", "--quiet", "--detach")
    before = files_of(copy)
    done = update(frame, copy)
    assert done.returncode == 0, done.stderr
    assert (copy / "rates/rates.json").exists()
    undone(done.stdout)
    assert files_of(copy) == before
    write(copy, {"rates/rates.json": "[]"})
    assert "rates" in refused(update(frame, copy))


def test_a_copy_that_is_itself_a_submodule_is_a_copy(frame: Frame, tmp_path: Path) -> None:
    around = committed(tmp_path / "around", {"other.txt": "other\n"})
    mine = cloned(frame, tmp_path / "mine")
    git(around, "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(mine), "worker")
    git(around, "commit", "--quiet", "-m", "with it")
    done = update(frame, around / "worker")
    assert done.returncode == 0, done.stderr
    assert "shared history" in done.stdout


def test_two_names_that_differ_in_their_letters_only_are_two_files(frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), {"utils/Fresh.py": "mine\n"})
    if (copy / "utils/FRESH.py").exists():
        pytest.skip("here they are one file: then it is a conflict")
    assert update(frame, copy).returncode == 0
    assert (copy / "utils/Fresh.py").read_text() == "mine\n"
    assert (copy / "utils/fresh.py").read_text() == "fresh\n"


def test_a_commit_that_was_cut_short_in_dot_frame_is_the_whole_one(frame: Frame, tmp_path: Path) -> None:
    copy = by_archive(frame, tmp_path / "copy")
    write(copy, {".frame": FrameVersion("1.0.0", frame.new[:10], "bench tests").text()})
    assert "is current" in update(frame, copy).stdout


# ---------------------------------------------------------------- no place, and not alone


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_copy_as_it_was(frame: Frame, tmp_path: Path, small_disk: Path) -> None:
    for room in (0, 4, 12, 40, 72, 400):  # kB: from none at all to enough
        copy = plain(frame, small_disk / "copy")
        before = files_of(copy)
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
            file.truncate(max(file.tell() - room * 1024, 0))
        done = update(frame, copy, "--base", frame.old)
        filler.unlink()
        if done.returncode == 0:
            break
        assert "No space left on device" in refused(done)
        assert files_of(copy) == before
        assert not (copy / STAGE).exists()
        for path in small_disk.iterdir():
            assert path.name == "copy", path
        shutil.rmtree(copy)
    assert done.returncode == 0
    assert room > 0


def test_of_two_updates_at_once_one_is_refused(frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), MINE)
    other = os.open(copy, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    before = files_of(copy)
    assert "another update" in refused(update(frame, copy))
    assert files_of(copy) == before
    os.close(other)
    assert update(frame, copy).returncode == 0


def test_many_updates_at_once_make_one(frame: Frame, tmp_path: Path) -> None:
    copy = committed(cloned(frame, tmp_path / "copy"), MINE)
    command = [sys.executable, "-m", "deploy.frame", "update", "--copy", str(copy), "--frame", str(frame.place)]
    command += ["--to", frame.new]
    runs = [
        subprocess.Popen(command, cwd=ROOT, env=GIT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [run.communicate() for run in runs]
    assert 0 in [run.returncode for run in runs], said
    assert frame_version(copy / ".frame").commit == frame.new
    assert not (copy / STAGE).exists()
    alone = committed(cloned(frame, tmp_path / "alone"), MINE)
    assert update(frame, alone).returncode == 0
    assert files_of(copy) == files_of(alone)


# ---------------------------------------------------------------- what it comes from


def test_from_without_git_is_refused_with_what_to_take(real: Frame, tmp_path: Path) -> None:
    copy = cloned(real, tmp_path / "copy", real.old)
    unpacked = by_archive(real, tmp_path / "unpacked")
    said = refused(made(copy, str(unpacked)))
    assert "has no git history" in said
    assert "bundle" in said
    archive = tmp_path / "frame.tar.gz"
    subprocess.run(["tar", "-czf", str(archive), "-C", str(unpacked), "."], check=True)
    assert "has no git history" in refused(made(copy, str(archive)))
    assert git(copy, "status", "--porcelain") == ""


def test_from_that_was_cloned_without_its_history_is_told_so(real: Frame, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    git(real.place, "clone", "--quiet", "--depth=1", f"file://{real.place}", str(shallow))
    copy = cloned(real, tmp_path / "copy", real.old)
    said = refused(made(copy, str(shallow)))
    assert "--depth" in said
    assert "fetch --unshallow" in said


def test_so_are_the_frames_tests_from_such_a_one_that_a_shell_has_left_as_a_tilde(real: Frame, tmp_path: Path) -> None:
    """It was "the copy is newer, or FROM is another frame"; and zsh leaves `FROM=~/frame` as it is."""
    git(real.place, "clone", "--quiet", "--depth=1", f"file://{real.place}", str(tmp_path / "shallow"))
    older = Frame(real.place, real.old, real.old)
    copy = by_archive(older, tmp_path / "copy")
    command = [sys.executable, "-m", "deploy.frame", "test", "~/shallow"]
    said = subprocess.run(command, cwd=copy, env={**GIT, "HOME": str(tmp_path)}, capture_output=True, text=True)
    assert "is not in FROM: it was cloned with --depth and lacks history; run `git fetch --unshallow`" in refused(said)


def test_from_that_is_a_copy_somebody_has_edited_is_another_frame(real: Frame, tmp_path: Path) -> None:
    other = by_archive(real, tmp_path / "other")
    committed(other, {"worker.py": "def process(*given): ...\n"})
    copy = by_archive(real, tmp_path / "copy")
    assert "another frame" in refused(made(copy, str(other)))


def test_from_that_is_a_fork_of_the_frame_gives_its_edits_but_not_its_worker(real: Frame, tmp_path: Path) -> None:
    fork = cloned(real, tmp_path / "fork", real.new)
    committed(fork, {"worker.py": "theirs\n", "docs/fresh.md": "of the fork\n", "taxes/rates.py": "theirs\n"})
    copy = committed(cloned(real, tmp_path / "copy", real.old), {"worker.py": "def process(*given): ...\n"})
    done = made(copy, str(fork))
    assert done.returncode == 0, done.stderr
    assert (copy / "docs/fresh.md").read_text() == "of the fork\n"
    assert (copy / "worker.py").read_text() == "def process(*given): ...\n"


def test_from_the_copy_itself_there_is_nothing_to_do(real: Frame, tmp_path: Path) -> None:
    copy = cloned(real, tmp_path / "copy", real.new)
    done = made(copy, ".")
    assert done.returncode == 0, done.stderr
    assert "is current" in done.stdout


def test_a_bundle_without_tags_and_head_gives_its_main_branch(real: Frame, tmp_path: Path) -> None:
    source = cloned(real, tmp_path / "source", real.new)
    git(source, "branch", "--force", "main", real.new)
    git(source, "branch", "a-try-of-somebody", real.old)
    bundle = tmp_path / "frame.bundle"
    git(source, "bundle", "create", "--quiet", str(bundle), "main", "a-try-of-somebody")
    copy = cloned(real, tmp_path / "copy", real.old)
    assert made(copy, str(bundle), "", "--check").returncode == 3
    git(source, "bundle", "create", "--quiet", str(bundle), "mine", "a-try-of-somebody")
    assert "TO=" in refused(made(copy, str(bundle)))


def test_tags_that_are_no_versions_are_not_taken_for_the_newest(real: Frame, tmp_path: Path) -> None:
    tagged = cloned(real, tmp_path / "tagged", real.old)
    for tag, commit in (("v1.1.0", real.new), ("v1.1.0-rc1", real.old), ("vendor-import", real.old)):
        git(tagged, "tag", tag, commit)
    copy = cloned(real, tmp_path / "copy", real.old)
    done = made(copy, str(tagged))
    assert done.returncode == 0, done.stderr
    assert (copy / "docs/fresh.md").exists()
