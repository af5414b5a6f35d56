"""How a worker is put together: by the same functions in production, in its unit tests and in the simulation.

Kafka's clients (Clients) are made into what talks to Kafka (Links), and the worker is put around those.
"""

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from threading import Event
from typing import NamedTuple, Protocol, cast

from confluent_kafka import Consumer, IsolationLevel, Producer, ThrottleEvent
from confluent_kafka.admin import AdminClient

from config import ConfigError, Settings, UnavailableError
from framework import Worker
from models import Row, map_topic
from utils.errors import guarded
from utils.joining.messages import RESULT_OVERHEAD
from utils.joining.offsets import Edition
from utils.joining.suspicion import CrashRecord
from utils.kafka import clients, membership, needed_topics, preflight
from utils.kafka.absence import Absence
from utils.kafka.commit_answers import CommitAnswers
from utils.kafka.ends import EndOffsets, newest_times
from utils.kafka.membership import Membership
from utils.kafka.mute import Mute
from utils.kafka.properties import (
    compresses,
    largest_record,
    leaves_alone,
    queue_room,
    session_timeout,
    transaction_timeout,
)
from utils.kafka.uuids import share_uuids
from utils.kafka.wrong_properties import named_properties
from utils.logger import logger
from utils.metrics import Counters
from utils.monitoring.status import Health
from utils.processing.executor import Retrying
from utils.processing.suspects import Suspects
from utils.reading.in_step import InStep
from utils.reading.intake import Intake, Waits
from utils.reading.locator import Locator, Partition
from utils.running.lifetime import Stopped, interruptibly
from utils.running.refresh import Config
from utils.sending.assignment import Locate
from utils.sending.delivery import AtLeastOnce, Delivery, ExactlyOnce, TransactionTerms
from utils.sending.failures import Failures
from utils.sending.map_store import MapStore, MapTopic
from utils.sending.outbox import Outbox, Report
from utils.sending.pace import PATIENCE, PATIENCE_OF_A_TRANSACTION
from utils.sending.refusals import Refusals
from utils.sparing import SparingByKind

GATHER, GATHER_STAGED = 0.004, 0.01  # seconds that a record stays for others (see Intake); where results wait anyway
SETTLE = 15.0  # seconds beside CONFIG_REFRESH until all workers of a consumer have applied a change of the input topics


class Clock(NamedTuple):
    """The time of a worker."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True, kw_only=True)
class Surroundings:
    """What a worker works in, and what outlives it: after a failure the next one goes on in the same."""

    executor: Retrying
    counters: Counters
    health: Health = field(default_factory=Health)
    refusals: Refusals = field(default_factory=Refusals)
    survived: dict[Partition, CrashRecord] = field(default_factory=dict)
    """How the partitions of a worker stood that has failed for a known reason. What is located is taken out of it."""
    membership: Membership = field(default_factory=Membership)
    edition: Edition = field(default_factory=Edition)
    waits: Waits = field(default_factory=Waits)
    frame: str = ""  # its version, for the commits
    clock: Clock = field(default_factory=Clock)
    lines: SparingByKind = field(init=False)
    """Of what failed, in the log: their bound holds over restarts, too."""

    def __post_init__(self) -> None:
        self.lines = SparingByKind(self.clock.monotonic)


class Clients(Protocol):
    """Kafka's clients of one worker, each made when it is asked for."""

    @property
    def admin(self) -> AdminClient: ...

    def consumer(self, on_commit: Callable[..., None], on_throttle: Callable[[ThrottleEvent], None]) -> Consumer: ...

    def producer(self, report: Report, on_throttle: Callable[[ThrottleEvent], None]) -> Producer: ...

    def map_reader(self) -> Consumer:
        """One that reads the topic of maps."""

    def prober(self) -> Consumer:
        """One that finds out where a log begins to differ from what was read, and what others have committed."""

    def new_writer(self) -> str:
        """A name of no other that writes maps."""

    @property
    def transaction_timeout(self) -> float:
        """Seconds after which brokers abort one."""

    def is_place_taken(self, member_id: str) -> bool:
        """Whether another member of the consumer group has our GROUP_INSTANCE_ID."""

    def is_member(self) -> bool:
        """Whether the consumer group has a member with our GROUP_INSTANCE_ID, or nobody can tell."""

    def group_state(self) -> str:
        """Of the consumer group, as Kafka calls it; empty where nobody can tell."""


class Links(NamedTuple):
    """What a worker, or a replay, does with Kafka's clients."""

    consumer: Consumer
    admin: AdminClient
    locate: Locate
    delivery: Delivery
    failures: Failures
    absence: Absence
    leave: Callable[[Consumer], None] = lambda _consumer: None


def build_worker(config: Config, around: Surroundings, stop: Event, opened: ExitStack) -> Worker:
    """A worker with clients and memory of its own. Raises ConfigError for properties that the clients refuse.

    `opened` closes what is open then. The consumer is closed by the worker itself: others wait for its partitions.
    """
    with named_properties(config.settings):
        ours = KafkaClients(config.settings, config.row, around.refusals, config.partitions)
        opened.enter_context(ours.admin)
        links = links_of(config, config.row.topics_input, ours, around, opened)
    return worker_of(config, links, around, stop)


def gets_place_back(config: Config, stop: Event) -> bool:
    """Wait until our place in the consumer group is free. False: another worker has it."""
    settings, properties = config.settings, clients.client_properties(config.settings, config.row)
    with named_properties(settings), AdminClient(dict(properties)) as admin:
        session = session_timeout(properties) / 1000
        return membership.gets_place_back(lambda: membership.member_ids(admin, settings), session, stop)


def provides_topics(config: Config, stop: Event) -> None:
    """Make the topics of the worker's own that are gone, and tell which others are. Never raises.

    It takes as long as brokers that do not answer. Where `stop` is set meanwhile, it is left behind.
    """
    with suppress(Stopped):
        interruptibly(partial(_provide_topics, config), stop)


def _provide_topics(config: Config) -> None:
    settings, row = config.settings, config.row
    try:
        cluster = preflight.look(settings, row)
        problems = needed_topics.missing_topics(row, cluster)
        problems += needed_topics.provide_dead_letter_topic(settings, row, cluster)
        problems += needed_topics.provide_map_topic(settings, row, cluster)
    except (ConfigError, UnavailableError) as error:
        problems = [str(error)]
    own = settings.dead_letters, map_topic(row.consumer_name)
    if problems:
        logger.error("a topic is gone", extra={"problems": problems})
    elif made := [topic for topic in own if topic and topic not in cluster.partitions]:
        logger.warning("topics of the worker's own were gone: they are made again", extra={"topics": made})


class KafkaClients:
    """Those of production, by these settings and that row, whose input topics have so many partitions together."""

    def __init__(self, settings: Settings, row: Row, refusals: Refusals, partitions: int = 0) -> None:
        self._settings = settings
        self._row = row
        self._refusals = refusals
        self._partitions = partitions
        self._properties = clients.client_properties(settings, row)

    @cached_property
    def admin(self) -> AdminClient:
        share_uuids()
        return AdminClient(dict(self._properties))

    def consumer(self, on_commit: Callable[..., None], on_throttle: Callable[[ThrottleEvent], None]) -> Consumer:
        properties, settings, partitions = self._properties, self._settings, self._partitions
        return clients.consumer(properties, settings, on_commit, partitions, on_throttle=on_throttle)

    def producer(self, report: Report, on_throttle: Callable[[ThrottleEvent], None]) -> Producer:
        records, size = queue_room(self._properties)
        patience = PATIENCE_OF_A_TRANSACTION if self._settings.delivery == "exactly_once" else PATIENCE
        self._refusals.largest.are_compressed = compresses(self._properties)
        self._refusals.largest.client_takes = largest_record(self._properties)
        self._refusals.pace.at_most(min(records * RESULT_OVERHEAD, size) // 2, patience)
        is_transactional, instance = self._settings.delivery == "exactly_once", self._settings.group_instance_id
        alone = leaves_alone(self._properties, self._refusals.batch_size) if is_transactional else 0
        self._refusals.alone = alone
        return clients.producer(
            self._properties,
            report,
            transactional_id=transactional_id(self._row.consumer_name, instance) if is_transactional else "",
            batch_size=self._refusals.batch_size,
            is_slow=self._refusals.pace.has_failed,
            on_throttle=on_throttle,
        )

    def map_reader(self) -> Consumer:
        return clients.map_reader(self._properties, self._settings)

    def prober(self) -> Consumer:
        return clients.prober(self._properties, self._settings.consumer_name)

    def new_writer(self) -> str:
        return uuid.uuid4().hex[:12]

    @property
    def transaction_timeout(self) -> float:
        return transaction_timeout(self._properties, is_slow=self._refusals.pace.has_failed) / 1000

    def is_place_taken(self, member_id: str) -> bool:
        return membership.is_place_taken(self.admin, self._settings, member_id)

    def is_member(self) -> bool:
        return membership.is_member(self.admin, self._settings)

    def group_state(self) -> str:
        """By a client of its own: whatever has happened to that of the consumer may have happened to the other ones."""
        return membership.group_state(self._properties, self._settings)


def links_of(config: Config, topics: tuple[str, ...], ours: Clients, around: Surroundings, opened: ExitStack) -> Links:
    """What reads `topics` and sends what comes of them. `opened` closes the clients."""
    settings, row, counters, clock = config.settings, config.row, around.counters, around.clock
    failures = Failures(row.consumer_name, settings.dead_letters, counters, clock.wall, around.lines)
    maps = map_store_of(config, ours, counters, clock.monotonic)
    mute = Mute(clock.monotonic)
    producer = partial(ours.producer, on_throttle=mute.on_throttle)
    around.refusals.stamps.look(partial(newest_times, ours.admin, topics))
    outbox = Outbox(producer, row.topics_output, failures, around.refusals, counters, mute)
    opened.callback(outbox.close)
    delivery: Delivery
    if settings.delivery == "exactly_once":
        terms = TransactionTerms(
            ours.transaction_timeout,
            ours.is_place_taken,
            lambda seconds: around.health.may_take(seconds, clock.monotonic()),
        )
        delivery = ExactlyOnce(outbox, maps, counters.commit_time, counters.latency, terms, clock.monotonic)
    else:
        delivery = AtLeastOnce(outbox, maps, counters.commit_time, counters.latency, clock.monotonic)
    answers = CommitAnswers(delivery.on_commit, clock.monotonic)
    mute_input = Mute(clock.monotonic)
    consumer = ours.consumer(guarded(answers.on_commit, outbox.fail), on_throttle=mute_input.on_throttle)
    if settings.read_order == "time" and len(topics) > 1:
        ends = EndOffsets(ours.admin, IsolationLevel.READ_UNCOMMITTED)
        consumer = cast(Consumer, InStep(consumer, ends, clock.monotonic, clock.wall, mute_input))
    absence = Absence(ours.group_state)
    opened.callback(absence.close, consumer)  # where the worker has not come to it
    locate = Locator(
        ours.admin,
        topics,
        settings.message_timeout,
        maps.load,
        counters,
        clock.wall,
        around.edition,
        around.survived,
        around.membership,
        ours.prober,
        around.frame,
        config.ends,
    )
    leave = partial(around.membership.leave, ours.is_member)
    return Links(consumer, ours.admin, locate, delivery, failures, absence, leave)


def map_store_of(
    config: Config, ours: Clients, counters: Counters, clock: Callable[[], float] = time.monotonic
) -> MapStore:
    topic = MapTopic(map_topic(config.row.consumer_name), config.stores_maps, config.unread_maps)
    return MapStore(topic, ours.map_reader, ours.new_writer, counters, clock, config.limits)


def worker_of(config: Config, links: Links, around: Surroundings, stop: Event) -> Worker:
    """A worker around these links, which ends once `stop` is set."""
    settings, clock = config.settings, around.clock
    intake = intake_of(links, around)
    return Worker(
        topics_input=config.row.topics_input,
        message_timeout=settings.message_timeout,
        max_pending_bytes=settings.max_pending_bytes,
        commit_interval=settings.commit_interval,
        shutdown_timeout=settings.shutdown_timeout,
        consumer=links.consumer,
        intake=intake,
        delivery=links.delivery,
        failures=links.failures,
        executor=Suspects(around.executor, lambda: intake.owned.partitions.values(), clock.sleep, clock.monotonic),
        locate=links.locate,
        counters=around.counters,
        health=around.health,
        worker_stop=stop,
        leave=links.leave,
        is_left_out=links.absence.is_for_good,
        let_go=links.absence.let_go,
        clock=clock.monotonic,
        wall_clock=clock.wall,
    )


def intake_of(links: Links, around: Surroundings) -> Intake:
    clock, mismatches = around.clock.monotonic, around.health.mismatches
    return Intake(links.consumer, around.counters, links.admin, clock, mismatches, around.waits)


def gathering(settings: Settings) -> float:
    """Seconds that a record stays for others: see Waits."""
    return GATHER if settings.delivery == "at_least_once" else min(GATHER_STAGED, settings.commit_interval / 10)


def transactional_id(consumer_name: str, group_instance_id: str) -> str:
    """Of one producer alone in the whole cluster. It begins with the name and a hyphen: rights are granted for those.

    A name holds no slash, so `shop` with `eu-1` is never `shop-eu` with `1`: they would fence each other for ever.
    """
    return f"{consumer_name}-/{group_instance_id}" if group_instance_id else f"{consumer_name}-{uuid.uuid4()}"
