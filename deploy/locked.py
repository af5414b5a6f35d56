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
    """Each package that the lock has not, or not in a version that is wanted. Paths and addresses are passed over."""
    pinned = {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", lock)}
    return [
        str(each)
        for each in _wanted(requirements)
        if not (version := pinned.get(canonicalize_name(each.name)))
        or not each.specifier.contains(version, prereleases=True)
    ]


def _wanted(requirements: str) -> Iterator[Requirement]:
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
