"""Looking at the row again: what ends the worker, what is only said, and how the new configuration takes its place."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from config import ConfigError, Settings, UnavailableError
from models import Row
from utils.metrics import Counters
from utils.monitoring.status import Health
from utils.running.refresh import UNREAD, WITHDRAWN, WITHDRAWN_AT_MOST, Config, Refresh, changed

EVERY = 30.0
SETTINGS = Settings.read({"CONSUMER_NAME": "orders", "DATABASE_URL": "sqlite:///file", "CONFIG_REFRESH": str(EVERY)})
ROW = Row.validated("orders", "a,b", "out", "h:9092")
CONFIG = Config(SETTINGS, ROW)
OTHER = replace(CONFIG, row=Row.validated("orders", "a,b,c", "out", "h:9092"))


class Bench(Refresh):
    """A refresh whose row is in `found`: a configuration, or the error that reading it raises."""

    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.now = 0.0
        self.found: Config | Exception = CONFIG
        self.reads = 0
        self.counters, self.health = Counters(), Health()
        super().__init__(replace(CONFIG, settings=settings), self.read, self.counters, self.health, lambda: self.now)
        self.ending = threading.Event()
        self.begin(self.ending)

    def read(self, _current: Config) -> Config:
        self.reads += 1
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def finds(self, found: Config | Exception) -> None:
        self.found = found
        self.look()


@pytest.fixture
def bench() -> Bench:
    return Bench()


def paused(config: Config = CONFIG) -> Config:
    row = replace(config.row, metadatas='{"paused": true}')
    return replace(config, row=row, settings=config.settings.overlaid(row.metadatas))


def test_a_pause_is_in_force_without_another_worker(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "consumer")
    states = []
    for config in (paused(), CONFIG):
        bench.finds(config)
        states.append(bench.current.settings.paused)
    assert states == [True, False]
    assert not bench.ending.is_set()
    assert [record.message for record in caplog.records] == [
        "paused by the row: nothing more is taken in",
        "no longer paused by the row: the worker goes on",
    ]


def test_a_worker_that_begins_paused_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "consumer")
    Bench(paused().settings)
    assert [record.message for record in caplog.records] == ["paused by the row: nothing more is taken in"]


def test_a_pause_is_in_force_though_the_rest_of_the_row_is_refused(bench: Bench) -> None:
    no_good = replace(CONFIG, settings=replace(SETTINGS, paused=True), problems=("no such topic",))
    seen = []
    for found in (no_good, CONFIG):
        bench.finds(found)
        seen.append((bench.current.settings.paused, bench.health.refused, bench.current.problems))
    assert seen == [(True, ("no such topic",), ()), (False, (), ())]
    assert not bench.ending.is_set()


def test_a_pause_that_comes_with_another_change_is_one_of_the_next_worker(bench: Bench) -> None:
    bench.finds(paused(OTHER))
    assert bench.ending.is_set()
    assert bench.next()
    assert bench.current.settings.paused


# ---------------------------------------------------------------- files of TLS

CERTIFICATE = "ssl.certificate.location"
WITH_FILES = replace(CONFIG, files={CERTIFICATE: "old", "ssl.ca.location": ""})


def test_a_worker_starts_again_with_a_certificate_that_was_renewed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It was refused for ever, once the old one was over: the client reads files when it is made."""
    caplog.set_level(logging.INFO, "consumer")
    bench.current = WITH_FILES
    bench.finds(WITH_FILES)
    assert not bench.ending.is_set()
    bench.finds(replace(WITH_FILES, files={CERTIFICATE: "new", "ssl.ca.location": ""}))
    assert bench.ending.is_set()
    assert bench.next()
    assert bench.current.files[CERTIFICATE] == "new"
    [line] = caplog.records
    assert line.message == "files of TLS have changed: the worker starts again with them"
    assert vars(line)["changed"] == [CERTIFICATE]


def test_that_renewed_files_are_not_taken_yet_is_said_once_for_each_reason(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A new CA that is not rolled out everywhere pushed all other warnings out of the status page."""
    bench.current = WITH_FILES
    for why in ("no such CA", "no such CA", "not the key", "no such CA", "", "not the key"):
        bench.finds(replace(WITH_FILES, unfit_files=why))
    assert set(caplog.messages) == {"files of TLS have changed, and are not taken yet"}
    assert [vars(line)["error"] for line in caplog.records] == ["no such CA", "not the key", "not the key"]
    assert not bench.ending.is_set()


def test_other_files_of_a_changed_row_are_no_news_and_nor_are_those_that_are_away(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "consumer")
    bench.current = WITH_FILES
    bench.finds(replace(WITH_FILES, files={CERTIFICATE: ""}))
    assert not bench.ending.is_set()
    bench.finds(replace(OTHER, files={"ssl.key.location": "another"}))
    assert bench.ending.is_set()
    assert caplog.messages == ["the row has changed: the worker starts again with it"]


# ---------------------------------------------------------------- when it looks


def test_it_looks_when_the_time_has_come(bench: Bench) -> None:
    assert not bench.is_due()
    bench.now = EVERY
    assert bench.is_due()
    bench.look()
    assert not bench.is_due()
    bench.now = 2 * EVERY
    assert bench.is_due()


def test_after_a_look_that_failed_it_looks_again_within_a_minute() -> None:
    """With 3,600 s a database that was away for a second fired an alert: for an hour the row counted as unread."""
    bench = Bench(replace(SETTINGS, config_refresh=3600.0))
    bench.finds(UnavailableError("no database"))
    assert not bench.is_due()
    bench.now = UNREAD
    assert bench.is_due()
    bench.finds(bench.current)
    assert not bench.health.unread
    bench.now += UNREAD
    assert not bench.is_due()


def test_it_looks_after_a_rebalance_for_others_may_have_a_changed_row(bench: Bench) -> None:
    bench.counters.rebalances += 1
    assert bench.is_due()
    bench.look()
    assert not bench.is_due()


def test_with_0_it_never_looks_by_itself() -> None:
    bench = Bench(replace(SETTINGS, config_refresh=0.0))
    bench.counters.rebalances += 1
    bench.now = 1e6
    assert not bench.is_due()


def test_a_worker_that_must_have_the_row_is_answered_also_with_0() -> None:
    bench = Bench(replace(SETTINGS, config_refresh=0.0))
    waiting = threading.Thread(target=bench.reread, args=(threading.Event(),))
    waiting.start()
    while not bench.is_due():
        pass
    bench.look()
    waiting.join(60)
    assert not waiting.is_alive()


def test_such_a_worker_waits_for_the_database(bench: Bench) -> None:
    waiting = threading.Thread(target=bench.reread, args=(threading.Event(),))
    waiting.start()
    while not bench.is_due():
        pass
    bench.finds(UnavailableError("no database"))
    assert waiting.is_alive()
    assert not bench.is_due()
    bench.now += 1
    assert bench.is_due()
    bench.finds(CONFIG)
    waiting.join(60)
    assert not waiting.is_alive()


def test_such_a_worker_waits_no_longer_than_the_process_runs(bench: Bench) -> None:
    stopping = threading.Event()
    stopping.set()
    bench.reread(stopping)


@contextmanager
def asking(bench: Bench, seen: int) -> Iterator[threading.Thread]:
    """A worker that has seen such an edition in a commit, and waits for a look."""
    waiting = threading.Thread(target=bench.reread, args=(threading.Event(), seen))
    waiting.start()
    while not bench.is_due():
        pass
    yield waiting
    waiting.join(60)
    assert not waiting.is_alive()


def test_what_the_row_says_after_a_commit_was_seen_is_newer_than_that(bench: Bench) -> None:
    with asking(bench, seen=41):
        bench.look()
    assert bench.edition.number == 42
    with asking(bench, seen=7):
        bench.look()
    assert bench.edition.number == 42


def test_a_look_that_had_begun_before_is_no_answer(bench: Bench) -> None:
    read, begun, goes_on = bench.read, threading.Event(), threading.Event()

    def slow(current: Config) -> Config:
        begun.set()
        goes_on.wait(60)
        return read(current)

    bench._read = slow
    before = threading.Thread(target=bench.look)
    before.start()
    begun.wait(60)
    with asking(bench, seen=41) as waiting:
        goes_on.set()
        before.join(60)
        assert waiting.is_alive()
        assert bench.edition.number == 1
        bench.look()
    assert bench.edition.number == 42


def test_a_row_that_no_worker_can_work_by_does_not_make_the_old_one_newer(bench: Bench) -> None:
    with asking(bench, seen=41):
        bench.finds(ConfigError(["no such topic"]))
    assert bench.edition.number == 1


def test_other_topics_are_another_edition_and_what_else_changes_is_not(bench: Bench) -> None:
    bench.finds(replace(CONFIG, row=replace(ROW, topics_output=())))
    bench.next()
    assert bench.edition.number == 1
    bench.finds(OTHER)
    bench.next()
    assert bench.edition.number == 2


# ---------------------------------------------------------------- what it finds


def test_the_same_row_changes_nothing(bench: Bench) -> None:
    bench.finds(CONFIG)
    assert not bench.ending.is_set()
    assert not bench.next()


def test_another_row_ends_the_worker_and_is_the_next_ones(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "consumer")
    bench.finds(OTHER)
    assert bench.ending.is_set()
    assert bench.current.row == ROW, "as long as the old one runs"
    assert bench.next()
    assert bench.begin(threading.Event()) == OTHER
    assert bench.counters.reloads == 1
    [line] = caplog.records
    assert vars(line)["changed"] == {"topics_input": ["a,b", "a,b,c"]}


def test_it_does_not_look_while_a_change_is_being_applied(bench: Bench) -> None:
    bench.finds(OTHER)
    bench.now = 10 * EVERY
    assert not bench.is_due()
    bench.next()
    assert bench.is_due()


def test_a_change_that_came_between_two_workers_ends_the_second_at_once(bench: Bench) -> None:
    bench.finds(OTHER)
    ending = threading.Event()
    bench.begin(ending)
    assert ending.is_set()


def test_what_the_worker_does_not_use_is_no_change(bench: Bench) -> None:
    notes = replace(CONFIG, row=replace(ROW, metadatas='{"owner": "me"}'))
    bench.finds(notes)
    assert not bench.ending.is_set()
    assert bench.current == notes


def test_settings_of_the_row_are_a_change_and_secrets_are_not_shown() -> None:
    settings = SETTINGS.overlaid('{"message_timeout": 5, "kafka": {"sasl.password": "old", "linger.ms": 1}}')
    other = SETTINGS.overlaid('{"message_timeout": 7, "kafka": {"sasl.password": "new"}}')
    assert changed(replace(CONFIG, settings=settings), replace(CONFIG, settings=other)) == {
        "MESSAGE_TIMEOUT": ["5.0", "7.0"],
        "sasl.password": ["***", "***"],
        "linger.ms": ["1", ""],
    }


def test_what_the_worker_does_not_take_of_a_changed_row_is_said_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    said = ("metadatas.mesage_timeout: did you mean message_timeout?", "metadatas is taken for a note")
    for warnings in (said[:1], said[:1], said[1:]):
        row = replace(ROW, metadatas=str(warnings))
        bench.finds(replace(CONFIG, settings=replace(SETTINGS, warnings=warnings), row=row))
    assert [line.getMessage() for line in caplog.records] == [f"the worker runs, but: {each}" for each in said]
    assert not bench.ending.is_set()


def test_what_a_row_lacks_that_is_withdrawn_is_not_said_at_each_look(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Each look tries it, and all that it lacks was said every CONFIG_REFRESH for an hour."""
    lacks = replace(OTHER, lacking=("topic maps must be compacted",))
    for _ in range(2):
        bench.finds(lacks)
        bench.next()
        assert bench.withdraw(ConfigError(["grant the right"]))
        bench.begin(threading.Event())
        for _ in range(3):
            bench.finds(lacks)
        bench.now += WITHDRAWN_AT_MOST
    said = [line.getMessage() for line in caplog.records if "the worker runs, but" in line.getMessage()]
    assert said == ["the worker runs, but: topic maps must be compacted"] * 2, "once each time that it is taken"


def test_a_bad_row_is_said_once_counted_and_shown_as_long_as_it_is_there(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.finds(ConfigError(["topic x does not exist"]))
    bench.look()
    assert not bench.ending.is_set()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert list(bench.health.refused) == ["topic x does not exist"]
    assert bench.counters.refused_rows == 1
    bench.finds(ConfigError(["something else"]))
    assert bench.counters.refused_rows == 2
    caplog.set_level(logging.INFO, "consumer")
    caplog.clear()
    for _ in range(2):
        bench.finds(CONFIG)
    assert [record.getMessage() for record in caplog.records] == ["the row is good again"]
    assert not bench.health.refused
    assert not bench.ending.is_set()


def test_a_row_of_several_brokers_that_are_away_is_not_said_again_for_each_that_was_asked_first(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It was at every look: an ERROR of each worker every 30 s, as long as the brokers were away."""
    for _ in range(2):
        for asked_first in "abcab":
            bench.finds(ConfigError([f"Kafka at a,b,c cannot be reached ({asked_first}: Connection refused)"]))
            assert bench.health.refused
        assert len(caplog.records) == bench.counters.refused_rows == 3
    bench.finds(CONFIG)
    bench.finds(ConfigError(["Kafka at a,b,c cannot be reached (a: Connection refused)"]))
    assert bench.counters.refused_rows == 4


def test_a_bad_row_that_is_mended_is_applied(bench: Bench) -> None:
    bench.finds(ConfigError(["topic c does not exist"]))
    bench.finds(OTHER)
    assert bench.ending.is_set()
    assert not bench.health.refused


def test_a_database_that_is_away_is_said_once_and_counted_each_time(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "consumer")
    for _ in range(3):
        bench.finds(UnavailableError("no database"))
    assert bench.counters.failed_row_reads == 3
    unread = [bench.health.unread]
    assert not bench.ending.is_set()
    assert not bench.health.refused
    bench.finds(CONFIG)
    assert [*unread, bench.health.unread] == [True, False]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_an_unknown_error_does_not_end_the_looking(bench: Bench) -> None:
    bench.finds(ZeroDivisionError())
    assert bench.counters.failed_row_reads == 1
    bench.finds(OTHER)
    assert bench.ending.is_set()


# ---------------------------------------------------------------- back to the one before


def test_a_row_by_which_no_worker_can_begin_gives_way_to_the_one_before(bench: Bench) -> None:
    bench.finds(OTHER)
    bench.next()
    assert bench.withdraw(ConfigError(["refused by the client"]))
    assert bench.current.row == ROW
    [problem] = bench.health.refused
    assert problem == "no worker could begin by it, in 3600 s it is tried again: refused by the client"
    ending = threading.Event()
    bench.begin(ending)
    bench.now += WITHDRAWN_AT_MOST - 1
    bench.look()
    assert not ending.is_set(), "it is not tried again and again"
    bench.finds(replace(OTHER, row=replace(OTHER.row, topics_output=())))
    assert ending.is_set(), "another one is"


def test_a_pause_is_obeyed_also_while_the_row_is_one_by_which_no_worker_can_begin(bench: Bench) -> None:
    """The worker began by that row once more, went back to the one before, and worked on for up to an hour."""
    bench.finds(OTHER)
    bench.next()
    assert bench.withdraw(ConfigError(["grant the right"]))
    bench.begin(ending := threading.Event())
    for config, is_paused in ((paused(OTHER), True), (OTHER, False)):
        bench.finds(config)
        assert (bench.current.row, bench.current.settings.paused) == (ROW, is_paused)
        assert not ending.is_set(), "a pause makes no other row of it"


def test_a_row_that_was_to_blame_is_tried_again_for_a_right_may_have_been_granted(bench: Bench) -> None:
    bench.finds(OTHER)
    for _ in range(2):
        bench.next()
        assert bench.withdraw(ConfigError(["grant the right"]))
        bench.begin(ending := threading.Event())
        bench.now += WITHDRAWN_AT_MOST
        bench.look()
        assert ending.is_set()


def test_after_two_such_rows_the_one_by_which_a_worker_has_worked_is_in_force_again(bench: Bench) -> None:
    bench.counters.commits = 1
    bench.finds(OTHER)
    bench.next()
    bench.finds(replace(OTHER, row=replace(OTHER.row, topics_output=())))
    bench.next()
    assert bench.withdraw(ConfigError(["refused by the client"]))
    assert bench.current.row == ROW
    assert not bench.withdraw(ConfigError(["refused by the client"])), "there is none before it"


@pytest.mark.parametrize("pauses", [True, False])
def test_a_pause_of_the_row_that_is_withdrawn_holds_at_once(bench: Bench, pauses: bool) -> None:
    """Who paused in the edit of the topics saw the worker read on until the next look, which may be long after."""
    former, found = (CONFIG, paused(OTHER)) if pauses else (paused(), OTHER)
    bench.finds(former)
    bench.counters.commits += 1
    bench.finds(found)
    assert bench.next()
    assert bench.withdraw(ConfigError(["grant the right"]))
    assert (bench.current.row.topics_input, bench.current.settings.paused) == (ROW.topics_input, pauses)


def test_a_row_that_was_withdrawn_is_tried_once_more_where_others_have_committed_by_it(bench: Bench) -> None:
    """By the old one this worker would find itself outdated again and again, and each time the group rebalances."""
    bench.finds(OTHER)
    bench.next()
    assert bench.withdraw(ConfigError(["a right was missing"]))
    ending = threading.Event()
    bench.begin(ending)
    with asking(bench, seen=2):
        bench.look()
    assert ending.is_set()
    assert bench.next()
    assert bench.current == OTHER
    assert not bench.withdraw(ConfigError(["it is still missing"])), "there is no row left to work by: the process ends"


def test_a_row_by_which_no_worker_can_begin_while_kafka_fails_is_tried_again_and_later_each_time(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.finds(OTHER)
    for pause in (WITHDRAWN, 2 * WITHDRAWN):
        bench.next()
        assert bench.withdraw(OSError("no answer"))
        assert bench.current.row == ROW
        [problem] = bench.health.refused
        assert problem == f"no worker could begin by it, in {pause:.0f} s it is tried again: no answer"
        ending = threading.Event()
        bench.begin(ending)
        bench.now += pause - 1
        bench.look()
        assert not ending.is_set()
        caplog.set_level(logging.INFO, "consumer")
        caplog.clear()
        bench.now += 1
        bench.look()
        assert ending.is_set()
        assert not bench.health.refused
        assert caplog.messages == ["the row is tried again", "the row has changed: the worker starts again with it"]
    bench.next()
    bench.begin(ending := threading.Event())
    bench.counters.commits += 1
    bench.look()
    assert (bench.current, ending.is_set()) == (OTHER, False)


def test_a_row_that_was_withdrawn_stays_so_while_it_cannot_even_be_tried(bench: Bench) -> None:
    bench.finds(OTHER)
    bench.next()
    assert bench.withdraw(ConfigError(["refused by the client"]))
    bench.begin(ending := threading.Event())
    bench.finds(replace(CONFIG, problems=("a broker does not answer",)))
    bench.finds(OTHER)
    assert not ending.is_set()


def test_there_is_no_way_back_once_it_has_worked(bench: Bench) -> None:
    bench.finds(OTHER)
    bench.next()
    bench.counters.commits += 1
    assert not bench.withdraw(OSError("too late"))
    assert bench.current == OTHER


def test_there_is_none_at_the_first_start(bench: Bench) -> None:
    assert not bench.withdraw(ConfigError(["no good"]))


def test_it_notes_when_the_input_topics_became_others(bench: Bench) -> None:
    bench.now = 100
    bench.finds(replace(CONFIG, row=replace(ROW, topics_output=())))
    bench.next()
    assert bench.topics_changed_at < 0
    bench.finds(OTHER)
    bench.next()
    assert bench.topics_changed_at == 100
    bench.now = 200
    bench.withdraw(ConfigError(["no good"]))
    assert bench.topics_changed_at == 200
