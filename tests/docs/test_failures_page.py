"""docs/failures.md: every case that is brought about has its line there, and what is said to be said is."""

import re
from pathlib import Path

import pytest

from tests.integration.test_database_tls import FAULTS
from tests.integration.test_failures import CASES, CLOSED, RUNS_BUT, Case
from utils.running.steps import STEPS

ROOT = Path(__file__).parents[2]
WHOLE = (ROOT / "docs/failures.md").read_text()
PAGE, _, BROKEN = WHOLE.partition("## Passwords, certificates and rights, each broken once")
CODE = "\n".join(path.read_text() for path in [*ROOT.glob("*.py"), *ROOT.glob("utils/**/*.py")])
IN_ONE_PIECE = re.sub(r'"\s*\n\s*f?"', "", CODE)  # a text that the code has on two lines
VALUES = r"\{(?:[^{}]|\{[^{}]*\})*\}"  # of an f-string, and of a template
ALL = {**CASES, **RUNS_BUT}


def said() -> list[str]:
    """The second cell of each row, without its marks."""
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and "what is said" not in line]
    return [row[1].strip("` ") for row in rows]


def parts(text: str) -> list[str]:
    return [part.strip() for part in text.split("…") if part.strip(" :")]


def tells(line: str, case: Case) -> bool:
    """Whether this line of the page is that of the case: longer than what the test looks for, or of several cases."""
    constant = re.sub(rf"{re.escape(CLOSED)}|no-such-host.invalid:9092|{VALUES}", "…", case.says)
    whole = ".*".join(map(re.escape, constant.split("…")))
    common = ".*".join(map(re.escape, parts(line)))
    return re.search(whole, line) is not None or (len(common) > 12 and re.search(common, case.says) is not None)


@pytest.mark.parametrize("case", ALL.values(), ids=ALL)
def test_every_case_that_is_brought_about_has_its_line(case: Case) -> None:
    assert any(tells(line, case) for line in said())


def test_of_all_that_run_does_before_it_reads_each_step_was_seen_to_fail() -> None:
    """`check` takes the same steps. That of the commits needs a broker of its own: tests/kafka/test_preflight.py."""
    assert {step.subject for step in STEPS} - {case.subject for case in ALL.values()} == {"commits"}


def test_what_is_not_brought_about_there_is_said_somewhere_in_the_code() -> None:
    others = [line for line in said() if not any(tells(line, case) for case in ALL.values())]
    constant = re.sub(VALUES, "…", IN_ONE_PIECE)
    told = [part for line in others for part in parts(line)]
    assert told
    assert [part for part in told if part not in constant and part not in IN_ONE_PIECE] == []


def test_what_is_said_to_have_been_broken_is_broken_and_ends_so() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in BROKEN.splitlines() if line[:2] == "| "]
    listed = {row[0]: row[1:] for row in rows[1:]}
    assert [name for name in FAULTS if name not in listed] == []
    assert [name for name in CASES if re.search("password|certificate|CA|right", name) and name not in listed] == []
    for name, (kafka, mariadb, postgresql) in listed.items():
        assert kafka == ("78" if name in CASES and not CASES[name].waits else ""), name
        fault = FAULTS.get(name)
        assert (mariadb, postgresql) == (("waits" if fault.mysql_waits else "78", "78") if fault else ("", "")), name
