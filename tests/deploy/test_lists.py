"""deploy/frame/lists.py, values.py, changelog.py: texts that git would not merge as their users mean them."""

import re

import pytest

from deploy.frame import changelog, values
from deploy.frame.lists import Differing, merged
from tests.deploy.frames import newest_version

BASE = "# What the worker needs.\nkafka==1.0\nmsgspec==0.1\n\n# Is it in PostgreSQL?\n# psycopg==3.1\n"
TWO = "numpy==1.26; python_version < '3.12'\nnumpy==2.1; python_version >= '3.12'\n"  # one project in two lines


@pytest.mark.parametrize(
    ("new", "yours", "expected"),
    [
        (BASE, BASE + "requests==2.0\n", BASE + "requests==2.0\n"),
        (BASE + "sqlalchemy==2.0\n", BASE + "requests==2.0\n", BASE + "sqlalchemy==2.0\nrequests==2.0\n"),
        (BASE.replace("0.1", "0.2"), BASE + "requests==2.0\n", BASE.replace("0.1", "0.2") + "requests==2.0\n"),
        (BASE.replace("0.1", "0.2"), BASE.replace("1.0", "1.1"), BASE.replace("0.1", "0.2").replace("1.0", "1.1")),
        (
            BASE.replace("0.1", "0.2"),
            BASE.replace("# psycopg", "psycopg"),
            BASE.replace("0.1", "0.2").replace("# psycopg==3.1\n", "psycopg==3.1\n"),
        ),
        (
            BASE.replace("msgspec==0.1\n", ""),
            BASE + "Requests==2.0\n",
            BASE.replace("msgspec==0.1\n", "") + "Requests==2.0\n",
        ),
        (BASE + "requests==2.1\n", BASE + "Requests == 2.1  # ours\n", BASE + "requests==2.1\n"),
        (BASE.replace("0.1", "0.2"), BASE + TWO, BASE.replace("0.1", "0.2") + TWO),
        (BASE + TWO, BASE + "requests==2.0\n", BASE + TWO + "requests==2.0\n"),
        (BASE.replace("kafka==1.0\n", TWO), BASE, BASE.replace("kafka==1.0\n", TWO)),
        (BASE + "#\n#\n", BASE + "#\nflask==3.0\n", BASE + "#\n#\nflask==3.0\n"),
    ],
)
def test_requirements_of_both_sides_stand_in_one_file(new: str, yours: str, expected: str) -> None:
    assert merged("requirements.txt", BASE, new, yours) == expected


@pytest.mark.parametrize("own", ["msgspec==0.3\n", ""], ids=["changed", "removed"])
def test_a_requirement_that_both_have_changed_differently_is_named_and_marked_among_all_others(own: str) -> None:
    """The others that the frame had changed or added were not there, and came with no later update either."""
    new = BASE.replace("0.1", "0.2").replace("1.0", "1.1") + "newlib==1.0\n"
    yours = BASE.replace("msgspec==0.1\n", own) + "requests==2.0\n"
    with pytest.raises(Differing, match="msgspec") as raised:
        merged("requirements.txt", BASE, new, yours)
    marks = f"<<<<<<< yours\n{own}=======\nmsgspec==0.2\n>>>>>>> frame\n"
    assert raised.value.marked == new.replace("msgspec==0.2\n", marks) + "requests==2.0\n"


def test_all_requirements_that_both_have_changed_differently_are_named() -> None:
    """The first alone was, and the next in the update after that."""
    new, yours = BASE.replace("==", "==2."), BASE.replace("==", "==3.")
    with pytest.raises(Differing, match=r"^kafka, msgspec$") as raised:
        merged("requirements.txt", BASE, new, yours)
    assert raised.value.marked.count("<<<<<<< yours") == 2


def test_a_requirement_that_both_have_added_in_another_version_is_named() -> None:
    """The frame's took the place of the user's, in silence."""
    with pytest.raises(Differing, match="requests"):
        merged("requirements.txt", BASE, BASE + "requests==2.1\n", BASE + "Requests==2.0  # 2.1 has no proxies=\n")


def test_a_lock_keeps_your_packages_and_takes_the_frames_versions() -> None:
    def lock(**packages: str) -> str:
        blocks = [f"{name}=={version} \\\n    --hash=sha256:{name}{version}\n" for name, version in packages.items()]
        return "# made by make lock\n" + "".join(blocks)

    base, new = lock(kafka="1.0", msgspec="0.1"), lock(kafka="1.1", msgspec="0.1", urllib3="2.0")
    yours = lock(certifi="2026", kafka="1.0", msgspec="0.1", requests="2.0", urllib3="1.9")
    expected = lock(certifi="2026", kafka="1.1", msgspec="0.1", requests="2.0", urllib3="2.0")
    assert merged("requirements.lock", base, new, yours) == expected


def test_a_lock_keeps_all_versions_of_a_package_that_has_one_for_each_python() -> None:
    """Only the last one was left: on an older Python nothing could be installed."""
    base, new = "msgspec==0.1\n", "msgspec==0.2\n"
    numpy = "numpy==2.4 ; python_full_version < '3.12'\n    # via pandas\nnumpy==2.5 ; python_full_version >= '3.12'\n"
    assert merged("requirements.lock", base, new, base + numpy) == new + numpy


def test_a_lock_that_was_made_for_newer_pythons_says_so_still() -> None:
    yours = "#    make lock LOCK_PYTHON=3.12\nkafka==1.0\nnumpy==2.5\n"
    merge = merged("requirements.lock", "#    make lock\nkafka==1.0\n", "#    make lock\nkafka==1.1\n", yours)
    assert merge == yours.replace("1.0", "1.1")


OLD_CONFIG = (
    'import os\n\nCONSUMER_NAME = ""  # which row\nDB_PORT = 3306\nTIMEOUT = 60.0  # seconds\n\n\ndef read(): ...\n'
)


def test_values_set_in_config_py_move_to_defaults_py_and_leave_no_edit_behind() -> None:
    yours = OLD_CONFIG.replace('""  # which row', '"paid"  # ours').replace("60.0", "2 * 60")
    text, found = values.moved(OLD_CONFIG, yours)
    assert text == OLD_CONFIG
    assert found == {"CONSUMER_NAME": '"paid"', "TIMEOUT": "2 * 60"}
    defaults = values.with_values('"""Yours."""\n\nCONSUMER_NAME = ""  # which row\n\nDB_PORT = 3306\n', found)
    assert defaults == '"""Yours."""\n\nCONSUMER_NAME = "paid"\n\nDB_PORT = 3306\n\nTIMEOUT = 2 * 60\n'


def test_other_edits_of_config_py_stay_edits() -> None:
    yours = OLD_CONFIG.replace("def read(): ...", "API = 1\n\n\ndef read(): ...")
    assert values.moved(OLD_CONFIG, yours) == (yours, {})
    assert values.moved(OLD_CONFIG, "def broken(") == ("def broken(", {})


def test_what_is_to_do_is_what_the_changelog_did_not_say_before() -> None:
    before = "# Changelog\n\n## [1.0.0]\n\n### To do\n\n- Old thing, over\n  two lines.\n\n### Fixed\n\n- Old fault.\n"
    after = before.replace(
        "## [1.0.0]", "## [1.1.0]\n\n### To do\n\n- New thing.\n\n### Fixed\n\n- A.\n- B.\n\n## [1.0.0]"
    )
    after = after.replace("over\n  two", "over two")
    assert changelog.news(before, after) == (["New thing."], 2)
    assert newest_version(after) == "1.1.0"


def test_a_copy_is_told_what_came_after_its_version_and_once_only(changelog_of_the_frame: str) -> None:
    """By the changelog as it is, for a copy older than 1.0.0, one of 1.0.0, and one made between two versions."""
    now = changelog_of_the_frame
    head, unreleased, released = now.partition("## [Unreleased]\n")
    assert re.search(r"^## \[1\.0\.0\] - 2026-11-29$", released, re.MULTILINE)
    between = f"{head}{unreleased}\n### To do\n\n- Mind the gap.\n\n### Fixed\n\n- A hole.\n{released}"
    following = between.replace("[Unreleased]", "[9.9.0] - 2099-01-31").replace("- A hole.", "- A hole.\n- One more.")
    todo, others = changelog.news("# Changelog\n\n## [0.1]\n\n- Old.\n", now)
    assert any("utils.monitoring.status" in entry for entry in todo)
    assert others > 20
    assert changelog.news(now, now) == ([], 0)
    assert changelog.news(now, between) == (["Mind the gap."], 1)
    assert changelog.news(between, following) == ([], 1)
    assert changelog.news(now, following) == (["Mind the gap."], 2)
