"""What a worker that fails is followed by, and how a process ends."""

import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException

import framework
from config import ConfigError, Settings, UnavailableError
from tests.running.test_refresh import CONFIG, SETTINGS
from utils.joining.layout import Layout
from utils.joining.offsets import OffsetMap, PartitionOffsets
from utils.joining.states import States
from utils.joining.suspicion import CrashRecord
from utils.metrics import Counters
from utils.monitoring.view import View
from utils.monitoring.watch import Watch
from utils.processing.done import ThreadDied
from utils.reading.locator import AssignmentOutdated, NeverJoins, RowOutdated
from utils.running.lifetime import Stopped
from utils.running.refresh import Refresh
from utils.running.supervision import LASTING, RESTARTS, Remedies, supervise, work
from utils.sending.outbox import DeliveryFailed, RecordRefused


class FailingWorker:
    """Fails so often, one way or the other, then is asked to stop."""

    def __init__(self, stopping: threading.Event, *failures: Exception) -> None:
        self.stopping = stopping
        self.failures = list(failures)
        self.runs = 0
        self.intake = SimpleNamespace(owned=SimpleNamespace(former={}, has_progressed=False))
        self.myself: object = None

    def run(self) -> None:
        self.runs += 1
        if self.failures:
            raise self.failures.pop(0)
        self.stopping.set()


def supervised(monkeypatch: pytest.MonkeyPatch, *failures: Exception) -> int:
    """How often a worker ran that fails so."""
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    stopping = threading.Event()
    worker = FailingWorker(stopping, *failures)
    supervise(lambda _clients: cast(framework.Worker, worker), Counters(), stopping)
    return worker.runs


def test_a_worker_that_fails_is_followed_by_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert supervised(monkeypatch, OSError(), ConfigError(["a member that was killed has partitions"])) == 3


def test_a_thread_of_process_that_has_died_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ThreadDied):
        supervised(monkeypatch, ThreadDied(), OSError())


def test_the_process_gives_up_after_a_few_failures_in_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert supervised(monkeypatch, *[OSError()] * RESTARTS) == RESTARTS + 1
    with pytest.raises(ConfigError):
        supervised(monkeypatch, *[ConfigError(["unequal"])] * (RESTARTS + 1))


FORBIDDEN = KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))


def test_a_right_that_is_missing_for_a_moment_ends_no_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who replaced an ACL, with no right for 0.2 s, ended all workers with 78: systemd never started them again."""
    assert supervised(monkeypatch, *[FORBIDDEN] * RESTARTS) == RESTARTS + 1
    (told, *_) = {vars(each)["error"] for each in caplog.records}
    assert told.startswith("Kafka forbids it: grant the right; main.py check names it")
    assert "Traceback" not in caplog.text
    with pytest.raises(ConfigError, match="Kafka forbids it: grant the right"):
        supervised(monkeypatch, *[FORBIDDEN] * (RESTARTS + 1))


def test_beside_a_right_that_is_missing_progress_does_not_begin_the_count_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is filtered, or sent to another topic, would be so for ever, with the same results each time."""
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    stopping = threading.Event()
    worker = FailingWorker(stopping, *[FORBIDDEN] * 100)
    worker.intake.owned.has_progressed = True
    with pytest.raises(ConfigError):
        supervise(lambda _clients: cast(framework.Worker, worker), Counters(), stopping)
    assert worker.runs == RESTARTS + 1


def test_a_worker_with_an_outdated_row_waits_for_it_and_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    times = 2 * RESTARTS
    stopping, counters, reread = threading.Event(), Counters(), list[tuple[threading.Event, int]]()
    worker = FailingWorker(stopping, *[RowOutdated(7)] * times)
    supervise(
        lambda _clients: cast(framework.Worker, worker),
        counters,
        stopping,
        Remedies(lambda *asked: reread.append(asked)),
    )
    assert (worker.runs, counters.restarts, reread) == (times + 1, 0, [(stopping, 7)] * times)


FENCED = KafkaException(KafkaError(KafkaError.FENCED_INSTANCE_ID))


def test_a_worker_whose_place_is_free_again_has_not_failed() -> None:
    times = 2 * RESTARTS
    stopping, counters, asked = threading.Event(), Counters(), list[threading.Event]()
    worker = FailingWorker(stopping, *[FENCED] * times)

    def gets_place_back(worker_stop: threading.Event) -> bool:
        asked.append(worker_stop)
        return True

    remedies = Remedies(gets_place_back=gets_place_back)
    supervise(lambda _clients: cast(framework.Worker, worker), counters, stopping, remedies)
    assert (worker.runs, counters.restarts, asked) == (times + 1, times, [stopping] * times)


@pytest.mark.parametrize(
    ("code", "times"),
    [
        (KafkaError._UNKNOWN_TOPIC, 1),
        (KafkaError._UNKNOWN_PARTITION, 1),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, 1),
        (KafkaError._MSG_TIMED_OUT, 0),
    ],
)
def test_a_worker_whose_topic_was_deleted_makes_it_again_before_the_next_one_begins(
    code: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a new process did: results came up to six times until then, or not at all."""
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    stopping, made = threading.Event(), list[tuple[int, threading.Event]]()
    failed = DeliveryFailed("of a dead letter")
    failed.__cause__ = KafkaException(KafkaError(code))
    worker = FailingWorker(stopping, failed)
    remedies = Remedies(provides_topics=lambda worker_stop: made.append((worker.runs, worker_stop)))
    supervise(lambda _clients: cast(framework.Worker, worker), Counters(), stopping, remedies)
    assert (worker.runs, made) == (2, [(1, stopping)] * times)


def test_a_worker_whose_place_is_anothers_ends_with_what_must_be_done() -> None:
    stopping = threading.Event()
    worker = FailingWorker(stopping, FENCED)
    with pytest.raises(ConfigError, match="GROUP_INSTANCE_ID"):
        supervise(lambda _clients: cast(framework.Worker, worker), Counters(), stopping)
    assert worker.runs == 1


def test_a_worker_that_has_left_the_group_to_join_it_anew_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert supervised(monkeypatch, *[AssignmentOutdated(), NeverJoins()] * RESTARTS) == 2 * RESTARTS + 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KafkaException(KafkaError(KafkaError._TIMED_OUT)), {("a", 0): (1, None)}),
        (RecordRefused("too large"), {("a", 0): (1, None)}),
        (NeverJoins("a broker was frozen"), {("a", 0): (1, None)}),
        (KafkaException(KafkaError(KafkaError.INVALID_RECORD)), {}),
        (OSError(), {("a", 0): (1, None)}),
        (ValueError("the loop did not expect this"), {("a", 0): (1, None)}),
    ],
)
def test_how_partitions_stood_survives_a_failure_that_no_message_is_to_blame_for(
    error: Exception, told: dict[tuple[str, int], tuple[int, int | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    stopping, survived = threading.Event(), dict[tuple[str, int], CrashRecord]()
    worker = FailingWorker(stopping, error)
    worker.intake.owned.former = {("a", 0): PartitionOffsets("a", 0, Layout("id"), 0)}
    supervise(lambda _clients: cast(framework.Worker, worker), Counters(), stopping, survived=survived)
    assert survived == told


def test_a_commit_alone_is_no_progress_and_a_finished_record_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    stopping, counters = threading.Event(), Counters()

    class CommittingWorker(FailingWorker):
        def run(self) -> None:
            counters.commits += 1
            self.intake.owned.has_progressed = self.runs in {2, 5}
            super().run()

    worker = CommittingWorker(stopping, *[ArithmeticError()] * 100)
    with pytest.raises(ArithmeticError):
        supervise(lambda _clients: cast(framework.Worker, worker), counters, stopping)
    assert worker.runs == 5 + RESTARTS + 1, "after the last progress, which counts as the first failure anew"


def test_a_worker_that_ran_for_long_has_not_failed_in_a_row_though_nothing_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    now, stopping = [0.0], threading.Event()

    class IdleWorker(FailingWorker):
        def run(self) -> None:
            now[0] += LASTING
            super().run()

    worker = IdleWorker(stopping, *[OSError()] * 3 * RESTARTS)
    supervise(lambda _clients: cast(framework.Worker, worker), Counters(), stopping, clock=lambda: now[0])
    assert worker.runs == 3 * RESTARTS + 1


def test_the_clients_of_a_worker_are_closed_before_the_next_one_is_built_also_where_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    stopping, story = threading.Event(), list[str]()
    worker = FailingWorker(stopping, OSError(), RowOutdated(), RecordRefused("too large"))

    def build(clients: ExitStack) -> framework.Worker:
        story.append("built")
        clients.callback(story.append, "closed")
        if worker.runs == 3:
            raise ConfigError(["no such property"])
        return cast(framework.Worker, worker)

    with pytest.raises(ConfigError):
        supervise(build, Counters(), stopping)
    assert story == ["built", "closed"] * 4


def test_a_client_that_cannot_be_closed_changes_nothing_and_a_failure_of_building_is_one_of_the_worker(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    stopping, story = threading.Event(), list[str]()
    worker = FailingWorker(stopping, OSError("no broker"))

    def cannot_close() -> None:
        raise RuntimeError("cannot be closed")

    def build(clients: ExitStack) -> framework.Worker:
        clients.callback(story.append, "closed")
        clients.callback(cannot_close)
        if not story:
            raise OSError("no producer")
        return cast(framework.Worker, worker)

    counters = Counters()
    supervise(build, counters, stopping)
    assert (worker.runs, counters.restarts, story) == (2, 2, ["closed"] * 3)
    assert [each for each in ("no producer", "no broker", "cannot be closed") if each not in caplog.text] == []


def test_the_memory_of_a_worker_that_has_failed_is_free_though_the_log_remembers_why(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    stopping, built = threading.Event(), list["weakref.ref[FailingWorker]"]()

    def build(_clients: ExitStack) -> framework.Worker:
        assert [each for each in built if each()] == []
        worker = FailingWorker(stopping, *[OSError()] * (len(built) < 2))
        worker.myself = worker  # a ring, as of a worker and its callbacks
        built.append(weakref.ref(worker))
        return cast(framework.Worker, worker)

    supervise(build, Counters(), stopping)
    assert len(built) == 3
    assert "OSError" in caplog.text


def test_the_last_worker_before_the_process_gives_up_counts_no_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a few such processes, one after the other, would look as if a message had ended them."""
    monkeypatch.setattr("utils.running.supervision.sleep", lambda _seconds, _stopping: None)
    survived = dict[tuple[str, int], CrashRecord]()
    seen = []

    class SeeingWorker(FailingWorker):
        def run(self) -> None:
            seen.append(dict(survived))
            super().run()

    worker = SeeingWorker(threading.Event(), *[ArithmeticError()] * 100)
    loaded = OffsetMap("id", 0, 0, 0, States.of(bytes(1)), starts=2, trying=0)
    worker.intake.owned.former = {("a", 0): PartitionOffsets("a", 0, Layout("id"), 0, loaded)}
    with pytest.raises(ArithmeticError):
        supervise(lambda _clients: cast(framework.Worker, worker), Counters(), worker.stopping, survived=survived)
    told = {("a", 0): (3, 0)}
    assert seen == [{}, *[told] * (RESTARTS - 1), {("a", 0): (0, 0)}], "what was tried stays so"


def test_a_worker_that_cannot_be_built_is_not_built_again() -> None:
    def build(_clients: ExitStack) -> framework.Worker:
        raise ConfigError(["no such property"])

    with pytest.raises(ConfigError):
        supervise(build, Counters(), threading.Event())


# ---------------------------------------------------------------- the exit code of a worker that has run


class Works:
    """work() over workers that end as they are told: each turn is what `supervise` is while it lasts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *turns: Callable[["Works"], None]) -> None:
        self.turns = list(turns)
        self.stopping, self.watch = threading.Event(), Watch(SETTINGS)
        self.changed = replace(CONFIG, row=replace(CONFIG.row, topics_output=()))
        self.refresh = Refresh(CONFIG, lambda _current: self.changed, self.watch.counters, self.watch.health)
        self.calls = SimpleNamespace(
            fit=lambda _settings: True, close=lambda: True, dispatcher=SimpleNamespace(is_stuck=False)
        )
        monkeypatch.setattr("utils.running.supervision.opened_calls", self.opened)
        monkeypatch.setattr("utils.running.supervision.supervise", lambda *_: self.turns.pop(0)(self))

    def opened(self, *_: object, **_more: object) -> SimpleNamespace:
        if self.calls.dispatcher.is_stuck:  # by then `stopping` is set, which another thread does
            raise Stopped
        return self.calls

    def code(self) -> int:
        return work(self.refresh, self.stopping, self.watch)


def row_changes(works: Works) -> None:
    works.refresh.look()


def signal_comes(works: Works) -> None:
    works.stopping.set()


def row_is_bad(_works: Works) -> None:
    raise ConfigError(["refused by the broker"])


def fails(_works: Works) -> None:
    raise KafkaException(KafkaError(KafkaError._AUTO_OFFSET_RESET))


def hangs(works: Works) -> None:
    works.calls.dispatcher.is_stuck = True
    works.stopping.set()


class Ring:
    """Only the collector of garbage finds it."""

    def __init__(self) -> None:
        self.ring = self


def test_a_worker_is_not_kept_where_the_row_has_changed_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each such change kept one for good: it was still looked at when what had been set up was frozen."""
    kept = list[weakref.ref[Ring]]()

    def leaves_a_ring(works: Works) -> None:
        ring = Ring()
        kept.append(weakref.ref(ring))
        works.watch.health.view = cast(View, ring)
        row_changes(works)

    def follows(works: Works) -> None:
        gc.collect()
        left.extend(ring() for ring in kept[:-1])  # but for those that are in use
        signal_comes(works)

    left = list[Ring | None]()
    works = Works(monkeypatch, leaves_a_ring, follows)
    works.calls.fit = lambda _settings: False

    def opened(*_: object, **_more: object) -> SimpleNamespace:
        calls = SimpleNamespace(**vars(works.opened()), ring=Ring())
        kept.append(weakref.ref(calls.ring))
        gc.freeze()
        return calls

    monkeypatch.setattr("utils.running.supervision.opened_calls", opened)
    assert works.code() == 0
    assert not works.turns
    assert left == [None, None]


@pytest.mark.parametrize("failure", [row_is_bad, fails])
def test_after_a_row_by_which_no_worker_can_run_the_one_before_is_worked_by_until_a_signal(
    monkeypatch: pytest.MonkeyPatch, failure: Callable[[Works], None]
) -> None:
    works = Works(monkeypatch, row_changes, failure, signal_comes)
    assert works.code() == 0
    assert not works.turns
    assert works.refresh.current.row == CONFIG.row
    assert works.watch.health.refused


def test_a_row_that_wants_more_threads_than_there_are_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """All workers of the row ended at once, and each next start did."""
    works = Works(monkeypatch, row_changes, signal_comes)
    works.calls.fit = lambda settings: settings.concurrency == CONFIG.settings.concurrency
    works.changed = replace(works.changed, settings=replace(CONFIG.settings, concurrency=400))

    def opened(settings: Settings, *_: object, **_more: object) -> SimpleNamespace:
        if settings.concurrency == 400:
            raise UnavailableError("CONCURRENCY is 400, and only 193 threads could be started")
        return works.calls

    monkeypatch.setattr("utils.running.supervision.opened_calls", opened)
    assert works.code() == 0
    assert works.refresh.current.settings.concurrency == CONFIG.settings.concurrency
    assert "only 193 threads" in str(works.watch.health.refused)


def test_what_no_worker_survives_ends_the_process_with_another_code_than_0(monkeypatch: pytest.MonkeyPatch) -> None:
    for turns in ([row_is_bad], [row_changes, row_is_bad, row_is_bad]):
        with pytest.raises(ConfigError):
            Works(monkeypatch, *turns).code()
    with pytest.raises(KafkaException):
        Works(monkeypatch, row_changes, fails, fails).code()


def test_a_process_that_hangs_ends_with_1_also_when_the_row_changes_at_that_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Works(monkeypatch, hangs).code() == 1

    def hangs_as_the_row_changes(works: Works) -> None:
        row_changes(works)
        works.calls.dispatcher.is_stuck = True
        works.calls.fit = lambda _settings: False

    assert Works(monkeypatch, hangs_as_the_row_changes).code() == 1
