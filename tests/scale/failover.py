"""A cluster is lost, and a worker goes on at the one to which MirrorMaker 2 has copied topics and commits.

    python -m tests.scale.failover
    python -m tests.scale.failover --delivery exactly_once

Two brokers and a real MirrorMaker 2, whose jars Maven fetches once. Prints how many ids were lost, and how many of them
were processed twice. Ends with 1 where one was lost, half-joined, or read again from below its translated commit.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import OFFSET_END, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.integration.oracle import Oracle
from tests.integration.workers import Job, Outputs, ends_of, eventually, feed, partitions_of
from tests.scale.join_500k import say
from tests.services.kafka import CACHE, POM, VERSION, JavaBroker, unique_name
from tests.services.processes import ServerProcess, run_tool, running

EARLY, LATE, WAITING, LAST = 2_000, 1_000, 100, 500
PARTITIONS = 4
LONG = 120.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="at_least_once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="consumer-skeleton-failover-") as directory, ExitStack() as stack:
        return fail_over(options.delivery, Path(directory), stack)


def fail_over(delivery: str, directory: Path, stack: ExitStack) -> int:
    # Two ids, as real clusters have: by that alone a worker knows that it is somewhere else.
    here, there = (stack.enter_context(running(JavaBroker(heap="400m", cluster=each))) for each in ("here", "there"))
    inputs, output, name = [unique_name("orders"), unique_name("payments")], unique_name("paid"), unique_name("paid")
    for topic in (*inputs, output):
        here.create_topic(topic, PARTITIONS)
    there.create_topic(output, PARTITIONS)
    oracle, environment = Oracle(tuple(inputs)), {"DELIVERY": delivery}
    with mirror(here, there, inputs, directory):
        job = stack.enter_context(job_on(here, name, inputs, output, directory / "here", environment))
        outputs = Outputs(job, oracle)
        worker = job.start().is_assigned()
        feed(here, oracle, [f"early-{each}" for each in range(EARLY)])
        feed(here, oracle, [f"waiting-{each}" for each in range(WAITING)], inputs[:1])
        feed(here, oracle, [f"late-{each}" for each in range(LATE)])
        outputs.wait(lambda: not oracle.missing(), worker, seconds=LONG)
        say("all that is complete has a result; waiting for the mirror")
        sent = ends(here, inputs)
        eventually(lambda: ends(there, inputs) == sent, "all records copied", LONG, 0.5)
        translated = commits_that_stay(there, name, inputs)
        made = {f"{topic[:6]}:{number}": each.offset for (topic, number), each in job.commits().items()}
        say(f"commits: {made}; translated: { {f'{at[0][:6]}:{at[1]}': offset for at, offset in translated.items()} }")
        outputs.read_to_the_end()
        outputs.close()
        worker.kill()
        here.kill()
    before = dict(oracle.results)
    job = stack.enter_context(job_on(there, name, inputs, output, directory / "there", environment))
    outputs = Outputs(job, oracle)
    stack.callback(outputs.close)
    feed(there, oracle, [f"waiting-{each}" for each in range(WAITING)], inputs[1:])
    feed(there, oracle, [f"last-{each}" for each in range(LAST)])
    worker = job.start().is_assigned()
    outputs.wait(lambda: not oracle.missing(), worker, seconds=LONG)
    eventually(lambda: job.lag() == 0, "lag 0", LONG, 0.5)
    code = worker.stop()
    outputs.read_to_the_end()
    verdict = oracle.judge()
    line = "the commit is of another cluster: reading on from its offset, without its map"
    said, again = (
        len(worker.said(line)),
        [id for id, number in oracle.results.items() if number > before.get(id, 0) > 0],
    )
    read = worker.said("stopped")[0]["read"]
    total = sum(sent.values()) + WAITING + 2 * LAST
    print(f"{delivery}: {verdict}")
    print(f"read {read} of {total} messages; {len(again)} of {len(before)} ids processed again; said {said} times")
    below = sum(translated.values())
    if read != total - below:
        print(f"FAILED: {total - below} messages lie above the translated commits")
    return int(bool(verdict.lost or verdict.half or code or not said or read != total - below))


def job_on(
    broker: JavaBroker, name: str, inputs: list[str], output: str, directory: Path, environment: dict[str, str]
) -> Job:
    directory.mkdir()
    return Job(broker, name, inputs, [output], directory, environment=environment)


def ends(broker: JavaBroker, topics: list[str]) -> dict[tuple[str, int], int]:
    client = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "ends", "log_level": 0})
    try:
        return ends_of(client, topics, OFFSET_END) if partitions_of(client, topics) else {}
    finally:
        client.close()


def commits_that_stay(broker: JavaBroker, group: str, topics: list[str]) -> dict[tuple[str, int], int]:
    """What the mirror has translated, once a few looks in a row saw the same of all partitions."""
    client = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group, "log_level": 0})
    seen: list[dict[tuple[str, int], int]] = []

    def same() -> dict[tuple[str, int], int] | None:
        answers = client.committed(list(map_partitions(client, topics)), timeout=30)
        seen.append({(each.topic, each.partition): each.offset for each in answers})
        same = len(seen) > 5 and all(each == seen[-1] for each in seen[-5:])
        return seen[-1] if same and min(seen[-1].values()) >= 0 else None

    try:
        return eventually(same, "translated commits", LONG, 2.0)
    finally:
        client.close()


def map_partitions(client: Consumer, topics: list[str]) -> Iterator[TopicPartition]:
    return (TopicPartition(*each) for each in partitions_of(client, topics))


# ---------------------------------------------------------------- MirrorMaker 2.


@contextmanager
def mirror(source: JavaBroker, target: JavaBroker, topics: list[str], directory: Path) -> Iterator[None]:
    """Copies topics under their own names and translates commits; all that it keeps for itself has one replica."""
    config = directory / "mirror.properties"
    settings = {
        "clusters": "here,there",
        "here.bootstrap.servers": source.bootstrap,
        "there.bootstrap.servers": target.bootstrap,
        "here->there.enabled": "true",
        "here->there.topics": ",".join(topics),
        "here->there.sync.group.offsets.enabled": "true",
        "here->there.sync.group.offsets.interval.seconds": "1",
        "here->there.emit.checkpoints.interval.seconds": "1",
        "here->there.refresh.groups.interval.seconds": "2",
        "here->there.refresh.topics.interval.seconds": "2",
        "there->here.enabled": "false",
        "there->here.emit.heartbeats.enabled": "false",
        "here->there.emit.heartbeats.enabled": "false",
        "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
        "replication.factor": "1",
        "tasks.max": "1",
        "dedicated.mode.enable.internal.rest": "false",
    }
    for each in ("checkpoints", "heartbeats", "offset-syncs"):
        settings[f"{each}.topic.replication.factor"] = "1"
    for each in ("offset", "config", "status"):
        settings[f"{each}.storage.replication.factor"] = "1"
    config.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    log = directory / "mirror.log"
    options = ["-Xmx400m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    main_class = "org.apache.kafka.connect.mirror.MirrorMaker"
    command = ["java", *options, "-cp", f"{jars()}/*", main_class, str(config)]
    client = AdminClient({"bootstrap.servers": target.bootstrap, "log_level": 0})

    def copies() -> bool:
        return set(topics) <= set(client.list_topics(timeout=10).topics)

    process = ServerProcess(command, ready=copies, log=log)
    try:
        process.start(LONG)
        yield
    except BaseException:
        print(log.read_text()[-6000:], file=sys.stderr)
        raise
    finally:
        process.kill()


def jars() -> Path:
    found = CACHE / f"mirror-{VERSION}"
    if not found.is_dir():
        with tempfile.TemporaryDirectory(dir=CACHE) as partial:
            pom = Path(partial, "pom.xml")
            pom.write_text(POM.read_text().replace(">kafka_2.13<", ">connect-mirror<"))
            options = [f"-Dkafka.version={VERSION}", "-DincludeScope=runtime", f"-DoutputDirectory={partial}/jars"]
            run_tool([shutil.which("mvn") or "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", *options])
            Path(partial, "jars").rename(found)
    return found


if __name__ == "__main__":
    sys.exit(main())
