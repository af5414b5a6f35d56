"""The lock as another Python, and another machine, would read it: what is fetched here is installed there.

    python deploy/target.py 3.13 x86_64 <requirements.lock

pip asks for the wheels of another Python, but reads the conditions of a lock (`; python_full_version < '3.12'`) as the
Python that runs it. The second argument is a machine with Linux; without it, it is this one.
"""

import re
import sys
from collections.abc import Mapping

from packaging.requirements import Requirement


def for_target(lock: str, version: str, machine: str = "") -> str:
    """The packages that are installed there, without conditions. `version`: 3.13, whichever patch of it."""
    oldest, newest = (_environment(version, patch, machine) for patch in (0, 99))
    blocks = [(_requirement(block), re.findall(r"--hash=\S+", block)) for block in _blocks(lock)]
    wanted = {each.name for each, _ in blocks if _holds(each, newest)}
    lines = []
    for each, hashes in blocks:
        if _holds(each, newest) or (_holds(each, oldest) and each.name not in wanted):
            each.marker = None
            lines.append(" ".join([str(each), *hashes]))
    return "\n".join([*lines, ""])


def _blocks(lock: str) -> list[str]:
    return re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]


def _requirement(block: str) -> Requirement:
    return Requirement(re.split(r"\\\n|\s--|\s#|\n", block)[0])


def _holds(requirement: Requirement, environment: Mapping[str, str]) -> bool:
    return requirement.marker is None or requirement.marker.evaluate(dict(environment))


def _environment(version: str, patch: int, machine: str) -> dict[str, str]:
    full = f"{version}.{patch}"
    python = {"python_version": version, "python_full_version": full, "implementation_version": full}
    if not machine:
        return python
    cpython = {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    linux = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}
    return {**python, **cpython, **linux, "platform_release": "", "platform_version": ""}


if __name__ == "__main__":
    sys.stdout.write(for_target(sys.stdin.read(), *sys.argv[1:]))
