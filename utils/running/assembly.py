"""A worker with all that it is made of: Kafka's clients, the rooms around them, and what outlives it."""

import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from config import Settings
from framework import Worker
from models import Row, map_topic
from utils.joining.messages import RESULT_OVERHEAD
from utils.joining.offsets import Standing
from utils.kafka import clients
from utils.kafka.membership import Membership
from utils.metrics import Counters
from utils.monitoring.status import Health
from utils.processing.executor import Executor
from utils.processing.suspects import Suspects
from utils.reading.intake import Intake
from utils.reading.locator import Partition, locator
from utils.running.refresh import Refresh
from utils.sending.delivery import AtLeastOnce, Delivery, ExactlyOnce
from utils.sending.failures import Failures
from utils.sending.map_store import MapStore
from utils.sending.outbox import Mute, Outbox, Refusals

GATHER, GATHER_STAGED = 0.004, 0.01  # seconds that a record stays for others (see Intake); where results wait anyway
SETTLE = 15.0  # seconds beside CONFIG_REFRESH until all workers of a group have applied a change of the input topics


def build_worker(
    refresh: Refresh,
    executor: Executor,
    counters: Counters,
    health: Health,
    stopping: threading.Event,
    refusals: Refusals,
    survived: dict[Partition, Standing],
    membership: Membership,
    opened: ExitStack,
) -> Worker:
    """A worker with clients and memory of its own. Raises ConfigError for properties that the clients refuse.

    `opened` closes what is open then. The consumer is closed by the worker itself: others wait for its partitions.
    """
    config = refresh.current
    settings, row = config.settings, config.row
    with clients.named_properties(settings):
        properties = clients.client_properties(settings, row)
        failures = Failures(row.consumer_name, settings.dead_letters, counters)
        reader = partial(clients.map_reader, properties, settings)
        maps = MapStore(
            map_topic(row.consumer_name),
            config.stores_maps,
            reader,
            lambda: uuid.uuid4().hex[:12],
            counters,
            limits=config.limits,
        )
        topics, timeout = row.topics_input, settings.message_timeout
        locate = locator(properties, topics, timeout, maps.load, counters, refresh.edition, survived, membership)
        opened.enter_context(locate.admin)
        outbox = outbox_of(settings, row, properties, counters, failures, refusals)
        opened.callback(outbox.close)
        delivery = delivery_of(
            settings, outbox, maps, counters, partial(clients.is_place_taken, locate.admin, settings)
        )
        consumer = clients.consumer(properties, settings, delivery.on_commit)
        opened.callback(consumer.close)  # where the worker has not come to it
    settle, changed_at = settings.config_refresh + SETTLE, refresh.topics_changed_at
    gather = gathering(settings)
    intake = Intake(
        consumer,
        counters,
        locate.admin,
        tell_mismatches=health.note_mismatches,
        settle=settle,
        topics_changed_at=changed_at,
        gather=gather,
    )
    return Worker(
        topics_input=row.topics_input,
        message_timeout=settings.message_timeout,
        max_pending_bytes=settings.max_pending_bytes,
        commit_interval=settings.commit_interval,
        shutdown_timeout=settings.shutdown_timeout,
        consumer=consumer,
        intake=intake,
        delivery=delivery,
        failures=failures,
        executor=Suspects(executor, lambda: intake.owned.values()),
        locate=locate,
        counters=counters,
        health=health,
        stopping=stopping,
        leave=partial(membership.leave, partial(clients.is_member, locate.admin, settings)),
    )


def gathering(settings: Settings) -> float:
    """Seconds that a record stays for others: see Intake."""
    return GATHER if settings.delivery == "at_least_once" else min(GATHER_STAGED, settings.commit_interval / 10)


def outbox_of(
    settings: Settings,
    row: Row,
    properties: Mapping[str, Any],
    counters: Counters,
    failures: Failures,
    refusals: Refusals,
) -> Outbox:
    transactional = settings.delivery == "exactly_once"
    identity = transactional_id(row.consumer_name, settings.group_instance_id) if transactional else ""
    records, size = clients.queue_room(properties)
    refusals.pace.at_most(min(records * RESULT_OVERHEAD, size) // 2)
    mute, slow = Mute(), refusals.pace.has_failed
    identified = partial(clients.producer, properties, transactional_id=identity, on_throttle=mute.on_throttle)
    producer = partial(identified, batch_size=refusals.batch_size, is_slow=slow)
    return Outbox(producer, row.topics_output, failures, refusals, counters, mute)


def transactional_id(consumer_name: str, group_instance_id: str) -> str:
    """Of one producer alone in the whole cluster. It begins with the name and a hyphen: rights are granted for those.

    A name holds no slash, so `shop` with `eu-1` is never `shop-eu` with `1`: they would fence each other for ever.
    """
    return f"{consumer_name}-/{group_instance_id}" if group_instance_id else f"{consumer_name}-{uuid.uuid4()}"


def delivery_of(
    settings: Settings,
    outbox: Outbox,
    maps: MapStore,
    counters: Counters,
    is_place_taken: Callable[[str], bool] = lambda _member_id: False,
) -> Delivery:
    if settings.delivery == "exactly_once":
        return ExactlyOnce(outbox, maps, counters.commit_time, counters.latency, is_place_taken)
    return AtLeastOnce(outbox, maps, counters.commit_time, counters.latency)
