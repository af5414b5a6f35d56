"""`main.py dlq …`, or another command, of a job's consumer, with a process() that does not fail any more, as its user
would run it.
"""

import subprocess
from pathlib import Path

from tests.integration.workers import Job, TookTooLong
from tests.program import program
from tests.services.starts import piped_python

EX_CONFIG = 78
MENDED = Path(__file__).with_name("process_for_tests.py")


class Commands:
    """Runs such commands, in the environment of the job's workers and what is given besides."""

    def __init__(self, job: Job, directory: Path, *, command: str = "dlq", **environment: str) -> None:
        self._command = command
        self._program = program(MENDED)
        self._environment = {**job.whole_environment(), "PROCESS_ODD": "", **environment}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return piped_python(["main.py", self._command, *arguments], self._program, self._environment)

    def run(self, *arguments: str, seconds: float = 120, code: int = 0) -> str:
        return self.ends(self.start(*arguments), seconds, code)

    def ends(self, process: "subprocess.Popen[str]", seconds: float = 120, code: int = 0) -> str:
        """Wait for its end, which must be one with this exit code; what it printed."""
        out, log = self._end(process, seconds)
        assert process.returncode == code, log
        return out

    def refused(self, *arguments: str, seconds: float = 120) -> list[str]:
        """Such a command that must end with 78: what it said, a line each."""
        process = self.start(*arguments)
        out, log = self._end(process, seconds)
        assert process.returncode == EX_CONFIG, out + log
        return log.splitlines()

    def _end(self, process: "subprocess.Popen[str]", seconds: float) -> tuple[str, str]:
        try:
            return process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise TookTooLong(f"not ended after {seconds:g} s:\n{process.communicate()[1]}") from None
