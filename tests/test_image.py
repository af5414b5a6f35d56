"""deploy/image.sh, the steps of the Dockerfile: what they say where they cannot go on."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.deploy.frames import GIT, committed
from tests.program import FORWARDING, ROOT, copied

ENVIRONMENT = """\
#!/bin/sh
# python -m venv TARGET, with the pip that is there: to unpack its own one takes four fifths of all
"{python}" -m venv --without-pip "$3" && ln -s "{pip}" "$3"/lib/python*/site-packages
"""


def quick_python(directory: Path) -> Path:
    """Makes environments."""
    python, pip = directory / "python", find_spec("pip")
    assert pip
    assert pip.origin
    python.write_text(ENVIRONMENT.format(python=sys.executable, pip=Path(pip.origin).parent))
    python.chmod(0o700)
    return python


def test_wheels_that_lack_a_part_of_the_lock_come_with_the_cure(tmp_path: Path) -> None:
    wheels, python = tmp_path / "wheels", quick_python(tmp_path)
    wheels.mkdir()
    environ = {**os.environ, "WHEELS": str(wheels), "PYTHON": str(python)}
    command: list[str | Path] = ["sh", ROOT / "deploy/image.sh", "packages", tmp_path / "app"]
    made = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert made.returncode == 1
    lacks = f"{wheels} lacks a part of requirements.lock, for this Python and machine: run `make wheels`"
    assert made.stderr.strip().splitlines()[-1] == lacks
    assert "No matching distribution found" in made.stderr
    is_of_a_home = os.path.realpath(sys.executable).startswith(("/root/", "/home/"))
    assert ("lies in somebody's home" in made.stderr) == is_of_a_home, "a unit of systemd cannot run it"


def test_a_package_without_a_wheel_is_said_to_have_none(tmp_path: Path) -> None:
    """pip denies its version."""
    for file in ("image.sh", "interpreter.py"):
        (tmp_path / "deploy").mkdir(exist_ok=True)
        shutil.copy(ROOT / "deploy" / file, tmp_path / "deploy")
    (tmp_path / "requirements.lock").write_text(f"no-such==1.0 --hash=sha256:{'0' * 64}\n")
    environ = {**os.environ, "PYTHON": str(quick_python(tmp_path)), "PIP_NO_INDEX": "1"}
    command = ["sh", "deploy/image.sh", "packages", "app"]
    made = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert made.returncode == 1
    assert "from versions: none" in made.stderr
    assert 'where it says "from versions: none" a package has no wheel for this' in made.stderr.splitlines()[-1]
    assert "or the index was not reached" in made.stderr.splitlines()[-1], "pip says the same then, at its end"


OWN_STEPS = r"""FROM python AS build
RUN --mount=type=secret,id=pip \
    sh deploy/image.sh packages /app
COPY . .
RUN sh deploy/image.sh program /app
FROM python
RUN touch {directory}/ran \
    && rm -rf /var/lib/apt/lists/none
run touch {directory}/ran
"""


def test_without_docker_only_the_steps_of_the_frame_are_run_on_this_machine(tmp_path: Path) -> None:
    """apt-get install ran on the machine of its developer, and a line of two was cut in half."""
    (tmp_path / "Dockerfile").write_text(OWN_STEPS.format(directory=tmp_path))
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/image-check.sh", tmp_path / "deploy")
    (tmp_path / "deploy/image.sh").write_text('echo "$@" >> steps; [ "$1" = packages ]\n')  # the second one ends it
    environ = {**os.environ, "PYTHON": "true"}
    (tmp_path / "requirements.lock").touch()
    done = subprocess.run(["sh", "deploy/image-check.sh"], cwd=tmp_path, env=environ, capture_output=True, text=True)
    steps = [line.split() for line in (tmp_path / "steps").read_text().splitlines()]
    assert [(name, Path(to).name) for name, to in steps] == [("packages", "app"), ("program", "app")], done.stderr
    assert not (tmp_path / "ran").exists()
    told = [line for line in done.stderr.splitlines() if line.startswith("image-check: not tried here: ")]
    assert [line.split(": ")[2].split(" /")[0] for line in told] == ["RUN touch", "run touch"]
    assert told[0].endswith("&& rm -rf /var/lib/apt/lists/none")


MAKES_A_PROGRAM = r"""
case $1 in
    packages)
        mkdir -p "$2/.venv/bin" && cd "$2/.venv/bin"
        printf '#!/bin/sh\necho ran "$@"\n' > python && chmod 755 python ;;
    program) touch "$2/main.py" && { [ ! -d examples ] || cp -r examples "$2"; } ;;
esac
"""


@pytest.mark.parametrize("examples", [True, False])
def test_the_image_is_tried_by_who_is_not_root_and_where_the_examples_were_deleted(
    tmp_path: Path, examples: bool
) -> None:
    """It was red for all but root, for they may write to what they have just made. And there was no demo to be run."""
    (tmp_path / "Dockerfile").write_text(OWN_STEPS.format(directory=tmp_path))
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy/image-check.sh", tmp_path / "deploy")
    (tmp_path / "deploy/image.sh").write_text(MAKES_A_PROGRAM)
    if examples:
        (tmp_path / "examples").mkdir()
        (tmp_path / "examples/demo.py").touch()
    (tmp_path / "requirements.lock").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "bin/id").chmod(0o755)
    environ = {**os.environ, "PYTHON": "true", "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "deploy/image-check.sh"], cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("ran main.py demo --results 3" in done.stdout.splitlines()) == examples


def test_an_archive_for_another_python_installs_nothing_and_says_for_which_it_is(tmp_path: Path) -> None:
    """Half a directory stayed, which refused the second try, and the cure was one for a machine with a network."""
    consumer, target = tmp_path / "consumer", tmp_path / "programs/orders"
    for file in ("deploy/image.sh", "deploy/interpreter.py", "requirements.lock", "requirements.txt"):
        (consumer / "tree" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, consumer / "tree" / file)
    (consumer / "tree/deploy/wheels").mkdir()
    for name in ("a-1.0-cp399-cp399-manylinux_2_28_x86_64", "b-1.0-py3-none-any", "c-1.0-cp39-abi3-manylinux1_x86_64"):
        (consumer / f"tree/deploy/wheels/{name}.whl").touch()
    shutil.copy(ROOT / "deploy/install.sh", consumer)
    sums = subprocess.run(["sha256sum", "install.sh"], cwd=consumer, capture_output=True, text=True, check=True)
    (consumer / "SHA256SUMS").write_text(sums.stdout)
    this = "{}.{}".format(*sys.version_info)
    for by_address in ("", "\nprices @ file:///nowhere/prices-1.0-py3-none-any.whl \\\n    --hash=sha256:00\n"):
        with (consumer / "tree/requirements.lock").open("a") as lock:
            lock.write(by_address)
        made = subprocess.run(
            ["sh", consumer / "install.sh", target],
            env={**os.environ, "PYTHON": str(quick_python(tmp_path))},
            capture_output=True,
            text=True,
        )
        assert made.returncode == 1, made.stderr
        assert made.stderr.splitlines()[-1] == (
            f"deploy/wheels is for Python 3.99, and this is {this}: set PYTHON=python3.99, or make it for this one,"
            f" where there is a network, with `make wheels WHEELS_PYTHON={this}`"
        )
        assert ("pip fetches prices from its address" in made.stderr) == bool(by_address), "in addition to that"
        assert not target.exists()


def test_what_is_installed_under_a_strict_umask_can_be_entered_by_the_user_of_the_unit(tmp_path: Path) -> None:
    """The directories above it could not, where install.sh had made them: systemd ended with 200/CHDIR."""
    consumer, target = tmp_path / "consumer", tmp_path / "opt/consumers/orders"
    (consumer / "tree/deploy").mkdir(parents=True)
    (consumer / "tree/deploy/image.sh").write_text('touch "$2/$1"\n')
    shutil.copy(ROOT / "deploy/install.sh", consumer)
    sums = subprocess.run(["sha256sum", "install.sh"], cwd=consumer, capture_output=True, text=True, check=True)
    (consumer / "SHA256SUMS").write_text(sums.stdout)
    command: list[str | Path] = ["sh", consumer / "install.sh", target]
    made = subprocess.run(command, capture_output=True, text=True, umask=0o077)
    assert made.returncode == 0, made.stderr
    assert (target / "program").exists()
    modes = [path.stat().st_mode & 0o777 for path in (target, target.parent, target.parent.parent)]
    assert modes == [0o755, 0o755, 0o755]


def build_context(directory: Path) -> Path:
    source = copied(directory / "source", FORWARDING)
    (source / ".frame").mkdir()
    return source


def with_program(source: Path, target: Path) -> "subprocess.CompletedProcess[str]":
    target.mkdir()
    (target / ".venv").symlink_to(sys.prefix)
    command: list[str | Path] = ["sh", ROOT / "deploy/image.sh", "program", target]
    return subprocess.run(command, cwd=source, capture_output=True, text=True)


@pytest.mark.parametrize(("name", "works"), [("mine", True), ("my data", False), ("models", False)])
def test_a_directory_that_cannot_be_copied_or_hides_a_file_ends_the_build(
    tmp_path: Path, name: str, works: bool
) -> None:
    """It was left out, and the image was made."""
    source = build_context(tmp_path)
    (source / name).mkdir()
    for module in ("__init__.py", "prices.py"):
        (source / name / module).write_text("TEA = 1\n")
    made = with_program(source, tmp_path / "app")
    assert (made.returncode == 0) == works, made.stderr
    assert ("my data: rename it, for a name with a blank cannot be taken" in made.stderr) == (name == "my data")
    assert (tmp_path / "app" / name / "prices.py").exists() or not works
    assert not works or not (tmp_path / "app/program.tar").exists()


def test_a_copy_that_has_deleted_the_examples_can_be_built(tmp_path: Path) -> None:
    source = build_context(tmp_path)
    shutil.rmtree(source / "examples")
    made = with_program(source, tmp_path / "app")
    assert made.returncode == 0, made.stderr
    assert not (tmp_path / "app/examples").exists()


def test_who_installs_over_an_older_version_is_told_that_its_files_stay(tmp_path: Path) -> None:
    """A module that the newer one has no more could still be imported, on that machine alone."""
    source, target = build_context(tmp_path), tmp_path / "app"
    first = with_program(source, target)
    again = subprocess.run(
        ["sh", ROOT / "deploy/image.sh", "program", target], cwd=source, capture_output=True, text=True
    )
    told = f"{target} holds a program already: files that this version no longer has stay there"
    assert told not in first.stderr
    assert told in again.stderr


@pytest.mark.parametrize(
    ("file", "read", "works"),
    [
        ("rates.json", "rates.json", False),
        ("rates/all.json", "rates/all.json", True),
        ("rates.json", "mounted.json", True),  # of its environment, which a build has not got
        ("rates.json", "/run/secrets/rates.json", True),
    ],
)
def test_a_file_of_data_beside_the_worker_is_told_and_where_it_is_missed_ends_the_build(
    tmp_path: Path, file: str, read: str, works: bool
) -> None:
    """An image was made whose worker could not start."""
    source = build_context(tmp_path)
    (source / file).parent.mkdir(exist_ok=True)
    (source / file).write_text("{}")
    (source / "README.md").touch()
    reads = f"from pathlib import Path\nPath(__file__).parent.joinpath({read!r}).read_text()\n"
    (source / "worker.py").write_text(reads + FORWARDING.read_text())
    made = with_program(source, tmp_path / "app")
    assert (made.returncode == 0) == works, made.stderr
    told = [line for line in made.stderr.splitlines() if line.startswith("not taken")]
    cure = "(where the worker needs it: put it into a directory of your own)"
    assert told == ([f"not taken: rates.json {cure}"] if file == "rates.json" else [])


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_file_that_only_its_owner_may_read_is_told_for_in_the_image_all_may(tmp_path: Path, is_strict: bool) -> None:
    """But not where a strict umask has made all files so."""
    source = build_context(tmp_path)
    (source / "mine").mkdir()
    for name, mode in (("password", 0o600), ("rates.csv", 0o600 if is_strict else 0o644)):
        (source / "mine" / name).write_text("x")
        (source / "mine" / name).chmod(mode)
    (source / "worker.py").chmod(0o600 if is_strict else 0o644)
    made = with_program(source, tmp_path / "app")
    assert made.returncode == 0, made.stderr
    told = [line for line in made.stderr.splitlines() if line.startswith("readable by all")]
    cure = "(keep secrets out: settings take files, as DB_PASSWORD_FILE)"
    assert told == ([] if is_strict else [f"readable by all who have the result: mine/password {cure}"])
    assert (tmp_path / "app/mine/password").stat().st_mode & 0o777 == 0o644


def test_hidden_files_in_a_directory_of_yours_stay_behind_and_are_named(tmp_path: Path) -> None:
    """pricing/.env, which git ignores, went into the image, and all could read it."""
    source = build_context(tmp_path)
    for file in ("pricing/.env", "pricing/.venv/bin/python", "pricing/rates.csv"):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_text("x")
    made = with_program(source, tmp_path / "app")
    assert made.returncode == 0, made.stderr
    assert {each.name for each in (tmp_path / "app/pricing").iterdir()} == {"rates.csv"}
    assert (tmp_path / "app/.frame").exists()
    [line] = [line for line in made.stderr.splitlines() if line.startswith("not taken, for they are hidden")]
    assert "pricing/.env" in line
    assert "pricing/.venv" in line


LINKS = {
    "a directory out of the tree": ("shared_lib", "../shared_lib", False),
    "a directory that the build has not got": ("shared_lib", "../no_such_lib", False),
    "a file out of the tree": ("data/rates.csv", "../../shared_lib/rates.csv", False),
    "a file that is not taken": ("data/rates.csv", "../rates.csv", False),
    "a file in this tree by its full name": ("data/rates.csv", "{source}/data/tea.csv", False),
    "the worker": ("worker.py", "../shared_lib/worker.py", False),
    "a file beside it": ("data/rates.csv", "tea.csv", True),
    "a file of another directory": ("data/rates.csv", "../mine/rates.csv", True),
    "a directory of the tree": ("shared_lib", "mine", True),
}


@pytest.mark.parametrize("link", LINKS)
def test_a_link_to_what_is_not_in_the_image_ends_the_build(tmp_path: Path, link: str) -> None:
    """It led to nothing in the image, and each message failed there; or the cure was to add it to requirements.txt."""
    source = build_context(tmp_path)
    for file in ("data/tea.csv", "mine/rates.csv", "rates.csv", "../shared_lib/rates.csv"):
        (source / file).parent.mkdir(exist_ok=True)
        (source / file).write_text("tea 1\n")
    shutil.copy(FORWARDING, tmp_path / "shared_lib/worker.py")
    name, to, works = LINKS[link]
    to = to.format(source=source)
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(to)
    made = with_program(source, tmp_path / "app")
    assert (made.returncode == 0) == works, made.stderr
    told = f"{name} -> {to}: a link to what is not in the program: put the file or directory itself there"
    assert (made.stderr.splitlines()[-1:] == [told]) == (not works)


@pytest.mark.parametrize("name", ["rates", "data/rates.csv"])
def test_a_link_to_what_may_be_mounted_where_the_worker_runs_is_taken_and_told(tmp_path: Path, name: str) -> None:
    source = build_context(tmp_path)
    (source / "data").mkdir()
    (source / name).symlink_to("/mnt/no such rates")
    made = with_program(source, tmp_path / "app")
    assert made.returncode == 0, made.stderr
    assert f"{name} -> /mnt/no such rates: a link, which is taken as it is: the worker needs there what" in made.stderr
    assert (tmp_path / "app" / name).is_symlink()


def test_what_cannot_be_read_ends_the_packing(tmp_path: Path) -> None:
    """The archive was made without it, and its sums were right."""
    program = {"main.py": "", "worker.py": "", "Dockerfile": "ARG PYTHON_IMAGE=none\n"}
    source = committed(tmp_path / "frame", {**program, "prices/table.csv": "tea 1\n"})
    (source / "deploy/wheels").mkdir(parents=True)
    (source / "deploy/install.sh").touch()
    environ = {**GIT, "CYCLONEDX": "true", "ENGINE": "false"}
    command: list[str | Path] = ["sh", ROOT / "deploy/pack.sh", tmp_path / "pack.tar"]
    packed = subprocess.run(command, cwd=source, env=environ, capture_output=True, text=True)
    assert packed.returncode == 0, packed.stderr
    (tmp_path / "bin").mkdir()
    # It goes while it is packed. (Whoever is root may read all that stays.)
    (tmp_path / "bin/tar").write_text(f'#!/bin/sh\nrm -f prices/table.csv\nexec {shutil.which("tar")} "$@"\n')
    (tmp_path / "bin/tar").chmod(0o755)
    environ["PATH"] = f"{tmp_path / 'bin'}:{environ['PATH']}"
    packed = subprocess.run(command, cwd=source, env=environ, capture_output=True, text=True)
    assert packed.returncode != 0
    assert "prices/table.csv" in packed.stderr
