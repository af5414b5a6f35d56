"""`python main.py demo`: the worker on sample messages."""

import argparse
import threading
from pathlib import Path

from config import ConfigError, Settings
from models import Row
from utils.commands.command import Commands, Environ, add_command
from utils.logger import logger
from utils.processing import user_code
from utils.running.lifetime import stop_on_signals
from utils.running.refresh import Config, Refresh
from utils.running.steps import answer_http
from utils.running.supervision import work


def add(commands: Commands) -> None:
    parser = add_command(commands, "demo", demo, "see the worker at work, without Kafka and without a database server")
    parser.add_argument("--results", type=int, metavar="N", help="end after N results; without it, at Ctrl-C")
    parser.add_argument("--worker", metavar="FILE", type=Path, help="in place of worker.py, one of examples/, say")


def demo(arguments: argparse.Namespace, _environ: Environ) -> int:
    """See the worker at work on sample messages: Kafka's client brings a broker along, the database is SQLite."""
    try:
        from examples.demo import demo as show  # here, because nothing else of a worker needs it
    except ModuleNotFoundError as error:  # a copy may have deleted it
        raise ConfigError([f"the demo is in examples/, which is not all here: {error}"]) from error
    user_code.before_worker()
    if arguments.worker:
        user_code.use(arguments.worker)

    def work_watched(settings: Settings, row: Row, stopping: threading.Event) -> int:
        watch, address = answer_http(settings)
        logger.info("status page", extra={"url": address})
        refresh = Refresh(Config(settings, row), lambda current: current, watch.counters, watch.health)
        return work(refresh, stopping, watch)

    return show(arguments.results, str(arguments.worker or "worker.py"), work_watched, stop_on_signals())
