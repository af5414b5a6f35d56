"""`dlq replay` of 10,000 dead letters, killed twice in mid-run, on real Kafka (issue 6, line 3).

    python -m tests.scale.replay
    python -m tests.scale.replay --at-once 2

Three kinds of dead letters lie mixed in their topic; those of one reason are replayed. The replay is ended by SIGKILL
at a third of the results and at two thirds, and started again each time; with `--at-once 2` two of them run, and one
goes on while the other is killed. Then `dlq list` must show those that were not chosen, and a replay of all make
results of them. It ends with 1 where one was lost, doubled (exactly once), or did not stay.
"""

import argparse
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from subprocess import Popen

from tests.integration.commands import MENDED, Commands
from tests.integration.oracle import Oracle
from tests.integration.workers import Job, Outputs, eventually, feed
from tests.scale.join_500k import LONG, a_broker, say
from tests.services.kafka import KafkaBroker, unique_name

PARTITIONS = 4
OTHERS = 20  # a twentieth each of others that stay: results that were no results, and ids without a mate
KILLS = 2
REPLAY = ("replay", "--reason", "process_failed")


class Replays:
    """So many replays at once, and the results that they have brought."""

    def __init__(self, commands: Commands, outputs: Outputs, oracle: Oracle, at_once: int) -> None:
        self._commands = commands
        self._outputs = outputs
        self._oracle = oracle
        self.running = [self._start() for _ in range(at_once)]

    def _start(self) -> "Popen[str]":
        return self._commands.start(*REPLAY)

    @property
    def results(self) -> int:
        return sum(self._oracle.results.values())

    def kill_one(self, results: int, chance: random.Random) -> None:
        """When so many results are there; another one takes its place."""
        began = time.monotonic()

        def there() -> bool:
            self._outputs.read()
            for ended in [each for each in self.running if each.poll() is not None]:  # it had its share only
                self.running.remove(ended)
                self._ended(ended)
                self.running.append(self._start())
            return self.results >= results

        eventually(there, f"{results} results", LONG, pause=0)
        killed = self.running.pop(chance.randrange(len(self.running)))
        killed.kill()
        killed.communicate()
        self._outputs.read_to_the_end()
        say(f"{self.results} results after {time.monotonic() - began:.1f} s more: one is killed")
        self.running.append(self._start())

    def finish(self) -> None:
        for each in self.running:
            self._ended(each)

    def _ended(self, process: "Popen[str]") -> None:
        say(
            "one has ended: "
            + ", ".join(" ".join(line.split()) for line in self._commands.ends(process, LONG).splitlines())
        )


def run(broker: KafkaBroker, directory: Path, options: argparse.Namespace) -> int:
    a, b, out = (unique_name(f"replay-{each}") for each in ("a", "b", "out"))
    for topic in (a, b, out):
        broker.create_topic(topic, PARTITIONS)
    environment = {"DELIVERY": options.delivery, "MESSAGE_TIMEOUT": "5", "PROCESS_ODD": "1", "RETRY_BACKOFF": "0.05"}
    job = Job(broker, unique_name("replay"), [a, b], [out], directory, process=MENDED, environment=environment)
    oracle = Oracle(job.topics_input)
    outputs, chance = Outputs(job, oracle), random.Random(options.seed)
    with job:
        chosen = [f"reject-{number}" for number in range(options.letters)]
        wrong = [f"wrong-{number}" for number in range(options.letters // OTHERS)]
        alone = [f"alone-{number}" for number in range(options.letters // OTHERS)]
        mixed = [*chosen, *wrong]
        chance.shuffle(mixed)
        feed(broker, oracle, mixed)
        feed(broker, oracle, alone, [a])
        worker = job.start()
        eventually(lambda: job.lag() == 0, f"all are dead letters\n{worker.tail()}", LONG, pause=0.5)
        assert worker.stop() == 0
    commands = Commands(job, directory, PROCESS_SECONDS=str(options.process_seconds))
    say(f"{len(chosen)} of {len(mixed) + len(alone)} dead letters are chosen, {options.at_once} replays at once")
    began = time.monotonic()
    replays = Replays(commands, outputs, oracle, options.at_once)
    for kill in range(1, KILLS + 1):
        replays.kill_one(len(chosen) * kill // (KILLS + 1), chance)
    replays.finish()
    seconds = time.monotonic() - began
    outputs.read_to_the_end()
    found = Counter(oracle.results)
    stayed = commands.run("list")
    commands.run("replay", "--all")
    outputs.read_to_the_end()
    all_found = Counter(oracle.results)
    stay_still = commands.run("list")
    outputs.close()
    lost = sum(id not in found for id in chosen)
    twice = sum(number > 1 for number in all_found.values())
    not_asked = len(found.keys() - set(chosen))
    others_lost = len(set(wrong) - all_found.keys())
    print(
        f"{options.delivery}, {options.at_once} at once, {KILLS} kills, {seconds:.0f} s: {len(chosen)} chosen, "
        f"{lost} lost, {twice} twice, {not_asked} not asked for; {in_all(stayed)} of {len(wrong) + len(alone)} others "
        f"stayed, of which --all then replayed {len(wrong) - others_lost} of {len(wrong)} and left {in_all(stay_still)}"
    )
    stays = in_all(stayed) == len(wrong) + len(alone) and in_all(stay_still) == len(alone)
    once = options.delivery == "exactly_once"
    return int(bool(lost or not_asked or others_lost or not stays or oracle.judge().half or (once and twice)))


def in_all(listed: str) -> int:
    found = re.search(r"^ *(\d+)  in all$", listed, re.MULTILINE)
    assert found, listed
    return int(found[1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scale.replay", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--bootstrap", default="", help="host:port of a real Kafka; without it one is started")
    parser.add_argument("--letters", type=int, default=10_000, help="dead letters that are chosen")
    parser.add_argument("--at-once", type=int, default=1, help="replays that run at the same time")
    parser.add_argument("--process-seconds", type=float, default=0.001, help="that each call of process() takes")
    parser.add_argument("--delivery", choices=["at_least_once", "exactly_once"], default="exactly_once")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with a_broker(options.bootstrap) as broker, tempfile.TemporaryDirectory(prefix="replay-") as directory:
        return run(broker, Path(directory), options)


if __name__ == "__main__":
    sys.exit(main())
