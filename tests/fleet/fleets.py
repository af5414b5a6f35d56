"""Fleets of any size for the tests of the page: chains with joins and branches, some of their consumers in trouble."""

from collections.abc import Sequence
from random import Random

from utils.fleet.letters import Letters
from utils.fleet.verdicts import ConsumerSeen, Level, MemberSeen, PartitionSeen, Rates, worst_first
from utils.fleet.watcher import FleetSeen

STATES: Sequence[tuple[Level, str, str]] = (
    (
        "bad",
        "standing still",
        "Nothing moves on 1 worker (10.0.3.7): 48,210 unread; the last commit was 3 min 20 s ago.",
    ),
    ("bad", "nobody there", "No worker is in the consumer group: 1,204 unread; the last commit was 2 h 5 min ago."),
    ("bad", "row no good", "Topic does not exist: {out} of topics_output."),
    ("bad", "not seen", "Kafka cannot be reached: if this stays, check kafka_bootstrap_server of the row."),
    ("warning", "behind", "48,210 unread, 210 a second read, 190 a second come: about 40 min behind."),
    ("warning", "paused", "Paused by its row: 3,100 unread: fleet resume lets it go on."),
    ("warning", "idle", "All is read. 3 dead letters, the newest: NoSuchCustomer."),
)
WORDS = ("orders", "payments", "customers", "invoices", "stock", "shipping", "returns", "prices", "reviews", "alerts")
STEPS = ("raw", "parsed", "joined", "priced", "checked", "billed", "sent", "scored", "stored")


def consumer(
    name: str,
    topics_input: Sequence[str],
    topics_output: Sequence[str],
    trouble: tuple[Level, str, str] = ("ok", "working", "120 a second done."),
    rate: float = 120.0,
) -> ConsumerSeen:
    level, state, sentence = trouble
    unread = {"standing still": 48_210, "nobody there": 1_204, "behind": 48_210, "paused": 3_100}.get(state, 0)
    is_seen = state != "not seen"
    moves = 0.0 if level == "bad" or state in {"paused", "idle"} else rate
    there = level != "bad" or state == "standing still"
    members = (MemberSeen("10.0.3.7", name, "", dict.fromkeys(topics_input, (0, 1, 2, 3))),) if there else ()
    return ConsumerSeen(
        name=name,
        level=level,
        state=state,
        sentence=sentence.replace("{out}", ", ".join(topics_output)),
        cluster="kafka-1:9092",
        topics_input=tuple(topics_input),
        topics_output=tuple(topics_output),
        paused=state == "paused",
        unread=unread if is_seen else None,
        unfinished=12 if is_seen and len(topics_input) > 1 else 0 if is_seen else None,
        waits=is_seen and len(topics_input) > 1,
        since="2026-01-02T03:04:05Z" if is_seen and len(topics_input) > 1 else None,
        age=75.0 if is_seen and len(topics_input) > 1 else None,
        letters=Letters(3, True, "2026-01-02T03:04:05Z", "process_failed", "NoSuchCustomer")
        if "dead letters" in sentence
        else Letters(0),
        members=members,
        frames=("1.0.0",) if is_seen else (),
        rates=Rates(moves, moves, moves),
        partitions=tuple(
            PartitionSeen(topic, 0, unread // len(topics_input), 0, 5, 5, 5 + unread, "10.0.3.7")
            for topic in topics_input
        ),
        topic_rates=dict.fromkeys((*topics_input, *topics_output), moves),
        missing_topics=tuple(topics_output) if state == "row no good" else (),
    )


def fleet(rows: int, *, bad: int = 2, looked_at: int = 3, seed: int = 1) -> FleetSeen:
    """So many consumers in chains of some steps; now and then one joins two topics, or writes two."""
    random = Random(seed)
    made: list[ConsumerSeen] = []
    chain = 0
    while len(made) < rows:
        word = WORDS[chain % len(WORDS)] + (f"-{chain // len(WORDS) + 1}" if chain >= len(WORDS) else "")
        rate = 10 ** random.uniform(0, 4)
        topic = f"{word}-raw"
        for step in range(random.randint(2, min(7, len(STEPS) - 1))):
            if len(made) == rows:
                break
            out = f"{word}-{STEPS[step + 1]}"
            inputs = [topic]
            if made and random.random() < 0.3:
                other = random.choice(made)
                inputs += [each for each in other.topics_output[:1] if each != topic and each != out]
            outputs = [out] + ([f"{word}-audit"] if random.random() < 0.15 else [])
            made.append(consumer(f"{word}-{STEPS[step]}-to-{STEPS[step + 1]}", inputs, outputs, rate=rate))
            topic = out
        chain += 1
    for number, index in enumerate(random.sample(range(rows), min(bad + looked_at, rows))):
        trouble = STATES[number % 4] if number < bad else STATES[4 + number % 3]
        old = made[index]
        made[index] = consumer(old.name, old.topics_input, old.topics_output, trouble)
    return FleetSeen("2026-01-02T03:05:00Z", tuple(worst_first(made)))
