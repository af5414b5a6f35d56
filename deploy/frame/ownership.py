"""Whose a file is: yours, or the frame's. The one list that copies, updates, tests and documents go by.

Paths are those of the repository, with `/` between their parts. No git, no files.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase

# Never changed by an update. requirements.txt is yours as far as you added to it: see lists.py.
YOURS = ("worker.py", "defaults.py", "tests/test_worker*.py", "tests/cases/*")

# The frame's as long as you have not edited them; then they are yours, and no update merges them.
YOURS_ONCE_EDITED = ("README.md", "CHANGELOG.md", ".ci/run", ".gitlab-ci.yml")

# The directories of the frame. All others beside worker.py are yours.
DIRECTORIES = ("bench", "deploy", "docs", "examples", "tests", "utils")

# What a slim copy does without; .gitattributes says the same to `git archive`.
LEFT_OUT = (".gitattributes", "bench/*", "tests/*")
NOT_LEFT_OUT = ("bench/README.md", "bench/bench.svg", "tests/__init__.py", "tests/test_worker.py")


def is_yours(path: str) -> bool:
    """Whether the frame never writes here, but where such a file is missing from an old copy."""
    return _fits(path, YOURS)


def is_yours_once_edited(path: str) -> bool:
    return _fits(path, YOURS_ONCE_EDITED)


def is_left_out(path: str) -> bool:
    return _fits(path, LEFT_OUT) and path not in NOT_LEFT_OUT


def _fits(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
