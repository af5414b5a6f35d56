"""deploy/locked.py: what `make setup` says of a package that was not locked."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.locked import lacking
from tests.program import FORWARDING, ROOT, copied, outside_of_make

LOCK = """\
# made by make lock
confluent-kafka==2.16.1 \\
    --hash=sha256:00
numpy==2.4.6 ; python_version >= '3.11' \\
    --hash=sha256:00
numpy==2.5.5 ; python_version < '3.11' \\
    --hash=sha256:00
pymysql==1.2.4 ; python_version >= '3.11' \\
    --hash=sha256:00
ours @ https://example.org/ours-1.0-py3-none-any.whl \\
    --hash=sha256:00
"""


@pytest.mark.parametrize(
    "line",
    [
        "confluent-kafka==2.16.1",
        "Confluent_Kafka>=2,<3  # the client",
        "PyMySQL[rsa]==1.2.4",
        "pymysql",
        "# requests==2.34.2",
        "requests; python_version < '3'",
        "-r other.txt",
        "",
        "./mine",
        "ours @ https://example.org/ours-1.0-py3-none-any.whl",
        "numpy==2.4.6 ; python_version >= '3.11'\nnumpy==2.5.5 ; python_version < '3.11'",
    ],
)
def test_what_is_locked_is_no_news(line: str) -> None:
    assert lacking(f"{line}\n", LOCK) == []


@pytest.mark.parametrize(
    "line", ["requests", "requests==2.34.2  # for process()", "confluent-kafka==2.17", "PyMySQL~=2.0", "numpy==2.5.5"]
)
def test_what_is_not_locked_is_named(line: str) -> None:
    assert lacking(f"pymysql\n{line}\n", LOCK) == [line.partition("  #")[0]]


def test_setup_and_all_that_begins_with_it_end_where_a_package_was_not_locked(tmp_path: Path) -> None:
    """The lock of the tests may happen to hold it: all was green, and where it was deployed the worker ended."""
    copied(tmp_path, FORWARDING)
    for name in ("Makefile", "requirements.txt", "requirements.lock", "requirements-dev.txt", "requirements-dev.lock"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", ignore=shutil.ignore_patterns("wheels"))
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    # All but the installing, which is pip's and takes long.
    python.write_text(f'#!/bin/sh\n[ "$2" = pip ] || exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    made = make_check(tmp_path)
    assert (made.returncode, (tmp_path / ".venv/locked").exists()) == (0, True), made.stderr
    with (tmp_path / "requirements.txt").open("a") as requirements:
        requirements.write("locked-by-nobody\n")
    for _ in range(2):
        made = make_check(tmp_path)
        assert made.returncode == 2
        assert "requirements.lock lacks locked-by-nobody of requirements.txt: run `make lock`\n" in made.stderr


def make_check(directory: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "check", "OWN_TESTS="], cwd=directory, env=outside_of_make(), capture_output=True, text=True
    )


ASKS_AS_PIP = """\
#!/bin/sh
# A Python whose pip is configured, and whose uv tells what it was told.
case "$*" in
    "-m pip config get global.index-url") [ -z "$MIRROR" ] || echo https://mirror.example/simple ;;
    "-m pip config get global.extra-index-url") printf 'https://%s.example/simple\\n' ours theirs ;;
    "-m pip config get global.find-links") exit 1 ;;
    "-m pip config get global.cert") [ -z "$MIRROR" ] || echo /etc/our-ca.pem ;;
    "-m uv pip compile "*"$FAILS"*) exit 1 ;;
    "-m uv pip compile "*)
        env | grep -e '^UV_' -e '^SSL_CERT_FILE' | sort > "$TOLD" || :
        echo "$@" >> "$TOLD.arguments"
        [ -z "$WRITES" ] || printf '%s\\n' "$WRITES" > requirements.lock
        ;;
esac
"""
OURS = "UV_INDEX=https://ours.example/simple"


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, [f"{OURS} https://theirs.example/simple"]),
        (
            {"MIRROR": "1"},
            [
                "SSL_CERT_FILE=/etc/our-ca.pem",
                "UV_DEFAULT_INDEX=https://mirror.example/simple",
                f"{OURS} https://theirs.example/simple",
            ],
        ),
        (
            {"PIP_CERT": "/ca.pem", "PIP_TRUSTED_HOST": "a.example b.example"},
            ["SSL_CERT_FILE=/ca.pem", f"{OURS} https://theirs.example/simple", "UV_INSECURE_HOST=a.example b.example"],
        ),
        ({"PIP_EXTRA_INDEX_URL": "https://b.example/simple"}, ["UV_INDEX=https://b.example/simple"]),
        (
            {"PIP_FIND_LINKS": "/a /b", "UV_INDEX": "https://c.example/simple"},
            ["UV_FIND_LINKS=/a,/b", "UV_INDEX=https://c.example/simple"],
        ),
    ],
)
def test_a_lock_is_made_from_where_pip_looks(tmp_path: Path, environ: dict[str, str], told: list[str]) -> None:
    """A package of one's own company was not found: pip's extra-index-url was not handed on."""
    (tmp_path / "python").write_text(ASKS_AS_PIP)
    (tmp_path / "python").chmod(0o700)
    outside = {name: value for name, value in outside_of_make().items() if not name.startswith(("UV_", "PIP_", "SSL_"))}
    environ = {**outside, "TOLD": str(tmp_path / "told"), "FAILS": "nothing", **environ}
    command = ["make", "lock", f"PYTHON={tmp_path / 'python'}"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "told").read_text().splitlines() == told


def test_what_process_may_import_is_not_pinned_for_the_tests() -> None:
    """With another version of requests in requirements.txt no lock was made, and nothing named the other pin."""
    lines = (ROOT / "requirements-dev.txt").read_text().splitlines()
    named = {line.partition("#")[0].strip() for line in lines}
    assert {"httpx", "psycopg[binary]", "PyYAML", "requests", "urllib3", "websockets"} <= named


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (
            "-o requirements.lock",
            "newer Python than 3.11, and all of yours are newer, the one of the image, too: make lock LOCK_PY",
        ),
        (
            "requirements-dev.txt",
            "If a version in requirements-dev.txt, which tests and checks need, does not fit to one in",
        ),
    ],
)
def test_where_no_lock_can_be_made_the_cure_is_named(tmp_path: Path, fails: str, says: str) -> None:
    """That the version of the tests was another one, or Python 3.11 too old for it, was nowhere to be found."""
    done = locked(tmp_path, FAILS=fails)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    "line", ["prices @ git+https://us:secret@git.example/prices.git@9d8c5ae", "prices @ file:///prices", "-e ./prices"]
)
def test_a_package_that_pip_would_not_install_is_named_when_it_is_locked(tmp_path: Path, line: str) -> None:
    """It was written into the lock, and `make setup` failed with an error of pip's that tells no cure."""
    hashed = (
        "--index-url https://pypi.example/simple\n\nkafka==1.0 \\\n    --hash=sha256:00\n    # via -r requirements.txt"
    )
    assert locked(tmp_path, WRITES=hashed).returncode == 0
    done = locked(tmp_path, WRITES=f"# made by make lock\n{hashed}\n{line}\n    # via -r requirements.txt")
    assert done.returncode == 2
    shown = line.replace("us:secret@", "")
    assert done.stderr.startswith(f"{shown}: of a git repository or a directory pip can check")


def locked(directory: Path, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """make lock, with the arguments of uv in `told.arguments`."""
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, directory)
    (directory / "requirements.lock").touch()  # as uv leaves it, who is none here
    (directory / "python").write_text(ASKS_AS_PIP)
    (directory / "python").chmod(0o700)
    environ = {**outside_of_make(), "TOLD": str(directory / "told"), "FAILS": "nothing", **environ}
    command = ["make", "lock", "PYTHON=./python", *arguments]
    return subprocess.run(command, cwd=directory, env=environ, capture_output=True, text=True)


def test_a_lock_may_be_for_newer_pythons_alone_and_stays_so(tmp_path: Path) -> None:
    """What has no version for Python 3.11 any more could not be pinned, though nothing ran on it."""

    for arguments in ([], ["LOCK_PYTHON=3.12"]):
        done = locked(tmp_path, *arguments)
        assert done.returncode == 0
        assert "was not made" not in done.stdout, "what it would say if it failed is not to be read where it has not"
    first, _, second, _ = (tmp_path / "told.arguments").read_text().splitlines()
    assert "--python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command make lock " in first
    assert "--python-version 3.12 " in second
    assert "--only-binary :all: requirements.txt" in first, "an image installs nothing else"
    [said] = re.findall("--custom-compile-command (make lock LOCK_PYTHON=3.12) ", second)

    (tmp_path / "requirements.lock").write_text(f"# by uv\n#    {said}\nkafka==1.0\n")
    command = ["make", "--no-print-directory", "--eval=tell:\n\t@echo $(LOCK_PYTHON)", "tell"]
    done = subprocess.run(command, cwd=tmp_path, env=outside_of_make(), capture_output=True, text=True)
    assert done.stdout == "3.12\n"
