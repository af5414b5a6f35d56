"""What Kafka's clients say by themselves: which of it is news, and how it comes into our log."""

import logging
import time

from confluent_kafka import KafkaError

from utils.errors import guarded
from utils.kafka.client_errors import explain, without_login
from utils.logger import client_logger, logger

QUIET = 10.0  # seconds until the same kind of trouble with a broker is logged again
_said: dict[str, float] = {}  # when each error was told last
_lines: dict[str, float] = {}  # and each line of a client's own
_MOST_LINES = 1_000  # that are remembered


def log_error(error: KafkaError) -> None:
    """The clients' `error_cb`: tells what is wrong and what to do. They mend by themselves what heals."""
    heals, line = explain(error)
    if _was_said(error.name(), _said):  # while a broker is away each client reports it many times a second
        return
    logger.log(logging.WARNING if heals else logging.ERROR, line, extra={"kafka_error": error.name()})


def log_failure(error: Exception) -> None:
    logger.error("a callback of Kafka's client failed", exc_info=error)


unheard = guarded(lambda *_: None, log_failure)
"""A callback for what nobody wants to know."""


class ClientLog:
    """All that a client asks of a logger: to be its callback, too. Logins in addresses are hidden."""

    def __init__(self, to: logging.Logger) -> None:
        self._to = to
        self.log = guarded(self._log, lambda _error: None)

    def _log(self, level: int, line: str, *arguments: object) -> None:
        self._to.log(level, line, *(without_login(each) if isinstance(each, str) else each for each in arguments))


def to_log() -> ClientLog:
    """Of a client whose lines go into our log, those that are news."""
    client_logger.addFilter(_is_news)
    return ClientLog(client_logger)


def silent() -> ClientLog:
    """Of a client that is made for a look, or to be refused: its lines go nowhere."""
    return ClientLog(logging.Logger("silent", logging.CRITICAL + 1))


def _is_news(record: logging.LogRecord) -> bool:
    """Not what is said elsewhere, or meant so.

    The client logs each failed connection twice, as a line and to `error_cb`, which says it with its cure. And our
    properties go to both clients: each warns of those that are the other one's. Some trouble it tells many times a
    second, of each broker for which it gets no thread, for example: the same line again is none for QUIET seconds.
    """
    text = record.getMessage()
    failed_connection = record.levelno >= logging.WARNING and text.startswith("FAIL ")
    if failed_connection or "property and will be ignored by this" in text:
        return False
    return record.levelno < logging.WARNING or not _was_said(text, _lines)


def _was_said(text: str, said: dict[str, float]) -> bool:
    """Whether it was within the last QUIET seconds; from now on it was."""
    now = time.monotonic()
    if now - said.get(text, -QUIET) < QUIET:
        return True
    if len(said) >= _MOST_LINES:
        said.clear()
    said[text] = now
    return False
