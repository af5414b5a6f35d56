"""`make frame-test`: what of a copy goes along. That it runs is a matter of tests/copies."""

from pathlib import Path

from deploy.frame.frame_tests import _other_tests_of_a_slim_copy
from tests.deploy.frames import write


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
