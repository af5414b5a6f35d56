"""`make frame-test`: what of a copy goes along. That it runs is a matter of tests/copies."""

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.frame.frame_tests import _other_tests_of_a_slim_copy
from tests.deploy.frames import write
from tests.program import ROOT, outside_of_make


def test_all_that_pytest_takes_for_tests_of_ones_own_is_left_out(tmp_path: Path) -> None:
    """tests/rates_test.py was run as if it were the frame's, without its conftest.py."""
    mine = ["tests/test_worker.py", "tests/test_rates.py", "tests/rates_test.py", "tests/prices/test_sums_test.py"]
    write(tmp_path, {**dict.fromkeys(mine, ""), "tests/helpers.py": "", ".frame": "left out: tests\n"})
    assert _other_tests_of_a_slim_copy(tmp_path) == [
        "tests/prices/test_sums_test.py",
        "tests/rates_test.py",
        "tests/test_rates.py",
    ]
    write(tmp_path, {".frame": ""})
    assert _other_tests_of_a_slim_copy(tmp_path) == []


@pytest.mark.parametrize("chosen", ["-k 'rates or prices'", '-k "rates or prices"', ""])
def test_the_tests_are_chosen_in_the_words_of_make_test(chosen: str, tmp_path: Path) -> None:
    """In single quotes the shell took one half of the choice for a file."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    command = ["make", "-s", "--old-file=setup", "frame-test", f"PYTHON={python}", "FROM=../frame", f"ARGS={chosen}"]
    done = subprocess.run(command, cwd=tmp_path, env=outside_of_make(), capture_output=True, text=True)
    assert done.stdout.splitlines() == ["-m", "deploy.frame", "test", "../frame", f"--arguments={chosen}"], done.stderr
