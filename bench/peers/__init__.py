"""What a user could pick instead, each written as its own documents recommend, by someone who wants it to win.

Each is installed or built at its first use, outside the repository, in ~/.cache/consumer-skeleton (or
CONSUMER_SKELETON_CACHE), under a name that changes with what it is made of; later runs need no network.
"""

import hashlib
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.services.kafka import CACHE, VERSION
from tests.services.processes import Unavailable, run_tool

HERE = Path(__file__).parent
STREAMS = HERE / "streams"


@cache
def java_streams() -> list[str]:
    """The command of Kafka Streams."""
    built = streams_built()
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    return [str(shutil.which("java")), "-cp", f"{built}/classes:{built}/jars/*", quiet, "Join"]


@cache
def streams_built() -> Path:
    """Its classes and jars, compiled and fetched by Maven the first time."""
    java, maven = shutil.which("java"), shutil.which("mvn")
    pom = STREAMS / "pom.xml"
    built = CACHE / f"streams-{VERSION}-{_digest(pom, STREAMS / 'src/main/java/Join.java')}"
    if java is None or (maven is None and not built.is_dir()):
        raise Unavailable("no java" if java is None else "no mvn to build it")
    if not built.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as partial:
            goals = ["compile", "dependency:copy-dependencies", "-DincludeScope=runtime"]
            places = [
                f"-Dkafka.version={VERSION}",
                f"-Dtarget={partial}/built",
                f"-DoutputDirectory={partial}/built/jars",
            ]
            _made([str(maven), "-q", "-B", "-f", str(pom), *goals, *places])
            Path(partial, "built").rename(built)
    return built


def python(name: str) -> str:
    """The interpreter of a virtual environment that has what bench/peers/NAME.txt pins."""
    pinned = HERE / f"{name}.txt"
    home = CACHE / f"peer-{name}-{sys.version_info.major}.{sys.version_info.minor}-{_digest(pinned)}"
    interpreter = home / "bin" / "python"
    ready = home / "ready"
    if not ready.is_file():
        _made([sys.executable, "-m", "venv", "--clear", str(home)])
        _made([str(interpreter), "-m", "pip", "install", "--quiet", "-r", str(pinned)])
        ready.touch()
    return str(interpreter)


def packages(name: str) -> str:
    """Where what bench/peers/NAME.txt pins is to be imported from."""
    home = Path(python(name)).parents[1]
    return str(next(home.glob("lib/python*/site-packages")))


def _made(command: list[str]) -> None:
    try:
        run_tool(command)
    except RuntimeError as error:
        raise Unavailable(str(error)) from error


def _digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]
