"""What the configuration of its topics would do to what a worker reads and writes, each with its cure.

Pure: no Kafka, no clock, no logging.
"""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from config import Settings
from models import Row

Configs: TypeAlias = Mapping[str, Mapping[str, str]]
"""By topic: its configuration, as the broker writes it. One of which a broker does not tell it is not there."""

AWAY = 3600.0  # seconds that all workers of a consumer may be away without a loss: an update that has gone wrong
DEFAULT_RETENTION = 604_800_000  # ms: Kafka's
DEFAULT_SIZE = 1_048_588  # bytes: Kafka's max.message.bytes
_BATCH = 100  # bytes of a batch beside its one record, rounded up
_LEAST_SIZE = 1_000  # bytes: the client takes no smaller message.max.bytes


def alter(row: Row, topic: str, config: str) -> str:
    """The command that sets it."""
    tool = f"kafka-configs.sh --bootstrap-server {row.bootstrap_servers}"
    return f"{tool} --alter --entity-type topics --entity-name {topic} --add-config {config}"


def forgotten_inputs(settings: Settings, row: Row, configs: Configs) -> Iterator[str]:
    """One line for each input topic of which Kafka may delete what is not joined yet."""
    needed = settings.message_timeout + AWAY
    for topic in row.topics_input:
        policy, kept = _policy(configs, topic), _number(configs, topic, "retention.ms")
        if "compact" in policy:
            why = "of the records of an id only the last one stays, and an earlier one may be gone before it is joined"
            yield f"topic {topic} is compacted: {why}: {alter(row, topic, 'cleanup.policy=delete')}"
        if "delete" in policy and kept is not None and kept < needed * 1000:
            why = "less than MESSAGE_TIMEOUT and an hour: what waits, or comes while no worker is there, may be lost"
            cure = alter(row, topic, f"retention.ms={max(DEFAULT_RETENTION, round(needed * 1000))}")
            yield f"topic {topic} deletes records after {kept / 1000:g} s (retention.ms), {why}: {cure}"


def narrow_outputs(settings: Settings, row: Row, configs: Configs, largest: int) -> Iterator[str]:
    """One line for each topic that takes less than the worker may send, `largest` bytes; else one where what it reads
    may be more than it may send.
    """
    letters = settings.dead_letters
    written = [topic for topic in (*row.topics_output, letters) if topic]
    limits = {topic: limit for topic in written if (limit := _number(configs, topic, "max.message.bytes")) is not None}
    narrow = {topic: limit for topic, limit in limits.items() if limit < largest}
    for topic, limit in narrow.items():
        becomes = "dead letters keep no message" if topic == letters else "results become dead letters"
        cure = alter(row, topic, f"max.message.bytes={max(DEFAULT_SIZE, largest + _BATCH)}")
        takes = f"topic {topic} takes {limit:,} bytes (max.message.bytes), and the worker may send {largest:,}"
        yield f"{takes}: larger {becomes}: set KAFKA_MESSAGE_MAX_BYTES={max(limit, _LEAST_SIZE)}, or {cure}"
    held = {topic: _number(configs, topic, "max.message.bytes") or 0 for topic in row.topics_input}
    topic, most = max(held.items(), key=lambda each: each[1])
    if not narrow and written and most > max(DEFAULT_SIZE, largest):
        wider = [each for each, limit in limits.items() if limit < most]
        cure = f"set KAFKA_MESSAGE_MAX_BYTES={most}" + "".join(
            f", and {alter(row, each, f'max.message.bytes={most + _BATCH}')}" for each in wider
        )
        holds = f"topic {topic} may hold messages of {most:,} bytes (max.message.bytes)"
        yield f"{holds}, and the worker may send {largest:,}: larger results become dead letters: {cure}"


def forgotten_dead_letters(settings: Settings, row: Row, configs: Configs) -> str:
    """What is said where Kafka deletes dead letters after a time; nothing where it does not, or does not tell."""
    name = settings.dead_letters
    told = configs.get(name, {})
    limits = {each: told[each] for each in ("retention.ms", "retention.bytes") if told.get(each, "-1") != "-1"}
    has = " and ".join(f"{each}={limit}" for each, limit in limits.items())
    cure = alter(row, name, ",".join(f"{each}=-1" for each in limits))
    return f"dead letters vanish by themselves: topic {name} has {has}: {cure}" if limits else ""


def compacted_dead_letters(settings: Settings, row: Row, configs: Configs) -> list[str]:
    """One line where the topic of dead letters is compacted."""
    name = settings.dead_letters
    if "compact" not in _policy(configs, name):
        return []
    why = "it would keep one letter of each id, and take none that has no id"
    cure = alter(row, name, "cleanup.policy=delete,retention.ms=-1,retention.bytes=-1")
    return [f"topic {name} (DLQ_TOPIC) must not be compacted ({why}): choose another one, or {cure}"]


def _policy(configs: Configs, topic: str) -> str:
    """Such as `compact,delete`; nothing where it is not told."""
    return configs.get(topic, {}).get("cleanup.policy", "")


def _number(configs: Configs, topic: str, name: str) -> int | None:
    """None: not told, or -1, which is no limit."""
    told = configs.get(topic, {}).get(name, "")
    return int(told) if told.isdecimal() else None
