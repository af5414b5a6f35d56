"""The frame's tests pass also where the front page, the changelog and the manifests of a copy are its owner's."""

import re
import subprocess
import sys
from difflib import get_close_matches
from pathlib import Path

import pytest

from tests.deploy.frames import of_the_frame, write
from tests.docs.pages import CHANGELOG_IS_THE_FRAMES, README, README_IS_THE_FRAMES
from tests.program import ROOT, outside_of_make
from tests.test_deploy import is_as_the_frame_has_it
from utils.version import frame_version


def passing(copy: Path, *tests: str) -> str:
    """What pytest says of these tests of a copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-m", "not mariadb", *tests]
    done = subprocess.run(command, cwd=copy, env=outside_of_make(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_pages_and_manifests_of_ones_own_make_no_test_red(tmp_path: Path) -> None:
    """What everybody edits first did: the front page; and what docs/deploy.md asks to be changed for Kubernetes."""
    write(tmp_path, of_the_frame())
    write(tmp_path, {"README.md": "# Paid orders\n", "CHANGELOG.md": "# Ours [gone](no-such.md)\n"})
    write(tmp_path, {"tests/cases/README.md": ""})
    for path in (tmp_path / "deploy/kubernetes").rglob("*.yaml"):
        text = path.read_text().replace("paid-orders", "refunds").replace("namespace: consumers", "namespace: team-a")
        text = text.replace('namespace="consumers"', 'namespace="team-a"').replace("DB_HOST=mysql", "DB_HOST=db")
        path.write_text(re.sub("^components:.*", "", text, flags=re.MULTILINE))
    compose, unit = tmp_path / "deploy/compose.yaml", tmp_path / "deploy/systemd/consumer@.service"
    compose.write_text("include: [../ours.yaml]\n")
    unit.write_text(unit.read_text().replace("TimeoutStopSec=15", "TimeoutStopSec=2min"))
    dockerfile = (tmp_path / "Dockerfile").read_text().replace("HTTP_PORT=8080", "HTTP_PORT=9000")
    dockerfile = re.sub("^HEALTHCHECK.*", "", dockerfile.replace("USER 10001:10001", "USER 1001"), flags=re.MULTILINE)
    write(tmp_path, {"Dockerfile": dockerfile, ".gitignore": "*.orig\n", ".dockerignore": None})
    chosen = [f"tests/docs/test_{name}.py" for name in ("blocks", "links", "reference")] + ["tests/test_deploy.py"]
    chosen += [
        "tests/test_program.py::test_an_environment_goes_neither_into_the_repository_nor_into_the_build_context",
        "tests/docs/test_tutorial.py::test_what_it_leaves_does_not_get_into_the_repository",
        "tests/integration/test_scrape.py::test_the_health_check_of_the_image_tells_whether_the_worker_lives",
    ]
    told = re.findall(r"deploy/(\S+) of this copy is changed", passing(tmp_path, *chosen))
    of_the_root = {"../Dockerfile", "../.gitignore", "../.dockerignore"}
    assert {*told} == {"compose.yaml", "kubernetes", "systemd/consumer@.service", *of_the_root}


@pytest.mark.skipif(not is_as_the_frame_has_it(), reason="there is more than an addition already")
def test_what_somebody_adds_for_their_process_makes_no_test_red(tmp_path: Path) -> None:
    """A variable that examples/requests_api.py reads, in the compose file, was red: it is no setting."""
    write(tmp_path, of_the_frame())
    for place, line, added in (
        ("compose.yaml", "  DB_NAME: consumers\n", "  API_URL: http://prices.example\n"),
        ("compose.yaml", "\nservices:\n", "  redis: { image: redis }\n"),
        ("compose.yaml", "    depends_on:\n", "      redis: { condition: service_started }\n"),
        ("compose.yaml", "\n  worker:\n", '    volumes: ["./x:/x", { type: bind, source: ./y, target: /y }, /z]\n'),
        (
            "kubernetes/base/kustomization.yaml",
            "      - DB_NAME=consumers\n",
            "      - API_URL=http://prices.example\n",
        ),
        (
            "systemd/consumer@.service",
            "[Service]\n",
            "LoadCredential=api-key:/k\nEnvironment=API_KEY_FILE=%d/api-key\n",
        ),
    ):
        text = (tmp_path / "deploy" / place).read_text()
        (tmp_path / "deploy" / place).write_text(text.replace(line, line + added))
        assert added in (tmp_path / "deploy" / place).read_text()
    assert "of this copy is changed" not in passing(tmp_path, "tests/test_deploy.py")


def has_an_owner() -> bool:
    """A copy of somebody: a slim one, or a clone with a title or a process() of theirs. Nothing else tells."""
    is_slim = bool(frame_version().commit or frame_version().left_out) or not (ROOT / ".git").exists()
    is_titled = not get_close_matches(README.text.partition("\n")[0], ["# Consumer Skeleton"], cutoff=0.9)
    return is_slim or is_titled or not (ROOT / "worker.py").read_text().endswith('"""\n    return message\n')


@pytest.mark.skipif(has_an_owner(), reason="they may have others: only the frame itself is asked")
def test_in_the_frame_itself_they_are_not_taken_for_somebodys_own() -> None:
    """One letter of a title, or of a line of the manifests, took away all tests of it without a word."""
    cure = (
        "in the frame: tests/test_deploy.py and tests/docs/pages.py must know; a copy of yours: give README.md a title"
    )
    assert README_IS_THE_FRAMES, cure
    assert CHANGELOG_IS_THE_FRAMES, cure
    assert is_as_the_frame_has_it(), cure


@pytest.mark.skipif(has_an_owner(), reason="they may have others: only the frame itself is asked")
def test_a_clone_with_a_process_of_theirs_has_an_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    worker = (ROOT / "worker.py").read_text()
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    for text, owned in ((worker, False), (worker.replace("return message", "return None"), True)):
        (tmp_path / "worker.py").write_text(text)
        assert has_an_owner() is owned
