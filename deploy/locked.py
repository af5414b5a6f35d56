"""Says which packages of requirements.txt are not in requirements.lock: an image and a unit of systemd have no others.

requirements-dev.lock may hold them all the same, since the tests need them: so they are there where you work.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def lacking(requirements: str, lock: str) -> list[str]:
    """Each package that the lock has not, or not in a version that is wanted. Paths are passed over.

    Of both only what holds for this Python and machine: a lock may have several versions of a package.
    """
    pinned = {canonicalize_name(each.name): each for each in _here(lock)}
    return [
        str(each)
        for each in _here(requirements)
        if not (locked := pinned.get(canonicalize_name(each.name)))
        or not all(each.specifier.contains(pin.version, prereleases=True) for pin in locked.specifier)
    ]


def _here(requirements: str) -> Iterator[Requirement]:
    for line in re.sub(r"\\\n", "", requirements).splitlines():
        try:
            requirement = Requirement(re.split(r"(?:^|\s)#|\s--", line)[0])
        except InvalidRequirement:  # a comment, an option, a path
            continue
        if not requirement.marker or requirement.marker.evaluate():
            yield requirement


if __name__ == "__main__":
    if found := lacking(Path("requirements.txt").read_text(), Path("requirements.lock").read_text()):
        sys.exit(f"requirements.lock lacks {', '.join(found)} of requirements.txt: run `make lock`")
