"""What an image of the worker weighs, beside images of Kafka Streams and FastStream that do the same job.

Size, the time from the start of the container to the first result (two messages lie there), and the memory of the
container when nothing comes any more. The images are built without Docker, as tests/container.py does: the base is
Debian with its own Python or Java, not the one that each Dockerfile names. Each container has one core and as much
memory as deploy/compose.yaml gives a worker. It is made before the clock starts: how long its files take to be copied
depends on the machine's storage alone.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from sqlalchemy import make_url

from bench import peers
from bench.runs import PARTITIONS, WORKER_CORE, check, feed, output_topic
from bench.tables import Options, Table, line, load, median, say, table
from models import Row, engine, init_db, save
from tests import container
from tests.container import HARDENED, PODMAN, ROOT, ran
from tests.services.databases import PASSWORD, USER, mariadb_of_this_machine, scratch_database
from tests.services.kafka import JavaBroker
from tests.services.processes import HOST, Unavailable

ROUNDS = 5
SETTLED = 10.0  # seconds from the first result until memory is looked at
LATEST = 120.0  # seconds, for the first result
MEMORY = "768m"  # the limit
TOOLS = ("buildah", "podman", "runc", "debootstrap")
JAVA_BASE = "localhost/consumer-skeleton-base:bookworm-java"
RECIPES = peers.HERE / "images"


@dataclass(frozen=True, slots=True)
class Job:
    bootstrap: str
    inputs: tuple[str, ...]
    output: str
    database: str
    """URL of the worker's database."""
    directory: Path
    """Empty, its own."""


@dataclass(frozen=True, slots=True)
class Container:
    options: Sequence[str] = ()
    words: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    name: str
    tag: str
    base: str
    build: Callable[[Path], None]
    """Of an empty directory."""
    container: Callable[[Job], Container]


class Sample(msgspec.Struct):
    first: float  # seconds from the start of the container to the first result
    memory: float  # bytes of its cgroup, without what the kernel can take back of files
    resident: float  # bytes of its process


class Measured(msgspec.Struct):
    size: int  # bytes
    base: int  # bytes of them that are of the base
    samples: list[Sample]


class Report(msgspec.Struct):
    images: dict[str, Measured]
    load: list[float]


# ---------------------------------------------------------------- The images.


def _worker(directory: Path) -> None:
    container.build(ROOT, directory / "context")


def _worker_container(job: Job) -> Container:
    database = engine(make_url(job.database))
    init_db(database)
    save(database, Row.validated(job.output, ",".join(job.inputs), job.output, job.bootstrap))
    url = database.url
    environment = {
        "CONSUMER_NAME": job.output, "DB_HOST": HOST, "DB_PORT": str(url.port), "DB_NAME": str(url.database),
        "DB_USER": USER, "DB_PASSWORD": PASSWORD, "HTTP_HOST": HOST, "HTTP_PORT": "0",
    }  # fmt: skip
    return Container(environment=environment)


def _streams(directory: Path) -> None:
    built = peers.streams_built()
    shutil.copytree(built, directory / "built")
    container.base(directory, JAVA_BASE, "default-jre-headless,ca-certificates")
    recipe = ("--file", str(RECIPES / "streams.Dockerfile"))
    container.bud(directory, "localhost/bench-streams", f"JAVA_IMAGE={JAVA_BASE}", *recipe)


def _streams_container(job: Job) -> Container:
    state = job.directory / "state"
    state.mkdir()
    os.chown(state, 10001, 10001)
    # What unpacks its native library needs a place from which it may be run.
    options = ["--tmpfs", "/tmp:rw,exec,mode=1777", "--volume", f"{state}:/state"]
    return Container(options, [job.bootstrap, *job.inputs, job.output, "/state", "default"])


def _faststream(directory: Path) -> None:
    for name in ("faststream.txt", "faststream_app.py"):
        shutil.copy(peers.HERE / name, directory)
    container.wheels(str(directory / "faststream.txt"), directory / "wheels")
    recipe = ("--file", str(RECIPES / "faststream.Dockerfile"))
    container.bud(directory, "localhost/bench-faststream", f"PYTHON_IMAGE={container.BASE}", *recipe)


def _faststream_container(job: Job) -> Container:
    return Container(words=[job.bootstrap, *job.inputs, job.output])


IMAGES = (
    Image("worker at_least_once", container.IMAGE, container.BASE, _worker, _worker_container),
    Image("Kafka Streams at_least_once, default", "localhost/bench-streams", JAVA_BASE, _streams, _streams_container),
    Image("FastStream, a dict", "localhost/bench-faststream", container.BASE, _faststream, _faststream_container),
)


# ---------------------------------------------------------------- Measuring.


def measured(broker: JavaBroker, options: Options) -> Report:
    if lacking := [tool for tool in TOOLS if not shutil.which(tool)]:
        raise Unavailable(f"no {', '.join(lacking)}")
    chosen = [image for image in IMAGES if options.chooses(image.name)]
    report = Report({}, [])
    with tempfile.TemporaryDirectory(prefix="consumer-skeleton-images-") as directory:
        Path(directory).chmod(0o711)
        for image in chosen:
            say(f"building {image.name}")
            report.images[image.name] = Measured(*_built(image, Path(directory) / image.name.split()[0]), [])
        with mariadb_of_this_machine() as server, scratch_database(server) as url:
            for number in range(options.rounds or ROUNDS):
                report.load.append(os.getloadavg()[0])
                for image in chosen:
                    own = Path(directory) / f"{image.name.split()[0]}-{number}"
                    own.mkdir()
                    sample = _sample(image, _job(broker, url, own), options.seconds or SETTLED)
                    report.images[image.name].samples.append(sample)
                    say(f"round {number + 1}: {image.name}: {sample}")
    return report


def _built(image: Image, directory: Path) -> tuple[int, int]:
    """Its size, and that of its base."""
    directory.mkdir()
    if image.base == container.BASE:
        container.base(directory)
    image.build(directory)
    return _size(image.tag), _size(image.base)


def _size(image: str) -> int:
    return int(ran(*PODMAN, "image", "inspect", "--format", "{{.Size}}", image))


def _job(broker: JavaBroker, database: str, directory: Path) -> Job:
    name = f"images-{time.time_ns()}"
    inputs = (f"{name}-a", f"{name}-b")
    for topic in inputs:
        broker.create_topic(topic, PARTITIONS)
    output = output_topic(broker, f"{name}-out")
    feed(broker.bootstrap, inputs, 1)
    return Job(broker.bootstrap, inputs, output, database, directory)


def _sample(image: Image, job: Job, settled: float) -> Sample:
    with _created(image, job) as name:
        started = time.time()
        ran(*PODMAN, "start", name)
        while not (found := check(job.bootstrap, job.inputs, job.output, 1)).results:
            if time.time() > started + LATEST or not _runs(name):
                raise RuntimeError(f"{image.name} has sent nothing: {_log(name)}")
            time.sleep(0.1)
        if not found.whole:
            raise RuntimeError(f"{image.name}: {found}")
        time.sleep(settled)
        pid = int(ran(*PODMAN, "inspect", "--format", "{{.State.Pid}}", name))
        return Sample(found.first - started, *memory(pid))


@contextmanager
def _created(image: Image, job: Job) -> Iterator[str]:
    made = image.container(job)
    variables = [f"--env={name}={value}" for name, value in made.environment.items()]
    limits = ["--memory", MEMORY, "--cpuset-cpus", str(WORKER_CORE)]
    name = job.output
    ran(*PODMAN, "create", "--name", name, *HARDENED, *limits, *made.options, *variables, image.tag, *made.words)
    try:
        yield name
    finally:
        subprocess.run([*PODMAN, "rm", "--force", "--time", "5", name], capture_output=True)


def memory(pid: int) -> tuple[float, float]:
    """Bytes: of its cgroup, as `docker stats` counts them; resident of the process."""
    groups = [each.split(":", 2) for each in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    first = next((path for _, controllers, path in groups if controllers == "memory"), None)  # version 1
    if first is not None:
        group, current, idle = Path(f"/sys/fs/cgroup/memory{first}"), "memory.usage_in_bytes", "total_inactive_file"
    else:
        [path] = [path for _, controllers, path in groups if not controllers]
        group, current, idle = Path(f"/sys/fs/cgroup{path}"), "memory.current", "inactive_file"
    counted = dict(each.split() for each in (group / "memory.stat").read_text().splitlines())
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    used = int((group / current).read_text()) - int(counted[idle])
    return float(used), float(pages * os.sysconf("SC_PAGE_SIZE"))


def _runs(name: str) -> bool:
    return ran(*PODMAN, "inspect", "--format", "{{.State.Running}}", name).strip() == "true"


def _log(name: str) -> str:
    done = subprocess.run([*PODMAN, "logs", name], capture_output=True, text=True)
    return (done.stdout + done.stderr)[-4000:]


def shown(report: Report) -> str:
    rounds = max(len(each.samples) for each in report.images.values())
    about = (
        f"Median (least to most) of {rounds} starts each, in turn, {load(report.load)}. One core, a limit of {MEMORY}. "
        "Base: Debian bookworm with its own Python 3.11 or OpenJDK 17."
    )
    head = "image | MB | of them on top of the base | first result s after the start | memory of the idle container MB"
    rows = [
        line(
            name,
            f"{each.size / 1e6:.0f}",
            f"{(each.size - each.base) / 1e6:.0f}",
            median([sample.first for sample in each.samples], 1),
            median([sample.memory / 1e6 for sample in each.samples], 0),
        )
        for name, each in report.images.items()
    ]
    return f"{about}\n\n{table(head, *rows)}"


TABLE = Table("images", "Images: size, start and idle memory", Report, measured, shown)
