"""A worker with messages that wait is stopped, its copy brought to another version of the frame, and started: nothing
is lost, sent twice or joined by half. And back again, where the older version understands the commits of the newer one.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.frames import GIT, committed, git, of_the_frame
from tests.integration.conftest import Scenes
from tests.program import FORWARDING, ROOT
from tests.services.kafka import KafkaBroker

BEFORE_THE_ROOMS = "c774ef919734295e8253735c648020e56bf3b00d"  # the last commit whose utils/ has no folders


def brought(copy: Path, *options: str) -> str:
    command = [sys.executable, "-m", "deploy.frame", "update", "--copy", str(copy), *options]
    done = subprocess.run(command, cwd=ROOT, env=GIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_what_waits_outlives_an_update_of_the_copy_and_the_way_back(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    known = subprocess.run(["git", "-C", ROOT, "cat-file", "-e", BEFORE_THE_ROOMS], capture_output=True).returncode == 0
    if not known:
        pytest.skip("needs a clone of the frame with its history")
    copy = tmp_path / "old"
    copy.mkdir()
    subprocess.run(f"git -C '{ROOT}' archive {BEFORE_THE_ROOMS} | tar -xf - -C '{copy}'", shell=True, check=True)
    (copy / "worker.py").write_bytes(FORWARDING.read_bytes())
    scene = scenes(real_kafka, environment={"DELIVERY": delivery})
    scene.job.run_program(copy)
    first, second = scene.job.topics_input
    for round, options in enumerate([["--base", BEFORE_THE_ROOMS], ["--to", BEFORE_THE_ROOMS, "--back"], []]):
        worker = scene.job.start().is_assigned()
        scene.feed([f"{round}-{each}" for each in range(200)])
        scene.feed([f"{round}-waits-{each}" for each in range(100)], first)
        scene.wait_for_all(worker)
        assert worker.stop() == 0
        brought(copy, *options)
        assert (copy / "utils/offsets.py").exists() == (round == 1)
        scene.feed([f"{round}-waits-{each}" for each in range(100)], second)
    worker = scene.job.start().is_assigned()
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge(once=True)
    assert git(ROOT, "rev-parse", "HEAD") in (copy / ".frame").read_text()


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_the_way_back_to_a_version_that_does_not_understand_the_commits_says_what_comes_twice(
    real_kafka: KafkaBroker, scenes: Scenes, tmp_path: Path, delivery: str
) -> None:
    place = committed(tmp_path / "frame", of_the_frame())
    older = git(place, "rev-parse", "HEAD")
    maps = "utils/joining/offsets.py"
    text = (place / maps).read_text()
    assert text.count('_VERSION = "1"') == 1
    committed(place, {maps: text.replace('_VERSION = "1"', '_VERSION = "2"')})
    copy = tmp_path / "copy"
    git(tmp_path, "clone", "--quiet", str(place), str(copy))
    scene = scenes(real_kafka, environment={"DELIVERY": delivery})
    scene.job.run_program(copy)
    first, second = scene.job.topics_input
    worker = scene.job.start().is_assigned()
    scene.feed([f"waits-a-{each}" for each in range(20)], first)
    scene.feed([f"waits-b-{each}" for each in range(20)], second)  # on both sides commits stay where these are
    scene.feed([f"done-{each}" for each in range(200)])
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    told = brought(copy, "--frame", str(place), "--to", older, "--back")
    assert "does not understand all commits of this one" in told
    worker = scene.job.start().is_assigned()
    scene.feed([f"waits-a-{each}" for each in range(20)], second)
    scene.feed([f"waits-b-{each}" for each in range(20)], first)
    scene.wait_for_all(worker)
    assert worker.stop() == 0
    scene.judge()
    twice = scene.oracle.judge(scene.job.commits()).twice
    assert twice, "then the warning is not needed"
    assert all(id.startswith("done-") for id in twice)
