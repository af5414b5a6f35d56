"""What the worker counts. Plain numbers: the loop adds, whoever asks reads."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Counters:
    """Records unless said otherwise, since the start of the process."""

    read: int = 0
    skipped: int = 0  # finished by an earlier commit
    invalid: int = 0
    superseded: int = 0
    shed: int = 0  # for want of memory: read again later
    gone: int = 0  # waiting according to the commit, but no longer in the log
    skipped_by_retention: int = 0
    completed: int = 0  # groups
    filtered: int = 0  # groups
    failed: int = 0  # groups
    evicted: int = 0  # groups
    results: int = 0
    commits: int = 0
    failed_commits: int = 0
    rebalances: int = 0
    restarts: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
