"""Who is measured: the bare loop, this worker, and from bench/peers what a user could pick instead.

A contender is a command that reads the input topics of a Target from their beginning and writes what it joins to its
output topic: a process that ends by itself or at SIGTERM. bench.runs runs it.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench import peers
from config import Settings
from models import Row, engine, init_db, save
from tests.program import ROOT, copied
from tests.program import program as forwarding
from tests.services.processes import Unavailable


@dataclass(frozen=True, slots=True)
class Target:
    """What a contender is started for. `output` is also the name of its group; `directory` is its own."""

    bootstrap: str
    inputs: tuple[str, ...]
    output: str
    results: int
    directory: Path


@dataclass(frozen=True, slots=True)
class Launch:
    words: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    program: Path = ROOT
    """Where it is started."""


@dataclass(frozen=True, slots=True)
class Contender:
    name: str
    launch: Callable[[Target], Launch]
    prepare: Callable[[], object] = lambda: None
    """Installs or builds what it needs. Raises Unavailable."""
    commits: bool = False
    """Its group commits promptly, so that it is done when all is committed; else, when all results can be seen."""
    slow: bool = False
    """A round of bench.throughput takes half a minute of it or more, so it has fewer of them."""
    warm_up: float = 5.0
    """Seconds from its first result until bench.latency measures it."""

    @property
    def slug(self) -> str:
        """Its name as a part of a topic's name."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)


def bare(*options: str) -> Callable[[Target], Launch]:
    def launch(target: Target) -> Launch:
        arguments = [target.bootstrap, *target.inputs, target.output, str(target.results), *options]
        return Launch([sys.executable, "-m", "bench.bare", *arguments])

    return launch


def floor(target: Target) -> Launch:
    arguments = [target.bootstrap, *target.inputs, target.output, str(target.results)]
    return Launch([sys.executable, "-m", "bench.floor", *arguments])


def worker(delivery: str, *, process: Path | None = None, **settings: str) -> Callable[[Target], Launch]:
    """`process`: the worker.py, if it is not the one that ships."""

    def launch(target: Target) -> Launch:
        program = copied(target.directory / "program", process) if process else forwarding()
        environment = {
            "CONSUMER_NAME": target.output,
            "DATABASE_URL": f"sqlite:///{target.directory}/bench.db",
            "DELIVERY": delivery,
            "HTTP_PORT": "0",
            **settings,
        }
        database = engine(Settings.read(environment).url(), create=True)
        init_db(database)
        save(database, Row.validated(target.output, ",".join(target.inputs), target.output, target.bootstrap))
        return Launch([sys.executable, "main.py"], environment, program)

    return launch


def naive(target: Target) -> Launch:
    return Launch([sys.executable, "bench/peers/naive.py", target.bootstrap, *target.inputs, target.output])


def streams(guarantee: str, flavour: str, *properties: str) -> Callable[[Target], Launch]:
    def launch(target: Target) -> Launch:
        java, *join = peers.java_streams()
        # On one core the second compiler takes more than it gives within a million messages (measured).
        options = ["-XX:TieredStopAtLevel=1"] if flavour == "tuned" else []
        arguments = [target.bootstrap, *target.inputs, target.output, str(target.directory), flavour]
        return Launch([java, *options, *join, *arguments, f"processing.guarantee={guarantee}", *properties])

    return launch


def kafka_streams(guarantee: str, flavour: str, *properties: str) -> Contender:
    """`properties`, as NAME=VALUE, stand in its name, too."""
    name = ", ".join([f"Kafka Streams {guarantee}", flavour, *properties])
    prompt = guarantee == "exactly_once_v2"
    launch = streams(guarantee, flavour, *properties)
    warm_up = 20.0  # seconds, in which the JVM compiles
    return Contender(name, launch, peers.java_streams, commits=prompt, slow=True, warm_up=warm_up)


def python(requirements: str, script: str, *way: str) -> Callable[[Target], Launch]:
    """A peer in a virtual environment of its own."""

    def launch(target: Target) -> Launch:
        words = [
            peers.python(requirements),
            f"bench/peers/{script}.py",
            target.bootstrap,
            *target.inputs,
            target.output,
        ]
        return Launch([*words, *(each.format(directory=target.directory) for each in way)])

    return launch


def in_python(name: str, requirements: str, script: str, *way: str, slow: bool = False) -> Contender:
    return Contender(name, python(requirements, script, *way), lambda: peers.python(requirements), slow=slow)


BARE = Contender("bare loop", bare("--json"))  # the yardstick: 5.1 s for a million messages, on a quiet machine
BARE_MSGSPEC = Contender("bare loop (msgspec)", bare())  # a stricter one: it decodes as the worker does
CONTENDERS = (
    BARE,
    BARE_MSGSPEC,
    Contender("worker at_least_once", worker("at_least_once"), commits=True),
    Contender("worker exactly_once", worker("exactly_once"), commits=True),
    Contender("naive loop", naive),
    kafka_streams("at_least_once", "default"),
    kafka_streams("at_least_once", "tuned"),
    kafka_streams("exactly_once_v2", "default"),
    kafka_streams("exactly_once_v2", "tuned"),
    in_python("Bytewax, a dict", "bytewax", "bytewax_flow", "dict"),
    in_python("Bytewax, its join", "bytewax", "bytewax_flow", "join", slow=True),
    in_python("FastStream, a dict", "faststream", "faststream_app", slow=True),
    in_python("Quix Streams, a dict", "quix", "quix", "{directory}", "dict", slow=True),
    in_python("Quix Streams, its join", "quix", "quix", "{directory}", "interval", slow=True),
)


def prepared(contenders: Iterable[Contender]) -> tuple[list[Contender], dict[str, str]]:
    """Those that can run here, and of the others why not."""
    ready, lacking = [], {}
    for each in contenders:
        try:
            each.prepare()
        except Unavailable as reason:
            lacking[each.name] = str(reason)
        else:
            ready.append(each)
    return ready, lacking
