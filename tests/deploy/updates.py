"""A small frame with two versions, copies of it made in every way, and updates of them, for tests."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.frames import GIT, committed, git
from tests.program import ROOT

LINES = "".join(f"line_{number} = {number * number}\n" for number in range(30))
OLD: dict[str, bytes | str | None] = {
    "main.py": "old main\n",
    "worker.py": "def process(): ...\n",
    "config.py": f'CONSUMER_NAME = ""  # which row\nDB_PORT = 3306\n\n{LINES}',
    "utils/offsets.py": f"offsets\n{LINES}",
    "utils/gone.py": f"gone\n{LINES}",
    "utils/retry.py": "retry\n",
    "tests/test_worker.py": "import worker\n",
    "tests/__init__.py": "",
    "tests/test_offsets.py": f"tests\n{LINES}",
    "bench/run.py": f"bench\n{LINES}",
    "docs/picture.png": b"\x89PNG\r\n\x00",
    ".ci/run": "old ci\n",
    "README.md": "old readme\n",
    "requirements.txt": "kafka==1.0\n",
    "requirements.lock": "kafka==1.0 \\\n    --hash=sha256:10\n",
    "CHANGELOG.md": "# Changelog\n\n## [0.9.0]\n\n- Old.\n",
}
# What nobody would take for a move of utils/offsets.py, if it had not been moved first and changed then.
REWRITTEN = "".join(f"# {number}\nother {number}\n" for number in range(60))
MOVED: dict[str, bytes | str | None] = {
    "utils/offsets.py": None,
    "utils/joining/offsets.py": f"offsets\n{LINES}",
    "tests/test_offsets.py": None,
    "tests/joining/test_offsets.py": f"tests\n{LINES}",
}
NEW: dict[str, bytes | str | None] = {
    "main.py": "new main\n",
    "worker.py": "def process(): return 1\n",
    "config.py": LINES,
    "defaults.py": '"""Yours."""\nCONSUMER_NAME = ""\n',
    "utils/joining/offsets.py": f"offsets\n{LINES}{REWRITTEN}",
    "utils/gone.py": None,
    "utils/fresh.py": "fresh\n",
    "tests/test_worker.py": "import worker, json\n",
    "tests/test_fresh.py": "fresh\n",
    "bench/fresh.py": "fresh\n",
    "docs/picture.png": b"\x89PNG\r\n\x01",
    ".ci/run": "new ci\n",
    "README.md": "new readme\n",
    "requirements.txt": "kafka==1.1\nmsgspec==0.1\n",
    "requirements.lock": "kafka==1.1 \\\n    --hash=sha256:11\nmsgspec==0.1 \\\n    --hash=sha256:01\n",
    "CHANGELOG.md": "# Changelog\n\n## [1.0.0]\n\n### To do\n\n- Mind the gap.\n\n## [0.9.0]\n\n- Old.\n",
    ".frame": "version: 1.0.0\ncommit: $Format:%H$\nleft out: $Format:bench tests$\n",
    ".gitattributes": (ROOT / ".gitattributes").read_bytes(),
}
MINE: dict[str, bytes | str | None] = {
    "worker.py": "import taxes\ndef process(): return taxes.rate\n",
    "tests/test_worker.py": "import taxes\n",
    "taxes/__init__.py": "rate = 7\n",
    "requirements.txt": "kafka==1.0\nrequests==2.0\n",
    "requirements.lock": "kafka==1.0 \\\n    --hash=sha256:10\nrequests==2.0 \\\n    --hash=sha256:20\n",
}


@dataclass(frozen=True, slots=True)
class Frame:
    place: Path
    old: str
    new: str


def update(frame: Frame, copy: Path, *options: str, to: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "deploy.frame", "update", "--copy", str(copy), "--frame", str(frame.place)]
    command += ["--to", to or frame.new, *options]
    return subprocess.run(command, cwd=ROOT, env=GIT, capture_output=True, text=True)


def cloned(frame: Frame, copy: Path, commit: str = "") -> Path:
    git(frame.place, "clone", "--quiet", str(frame.place), str(copy))
    git(copy, "checkout", "--quiet", "-b", "mine", commit or frame.old)
    return copy


def plain(frame: Frame, copy: Path, commit: str = "") -> Path:
    shutil.rmtree(cloned(frame, copy, commit) / ".git")
    return copy


def by_archive(frame: Frame, copy: Path) -> Path:
    """Of a version that has .frame already: the new one, from which the copy goes back and forth."""
    copy.mkdir(parents=True)
    subprocess.run(f"git -C {frame.place} archive {frame.new} | tar -xf - -C {copy}", shell=True, check=True)
    return copy


def inside(frame: Frame, copy: Path) -> Path:
    plain(frame, copy / "services/worker")
    committed(copy, {"other.txt": "other\n"})
    return copy / "services/worker"


def made(copy: Path, source: str, *more: str) -> "subprocess.CompletedProcess[str]":
    command = ["sh", "deploy/update.sh", source, *more]
    return subprocess.run(
        command, cwd=copy, env={**GIT, "FRAME_PYTHON": sys.executable}, capture_output=True, text=True
    )
