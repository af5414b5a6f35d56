"""An act: faults of all kinds in any order on one stage of three brokers; and the table of all acts, by fault."""

import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.cluster_faults import ClusterFault
from tests.chaos.cluster_stage import WORKERS, ClusterStage
from tests.chaos.rounds import problems
from tests.integration.oracle import Verdict
from tests.integration.stream import Records
from tests.services.cluster import KafkaCluster


@dataclass(frozen=True, slots=True)
class Act:
    """What came of it. `str()` of it is a line; `problems` are what must not be, as text."""

    name: str
    seconds: dict[str, list[float]]  # by fault: until new results, each time that it happened
    verdict: Verdict
    destroyed: int  # ids that may have no result, for their topic was deleted
    letters: dict[str, int]  # dead letters by their reasons
    open_transactions: int
    lag: int
    problems: list[str]

    def __str__(self) -> str:
        found = self.verdict
        faults = sum(map(len, self.seconds.values()))
        wrong = {"lost": found.lost, "twice": found.twice, "half": found.half, "overtaken": found.overtaken}
        counts = ", ".join(f"{len(ids)} {what}" for what, ids in wrong.items())
        rest = (
            f"{self.open_transactions} open, lag {self.lag}, {self.destroyed} destroyed, letters {dict(self.letters)}"
        )
        return f"{self.name}: {faults} faults, {found.complete} ids: {counts}, {rest}"


def play(
    faults: Sequence[ClusterFault],
    cluster: KafkaCluster,
    delivery: str,
    directory: Path,
    chance: random.Random,
    seconds: float,
    most: int,
    **options: Any,
) -> Act:
    """Faults until the time is up, or until there were so many; each of them once before any is there again."""
    name = f"{delivery}{', static' if options.get('is_static') else ''}"
    measured: dict[str, list[float]] = defaultdict(list)
    with ClusterStage(cluster, delivery, directory, chance, **options) as stage:
        stage.feed()
        stage.until_assigned(stage.start(WORKERS))
        stage.pass_time(1)
        until = time.monotonic() + seconds
        to_come: list[ClusterFault] = []
        while time.monotonic() < until and stage.faults < most and not stage.ended:
            to_come = to_come or chance.sample(faults, len(faults))
            fault, before = to_come.pop(), len(stage.seconds)
            try:
                fault.play(stage)
                stage.heal()
                stage.until_results_flow()
            except Exception as error:
                stage.ended.append(f"{type(error).__name__}: {error}")
            measured[fault.name] += stage.seconds[before:]
            print(f"  {fault.name}:", " ".join(f"{each:.1f}" for each in stage.seconds[before:]), flush=True)
            stage.ended = [f"{fault.name}: {problem}" for problem in stage.ended]
        verdict = stage.finish()
        left_open, lag = stage.open_transactions(), stage.job.lag()
        found = problems(verdict, left_open, once=delivery == "exactly_once") + stage.ended
        if delivery == "exactly_once":
            found += [f"{id} is at {', '.join(stage.outputs.places[id])}" for id in verdict.twice]
        if found:
            cluster.keep_logs(directory / "brokers")
        if again := stage.outputs.handed_out_again:
            print(f"  {again} results were handed out to the reader once more", flush=True)
        letters = Records.of(cluster, f"{stage.job.name}-dlq").headers.values()
        reasons = Counter(headers["dlq.reason"] for each in letters for headers in each)
        return Act(name, dict(measured), verdict, len(stage.oracle.destroyed), reasons, left_open, lag, found)


def table(acts: Sequence[Act], deliveries: Sequence[str]) -> Iterator[str]:
    """A line for each fault: in each delivery how often it was there, and the seconds until new results."""
    yield f"{'fault':40}" + "".join(f"{delivery + ': times':>20} median  worst" for delivery in deliveries)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for act in acts:
        for fault, seconds in act.seconds.items():
            found[fault][act.name.split(",")[0]] += seconds
    for fault, by_delivery in found.items():
        yield f"{fault:40}" + "".join(_times(by_delivery[delivery]) for delivery in deliveries)


def _times(seconds: list[float]) -> str:
    if not seconds:
        return f"{'-':>20} {'-':>6} {'-':>6}"
    return f"{len(seconds):20} {statistics.median(seconds):6.1f} {max(seconds):6.1f}"
