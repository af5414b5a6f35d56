"""`python -m tests.simulation.comparison N`: the same schedules on the model and on a real broker, step by step.

A schedule is a list of what clients do: they produce, join, commit, read, die. After each step both sides must tell the
same: how the step ended, who is in the group, what is committed, where logs end, what a reader sees. Real Kafka takes
its time: it is asked until it agrees with the model, or has not for `PATIENCE`.
"""

import argparse
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tests.integration.workers import SECONDS
from tests.services.kafka import real_broker, unique_name
from tests.simulation.broker import Committed, Partition
from tests.simulation.sides import LONG, TIMEOUT, Identity, KafkaSide, ModelSide, Side
from utils.sending.outbox import unmasked

PATIENCE = 20.0  # seconds; a session and a transaction must be able to time out meanwhile
SESSION = 6.0  # seconds, of the members on the real broker: the shortest that brokers take by themselves
LENGTH = 16  # steps of a schedule
AT_ONCE = 6  # schedules: most of the time is waiting
CONSUMERS, PRODUCERS = 3, 2
STRANGER = CONSUMERS  # the number of a consumer that never joins
LENGTHS = (0, 1, 100, 4094, 4095, 4096, 4097)  # characters of metadata

Look = dict[str, Any]


class Step(NamedTuple):
    """What is done, by whom, at which partition (modulo what there is), and how."""

    kind: str
    who: int = 0
    at: int = 0
    how: int = 0


@dataclass(frozen=True)
class Schedule:
    """`partitions` of each topic. `static`: which consumers are. `shared`: the producers have one transactional id."""

    partitions: tuple[int, ...]
    static: tuple[bool, ...]
    shared: bool
    steps: tuple[Step, ...]

    def __str__(self) -> str:
        steps = "".join(f"        Step{tuple(each)},\n" for each in self.steps)
        return f"Schedule(\n    {self.partitions}, {self.static}, {self.shared},\n    (\n{steps}    ),\n)"


@dataclass
class Disagreement(Exception):
    """`what`: what was looked at; `model` and `kafka`: what they said of it."""

    schedule: Schedule
    step: int
    what: str
    model: object
    kafka: object

    def __str__(self) -> str:
        step = self.schedule.steps[self.step]
        return f"step {self.step + 1}, {step}: {self.what}\n  model: {self.model}\n  kafka: {self.kafka}"


@dataclass
class Stage:
    """One side with all the clients of a schedule."""

    side: Side
    topics: list[str]
    schedule: Schedule
    members: dict[int, Any] = field(default_factory=dict)
    producers: dict[int, Any] = field(default_factory=dict)
    former: dict[int, bytes] = field(default_factory=dict)  # group metadata before the last change, by consumer
    latest: dict[int, bytes] = field(default_factory=dict)
    read: dict[Partition, list[object]] = field(default_factory=dict)
    errors: list[tuple[Partition, str]] = field(default_factory=list)  # of the reader
    failures: list[int] = field(default_factory=list)  # of deliveries
    ids: dict[str, list[str]] = field(default_factory=dict)  # of topics, in the order of their appearance
    serial: int = 0

    def __post_init__(self) -> None:
        counts = zip(self.topics, self.schedule.partitions, strict=True)
        self.partitions = [(topic, number) for topic, count in counts for number in range(count)]
        self.stranger = self.side.member("stranger", "")
        self.plain = self.side.producer("", LONG, self._failed)
        self.reader = self.side.reader()
        self.reader.assign([TopicPartition(*at, 0) for at in self.partitions])
        self.prefix = unique_name("transactional")
        self.ids = {topic: [id] for topic, id in self.side.topic_ids().items()}

    def at(self, number: int) -> Partition:
        return self.partitions[number % len(self.partitions)]

    def next(self) -> int:
        """A number that has not been used yet, for values and offsets."""
        self.serial += 1
        return self.serial

    # ------------------------------------------------------------------ clients

    def subscribe(self, who: int, how: int) -> None:
        """`how`: 0 for all topics, else for one of them."""
        topics = [self.topics[how % len(self.topics)]] if how else self.topics
        instance = f"c{who}" if self.schedule.static[who] else ""
        self.members[who] = member = self.side.member(f"c{who}", instance)
        member.subscribe(topics, on_assign=_hold, on_revoke=_nothing, on_lost=_nothing)

    def producer(self, who: int, timeout: float = LONG) -> Any:
        number = 0 if self.schedule.shared else who
        made = self.side.producer(f"{self.prefix}-{number}", timeout, self._failed)
        self.producers[who] = made
        return made

    def _failed(self, error: KafkaError) -> None:
        self.failures.append(error.code())

    def send(self, producer: Any, at: Partition) -> str:
        """One record; how that ended."""
        self.failures.clear()
        producer.produce(at[0], b"%d" % self.next(), bytes([at[1]]), at[1])
        try:
            with unmasked():
                producer.flush(SECONDS)
        except KafkaException as raised:  # the client raises a fatal error wherever it finds a way out
            self.failures.append(
                _error_of(producer) if raised.args[0].code() == KafkaError._FATAL else raised.args[0].code()
            )
        if KafkaError._FENCED in self.failures:  # what else is told of it then depends on which answer came first
            return "_FENCED"
        return " ".join(sorted({KafkaError(code).name() for code in self.failures}))

    def group_metadata(self, who: int, how: int) -> bytes | None:
        """`how`: 0 for that of today, else for a former one; of a consumer that has never joined there is one, too."""
        if who == STRANGER:
            return bytes(self.stranger.consumer_group_metadata())
        return self.former.get(who) if how else self.latest.get(who)

    # ------------------------------------------------------------------ what is seen

    def look(self) -> Look:
        for member in self.members.values():
            member.poll(0)
        self._read()
        ids = self.side.topic_ids()
        for topic, id in ids.items():
            if id not in self.ids[topic]:
                self.ids[topic].append(id)
        positions = self.reader.position([TopicPartition(*at) for at in self.partitions])
        return {
            "group": self.side.members(),
            "generations": {_identity_in(each.consumer_group_metadata())[2] < 0 for each in self.members.values()},
            "assigned": {who: _sorted(member.assignment()) for who, member in self.members.items()},
            "committed": self.side.committed(),
            "not stable": self.side.unstable(),
            "ends": self.side.ends(),
            "read": {at: list(values) for at, values in self.read.items()},
            "errors of the reader": sorted(self.errors),
            "positions": {(each.topic, each.partition): max(each.offset, -1) for each in positions},
            "topics made again": {topic: self.ids[topic].index(id) for topic, id in ids.items()},
        }

    def _read(self) -> None:
        while messages := self.reader.consume(100, 0.005):
            for message in messages:
                at = message.topic(), message.partition()
                error = message.error()
                if error is None:
                    self.read.setdefault(at, []).append((message.offset(), message.value()))
                elif error.code() not in _BY_CHANCE:
                    self.errors.append((at, error.name()))

    def note_metadata(self, changed: set[int]) -> None:
        for who in changed:
            if who in self.latest:
                self.former[who] = self.latest[who]
        for who, member in self.members.items():
            self.latest[who] = bytes(member.consumer_group_metadata())

    def metadata_changed(self) -> set[int]:
        now = {who: bytes(member.consumer_group_metadata()) for who, member in self.members.items()}
        return {who for who in self.latest.keys() | now.keys() if self.latest.get(who) != now.get(who)}


_BY_CHANCE = {KafkaError.UNKNOWN_TOPIC_OR_PART}  # while a topic is made again a look may fall between, or not


def _error_of(failed: Any) -> int:
    """The code of the error that has ended a producer, where its client has lost it on the way."""
    try:
        failed.begin_transaction()
    except KafkaException as raised:
        return int(raised.args[0].code())
    raise AssertionError("a producer that has failed for good has begun a transaction")


def _hold(consumer: Any, partitions: list[TopicPartition]) -> None:
    consumer.assign(partitions)
    consumer.pause(partitions)


def _nothing(_consumer: object, _partitions: object) -> None: ...


def _sorted(partitions: list[TopicPartition]) -> list[Partition]:
    return sorted((each.topic, each.partition) for each in partitions)


# ---------------------------------------------------------------- steps: None where one is not possible now


def _produce(stage: Stage, step: Step) -> str | None:
    return "".join(stage.send(stage.plain, stage.at(step.at)) for _ in range(1 + step.how % 3))


def _join(stage: Stage, step: Step) -> str | None:
    if step.who in stage.members:
        return None
    stage.subscribe(step.who, step.how % 4)
    return ""


def _leave(stage: Stage, step: Step) -> str | None:
    if step.who not in stage.members or stage.schedule.static[step.who]:
        return None
    stage.members.pop(step.who).close()
    return ""


def _return(stage: Stage, step: Step) -> str | None:
    if step.who not in stage.members or not stage.schedule.static[step.who]:
        return None
    stage.side.kill(stage.members.pop(step.who))
    stage.subscribe(step.who, step.how % 4)
    return ""


def _expire(stage: Stage, step: Step) -> str | None:
    if step.who not in stage.members:
        return None
    stage.side.kill(stage.members.pop(step.who))
    stage.side.pass_session()
    return ""


def _commit(stage: Stage, step: Step) -> str | None:
    """By a member, or by a consumer that never joined; where `how` is odd of two partitions, one without metadata."""
    member = stage.stranger if step.who == STRANGER else stage.members.get(step.who)
    if member is None:
        return None
    length = LENGTHS[step.how % len(LENGTHS)]
    offsets = [TopicPartition(*stage.at(step.at), stage.next(), "m" * length)]
    if step.how % 2 and len(stage.partitions) > 1:
        offsets.append(TopicPartition(*stage.at(step.at + 1), stage.next(), ""))
    member.commit(offsets=offsets, asynchronous=False)
    return ""


def _commit_as(stage: Stage, step: Step) -> str | None:
    """In the name of somebody: as he is, as he was, of a generation to come, of nobody, of an instance alone."""
    metadata = stage.group_metadata(step.who, step.how % 2)
    if metadata is None:
        return None
    member, instance, generation = _identity_in(metadata)
    who: Identity = member, instance, generation + (1000 if step.how % 3 == 2 else 0)
    if step.how % 5 == 4:
        who = "nobody", "", generation
    elif step.how % 5 == 3:
        who = "", f"c{step.who}", -1
    code = stage.side.commit_as(who, stage.at(step.at), Committed(stage.next(), "by name"))
    return KafkaError(code).name() if code else ""


def _identity_in(metadata: bytes) -> Identity:
    """The client's own form: CGMDv2:, generation, group, member, instance (measured)."""
    generation = struct.unpack_from("=i", metadata, 7)[0]
    _, member, instance = metadata[11:].split(b"\0", 2)
    return member.decode(), instance.strip(b"\0\1").decode(), generation


def _init(stage: Stage, step: Step) -> str | None:
    stage.producer(step.who % PRODUCERS).init_transactions(SECONDS)
    return ""


def _begin(stage: Stage, step: Step) -> str | None:
    if (producer := stage.producers.get(step.who % PRODUCERS)) is None:
        return None
    producer.begin_transaction()
    return ""


def _send(stage: Stage, step: Step) -> str | None:
    if (producer := stage.producers.get(step.who % PRODUCERS)) is None:
        return None
    return stage.send(producer, stage.at(step.at))


def _offsets(stage: Stage, step: Step) -> str | None:
    """Of a member as it is or as it was, or of a consumer that never joined; rarely with metadata near the limit."""
    producer = stage.producers.get(step.how % PRODUCERS)
    metadata = stage.group_metadata(step.who, (step.how // 2) % 2)
    if producer is None or metadata is None:
        return None
    length = LENGTHS[step.how // 4 % len(LENGTHS)]
    offsets = [TopicPartition(*stage.at(step.at), stage.next(), "t" * length)]
    if step.how // 4 % 2 and len(stage.partitions) > 1:
        offsets.append(TopicPartition(*stage.at(step.at + 1), stage.next(), ""))
    producer.send_offsets_to_transaction(offsets, metadata, SECONDS)
    return ""


def _end(stage: Stage, step: Step) -> str | None:
    if (producer := stage.producers.get(step.who % PRODUCERS)) is None:
        return None
    if step.how % 3:
        producer.commit_transaction(SECONDS)
    else:
        producer.abort_transaction(SECONDS)
    return ""


def _time_out(stage: Stage, step: Step) -> str | None:
    """A whole transaction of a producer of its own, with a record and perhaps offsets; `_end` may come too late."""
    producer = stage.producer(step.who % PRODUCERS, TIMEOUT)
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    failed = stage.send(producer, stage.at(step.at))
    if step.how % 2:
        offsets = [TopicPartition(*stage.at(step.at), stage.next(), "late")]
        producer.send_offsets_to_transaction(offsets, stage.stranger.consumer_group_metadata(), SECONDS)
    stage.side.pass_transaction()
    return failed


def _again(stage: Stage, step: Step) -> str | None:
    topic = stage.at(step.at)[0]
    stage.side.make_again(topic, sum(each[0] == topic for each in stage.partitions))
    return ""


def _delete_records(stage: Stage, step: Step) -> str | None:
    """Up to an offset that readers of committed records have come to, so that no open transaction loses any."""
    at = stage.at(step.at)
    stable = stage.side.ends()[at][0]
    stage.side.delete_records(at, stable * (step.how % 4) // 3)
    return ""


def _seek(stage: Stage, step: Step) -> str | None:
    """The reader: to the beginning, to the middle, to the end, above the end; or it is assigned all anew."""
    at = stage.at(step.at)
    if step.how % 5 == 4:
        stage.reader.assign([TopicPartition(*each, end) for each, (end, _) in stage.side.ends().items()])
        return ""
    end = stage.side.ends()[at][1]
    stage.reader.seek(TopicPartition(*at, (0, end // 2, end, end + 3)[step.how % 4]))
    return ""


STEPS: dict[str, tuple[int, Callable[[Stage, Step], str | None]]] = {
    "produce": (10, _produce),
    "join": (12, _join),
    "leave": (3, _leave),
    "return": (5, _return),
    "expire": (1, _expire),
    "commit": (10, _commit),
    "commit as": (10, _commit_as),
    "init": (6, _init),
    "begin": (12, _begin),
    "send": (10, _send),
    "offsets": (14, _offsets),
    "end": (8, _end),
    "time out": (1, _time_out),
    "again": (2, _again),
    "delete records": (3, _delete_records),
    "seek": (4, _seek),
}
"""How often each kind is drawn, and what it does."""


def draw(seed: str) -> Schedule:
    """More steps than are carried out: those that are not possible when their turn comes do not count."""
    chance = random.Random(seed)
    partitions = chance.choice([(1,), (2,), (3,), (1, 1), (2, 1)])
    static = tuple(chance.random() < 0.4 for _ in range(CONSUMERS))
    weights = [weight for weight, _ in STEPS.values()]
    kinds = chance.choices(list(STEPS), weights, k=3 * LENGTH)
    steps = [
        Step(kind, chance.randrange(_WHO.get(kind, 4)), chance.randrange(3), chance.randrange(420)) for kind in kinds
    ]
    return Schedule(partitions, static, chance.random() < 0.5, tuple(steps))


_WHO = {"join": CONSUMERS, "leave": CONSUMERS, "return": CONSUMERS, "expire": CONSUMERS}


# ---------------------------------------------------------------- carrying out


def _outcome(stage: Stage, step: Step) -> str | None:
    """ "" where it went well; the error's name and what it means for a transaction; None: it was not possible."""
    try:
        return STEPS[step.kind][1](stage, step)
    except KafkaException as raised:
        error: KafkaError = raised.args[0]
        marks = (("fatal", error.fatal()), ("abortable", error.txn_requires_abort()))
        return " ".join([error.name(), *(name for name, holds in marks if holds)])


def compare(bootstrap: str, schedule: Schedule, last: float = PATIENCE, length: int = LENGTH) -> Counter[str]:
    """Returns how many steps of each kind were compared. Raises Disagreement, with the steps until there.

    `last`: seconds in which the broker must agree after the last step.
    """
    topics = [unique_name(name) for name, _ in zip("ab", schedule.partitions, strict=False)]
    partitions = dict(zip(topics, schedule.partitions, strict=True))
    model = Stage(ModelSide(partitions), topics, schedule)
    kafka = Stage(KafkaSide(bootstrap, unique_name("group"), partitions, SESSION), topics, schedule)
    try:
        return _compare(model, kafka, last, length)
    finally:
        kafka.side.close()


def _compare(model: Stage, kafka: Stage, last: float, length: int) -> Counter[str]:
    compared: Counter[str] = Counter()
    done: list[Step] = []
    for left, step in zip(reversed(range(len(model.schedule.steps))), model.schedule.steps, strict=True):
        if compared.total() == length:
            break
        if (expected := _outcome(model, step)) is None:
            continue
        done.append(step)
        short = replace(model.schedule, steps=tuple(done))
        found = _outcome(kafka, step)
        if found != expected:
            raise Disagreement(short, len(done) - 1, "outcome", expected or "done", found or "done")
        looked = _settled(model)
        if different := _difference(looked, kafka, PATIENCE if left else last):
            raise Disagreement(short, len(done) - 1, *different)
        changed = model.metadata_changed()
        for stage in (model, kafka):
            stage.note_metadata(changed)
        compared[step.kind + (f": {expected}" if expected else "")] += 1
    return compared


def _settled(model: Stage) -> Look:
    before, looked = None, model.look()
    while looked != before:
        before, looked = looked, model.look()
    return looked


def _difference(expected: Look, kafka: Stage, patience: float) -> tuple[str, object, object] | None:
    """The first thing that the broker does not come to tell as the model does."""
    deadline = time.monotonic() + patience
    while True:
        try:
            found = kafka.look()
        except KafkaException as raised:  # not yet known everywhere, what was made again
            found = dict.fromkeys(expected, raised)
        different = [what for what in expected if expected[what] != found[what]]
        if not different:
            return None
        if time.monotonic() > deadline:
            return different[0], expected[different[0]], found[different[0]]
        time.sleep(0.005)


def shortened(bootstrap: str, found: Disagreement) -> Disagreement:
    """Without each step that it does not need, the last ones first."""
    for index in reversed(range(len(found.schedule.steps) - 1)):
        steps = found.schedule.steps
        if index < len(steps) - 1:
            shorter = replace(found.schedule, steps=steps[:index] + steps[index + 1 :])
            try:
                compare(bootstrap, shorter)
            except Disagreement as again:
                if again.what == found.what:
                    found = again
    return found


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.simulation.comparison", description=__doc__)
    parser.add_argument("schedules", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=None, help="to have the same schedules again")
    parser.add_argument("--all", action="store_true", help="go on after a disagreement, and shorten none")
    arguments = parser.parse_args()
    seed = random.randrange(1 << 20) if arguments.seed is None else arguments.seed
    print(f"{arguments.schedules} schedules, seed {seed}", flush=True)
    with real_broker() as broker, ThreadPoolExecutor(AT_ONCE) as pool:
        began = time.monotonic()
        compared, disagreements = Counter[str](), 0
        schedules = [draw(f"{seed}:{number}") for number in range(arguments.schedules)]
        for number, future in enumerate([pool.submit(compare, broker.bootstrap, each) for each in schedules]):
            try:
                compared += future.result()
            except Disagreement as found:
                disagreements += 1
                if not arguments.all:
                    pool.shutdown(cancel_futures=True)
                    found = shortened(broker.bootstrap, found)
                print(f"schedule {number} of seed {seed}: {found}\n{found.schedule}", flush=True)
                if not arguments.all:
                    return 1
    seconds = time.monotonic() - began
    for what, times in sorted(compared.items()):
        print(f"{times:8}  {what}")
    print(
        f"{arguments.schedules} schedules, {compared.total()} steps in {seconds:.0f} s: {disagreements} disagreements"
    )
    return disagreements > 0


if __name__ == "__main__":
    sys.exit(main())
