"""The faults of three brokers: those of brokers, network, quotas, rows, topics and clocks, and today's of workers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.chaos.cluster_stage import ClusterStage
from tests.chaos.faults import freeze, kill, kill_at, kill_or_freeze, one_three_one, rolling_restart
from tests.chaos.stage import PARTITIONS
from tests.program import ROOT
from tests.services.cluster import Node
from tests.services.network import Rule, one_way, slow, torn

SKEWED = ("-m", "tests.chaos.skewed")
LATENCY = 0.1  # seconds
NEW_LEADERS = 5.0  # seconds after which the partitions of a broker that does not answer have other leaders
QUOTA_SHARE = 0.3  # of what goes through one broker
QUOTA_SECONDS = 8.0

Role = Callable[[ClusterStage], Node]


@dataclass(frozen=True, slots=True)
class ClusterFault:
    """As Fault, on the stage of a cluster."""

    name: str
    play: Callable[[ClusterStage], None]
    only: str = ""  # the delivery that knows such a fault


# ------------------------------------------------------------------ brokers


def input_leader(stage: ClusterStage) -> Node:
    return _leader(stage, stage.chance.choice(stage.job.topics_input))


def output_leader(stage: ClusterStage) -> Node:
    return _leader(stage, stage.job.topics_output[0])


def _leader(stage: ClusterStage, topic: str) -> Node:
    return stage.cluster.leader(topic, stage.chance.randrange(PARTITIONS))


def group_coordinator(stage: ClusterStage) -> Node:
    """It leads the partition in which the group's offsets are."""
    return stage.cluster.group_coordinator(stage.job.name)


def transaction_coordinator(stage: ClusterStage) -> Node:
    """Of one of the workers; it leads the partition in which that worker's transactions are."""
    return stage.chance.choice(stage.cluster.transaction_coordinators(f"{stage.job.name}-"))


ROLES: dict[str, Role] = {
    "leader of an input": input_leader,
    "leader of the output": output_leader,
    "group coordinator": group_coordinator,
    "transaction coordinator": transaction_coordinator,
}


def any_role(stage: ClusterStage) -> Node:
    of_all = list(ROLES.values())[: 4 if stage.delivery == "exactly_once" else 3]
    return stage.chance.choice(of_all)(stage)


def killed(role: Role, stage: ClusterStage) -> None:
    """SIGKILL, and a new start some seconds later."""
    node = prepared(role, stage)
    node.kill()
    stage.happened()
    stage.later(stage.chance.uniform(0.5, 6), node.launch)
    stage.until_results_flow()


def stopped(role: Role, stage: ClusterStage) -> None:
    """SIGTERM: the others take over in order, as in a rolling restart of the cluster."""
    node = prepared(role, stage)
    node.terminate()
    stage.happened()
    stage.wait_until(node.has_ended, "the end of a broker")
    node.launch()
    stage.until_results_flow()


def frozen(role: Role, stage: ClusterStage, sessions: float = 1.5) -> None:
    """SIGSTOP, for longer than the sessions of brokers and workers."""
    node = prepared(role, stage)
    node.freeze()
    stage.happened()
    seconds = sessions * stage.session + 1
    stage.later(NEW_LEADERS, stage.renew_feeder)
    stage.later(seconds, node.thaw)
    stage.until_results_flow()
    stage.wait_until(lambda: not node.is_frozen, "the end of the freeze")


def prepared(role: Role, stage: ClusterStage) -> Node:
    stage.pass_time(stage.chance.uniform(0.5, 1.5))
    return role(stage)


def with_a_worker_killed(fault: Callable[[Role, ClusterStage], None], stage: ClusterStage) -> None:
    """A worker fails beside the broker, and another one starts while that is away."""

    def kill_one() -> None:
        if stage.workers:
            stage.kill(stage.workers[0])
            stage.later(stage.chance.uniform(0, 2), stage.start)

    stage.later(stage.chance.uniform(0.5, 4), kill_one)
    fault(any_role, stage)


# ------------------------------------------------------------------ the network


def through_rules(rules: Callable[[ClusterStage], list[Rule]], stage: ClusterStage) -> None:
    """The network as these rules say, for longer than the sessions; then as before."""
    stage.pass_time(stage.chance.uniform(0.5, 1.5))
    stage.cluster.network.rules = rules(stage)
    stage.happened()
    stage.later(NEW_LEADERS, stage.renew_feeder)
    stage.pass_time(1.5 * stage.session + 1)
    stage.cluster.network.rules = ()
    stage.until_results_flow()


def slow_to_workers(_stage: ClusterStage) -> list[Rule]:
    return [slow("worker", "broker", LATENCY)]


def slow_everywhere(stage: ClusterStage) -> list[Rule]:
    return [*slow_to_workers(stage), slow("broker", "broker", LATENCY)]


def broker_from_workers(stage: ClusterStage) -> list[Rule]:
    return [torn("worker", any_role(stage).name)]


def broker_from_brokers(stage: ClusterStage) -> list[Rule]:
    """The workers still reach it, and it still takes itself for what it was."""
    return [torn(any_role(stage).name, "broker")]


def broker_from_all(stage: ClusterStage) -> list[Rule]:
    name = any_role(stage).name
    return [torn(name, "broker"), torn(name, "worker")]


def worker_from_all(stage: ClusterStage) -> list[Rule]:
    """It runs on, and finds out by itself that it is out of the group."""
    return [torn(stage.network_name(stage.chance.choice(stage.workers)), "broker")]


def answers_lost(stage: ClusterStage) -> list[Rule]:
    """What workers ask of a broker is done, and they are not told."""
    return [one_way(any_role(stage).name, "worker")]


# ------------------------------------------------------------------ quotas


def quota(name: str, stage: ClusterStage) -> None:
    """What all workers send or read in a second, for a time; then without limit."""
    stage.pass_time(stage.chance.uniform(0.5, 1.5))
    of_a_broker = stage.rate * 200 / len(stage.cluster.nodes)  # bytes a second, about
    stage.set_quotas({name: round(of_a_broker * QUOTA_SHARE)})
    stage.happened()
    stage.pass_time(QUOTA_SECONDS)
    stage.set_quotas({name: None})
    stage.until_results_flow()


# ------------------------------------------------------------------ rows and topics


def topic_added_and_removed(stage: ClusterStage) -> None:
    for topics in (stage.topics_fed, stage.topics):
        stage.pass_time(1)
        stage.job.write_row(topics)
        stage.happened()
        until_results_are_of(stage, topics)
        stage.until_results_flow()


def topic_removed_and_a_worker_killed(stage: ClusterStage) -> None:
    """Who starts knows the new row, who runs on not yet."""
    for topics in (stage.topics_fed, stage.topics):
        stage.pass_time(1)
        stage.kill(stage.chance.choice(stage.workers))
        stage.job.write_row(topics)
        stage.start()
        stage.happened()
        until_results_are_of(stage, topics)
        stage.until_results_flow()


def until_results_are_of(stage: ClusterStage, topics: tuple[str, ...]) -> None:
    made_of, of_these = stage.oracle.made_of, frozenset(topics)
    before = made_of[of_these]
    stage.wait_until(lambda: made_of[of_these] > before + 2 * stage.rate, "results of the topics of the row")


def output_changed(stage: ClusterStage) -> None:
    for output in (stage.other_output, stage.output):
        stage.pass_time(1)
        stage.job.write_row(topics_output=[output])
        stage.happened()
        stage.until_results_flow()
        stage.pass_time(2)


def topic_made_again(stage: ClusterStage) -> None:
    """With halves in it that wait, and with what was just sent."""
    topic = stage.chance.choice(stage.topics)
    stage.feed_halves(topic, 30)
    stage.pass_time(stage.chance.uniform(0.5, 1.5))
    stage.make_again(topic)
    stage.happened()
    stage.until_results_flow()


# ------------------------------------------------------------------ clocks


def clock_moved(stage: ClusterStage) -> None:
    """Of one host, by hours while its worker runs; then the worker dies, and others go on from its commits."""
    file = stage.directory / "clock"
    file.write_text("0")
    stage.stop(stage.chance.choice(stage.workers))
    skewed = stage.launch(main=SKEWED, CHAOS_CLOCK=str(file), PYTHONPATH=str(ROOT))
    stage.workers.append(skewed)
    stage.until_assigned([skewed])
    for hours in (stage.chance.choice([-30, -2, 2, 30]), 0, stage.chance.choice([-30, -2, 2, 30])):
        file.write_text(str(hours * 3600))
        stage.happened()
        stage.until_results_flow()
        stage.pass_time(2)
    stage.kill(skewed)
    stage.start()
    stage.happened()
    stage.until_results_flow()


# ------------------------------------------------------------------ all of them


def _faults() -> Iterator[ClusterFault]:
    for what, fault in (("killed", killed), ("frozen", frozen), ("stopped in order", stopped)):
        for name, role in ROLES.items():
            only = "exactly_once" if role is transaction_coordinator else ""
            yield ClusterFault(f"{name} {what}", partial(fault, role), only)
    yield ClusterFault("leader of the output frozen for long", partial(frozen, output_leader, sessions=6))
    for what, fault in (("killed", killed), ("frozen", frozen)):
        yield ClusterFault(f"broker {what}, a worker SIGKILL", partial(with_a_worker_killed, fault))
    network: dict[str, Any] = {
        "100 ms to the workers": slow_to_workers,
        "100 ms everywhere": slow_everywhere,
        "broker cut off from workers": broker_from_workers,
        "broker cut off from brokers": broker_from_brokers,
        "broker cut off from all": broker_from_all,
        "worker cut off from all": worker_from_all,
        "answers of a broker lost": answers_lost,
    }
    for name, rules in network.items():
        yield ClusterFault(name, partial(through_rules, rules))
    yield ClusterFault("quota for producers", partial(quota, "producer_byte_rate"))
    yield ClusterFault("quota for consumers", partial(quota, "consumer_byte_rate"))
    yield ClusterFault("topic added, removed", topic_added_and_removed)
    yield ClusterFault("topic added, removed, a worker SIGKILL", topic_removed_and_a_worker_killed)
    yield ClusterFault("output changed", output_changed)
    yield ClusterFault("input made again", topic_made_again)
    yield ClusterFault("clock moved", clock_moved)
    yield ClusterFault("worker SIGKILL", kill)
    yield ClusterFault("worker SIGKILL at a result", kill_at("produced", 300))
    yield ClusterFault("worker SIGKILL at offsets", kill_at("offsets", 30), "exactly_once")
    yield ClusterFault("worker SIGKILL within a commit", kill_at("commit", 30))
    yield ClusterFault("worker SIGSTOP", freeze)
    yield ClusterFault("workers SIGKILL, SIGSTOP at random", kill_or_freeze)
    yield ClusterFault("workers 2, 4, 2", one_three_one)
    yield ClusterFault("workers one after the other", rolling_restart)


CLUSTER_FAULTS = list(_faults())
