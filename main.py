"""The command line: which command runs, how it ends, and what `run` builds. `python main.py --help`."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (an older one may well run this file)
    print("the worker needs Python 3.11 or newer, and this is", sys.version.split()[0], file=sys.stderr)
    sys.exit(78)
if sys.flags.safe_path:  # PYTHONSAFEPATH: by itself Python looks for nothing beside this file
    sys.path.insert(0, __file__.rpartition("/")[0] or ".")

# isort: split
from utils.running import first_moment

if __name__ == "__main__":  # before all that takes time
    first_moment.begin()

# isort: split
from importlib.util import find_spec

if lacking := [name for name in ("confluent_kafka", "msgspec", "sqlalchemy") if not find_spec(name)]:
    print(
        f"{sys.executable} lacks {', '.join(lacking)}: `make setup`, then `source .venv/bin/activate`", file=sys.stderr
    )
    sys.exit(78)

# isort: split
import argparse
import os
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path

from sqlalchemy import Engine

from config import EX_CONFIG, ConfigError, Settings, UnavailableError
from models import Row, load, load_pause
from utils.commands.command import Environ, add_command, say
from utils.database_errors import DatabaseRefusedError
from utils.kafka import preflight, tls_files
from utils.logger import configure, configure_again, logger
from utils.monitoring.watch import Watch
from utils.running.calls import SetupFailed
from utils.running.lifetime import Stopped, end_at_last, leave, patiently, stop_on_signals
from utils.running.refresh import Config, Refresh, tell_warnings
from utils.running.steps import ROW_STEPS, STEPS, Seen, Start, answer_http, take
from utils.running.streams import printing
from utils.running.supervision import work
from utils.threads import Apart
from utils.version import frame_version

INTERRUPTED = Path(__file__).with_name("update-in-progress") / "finish.sh"  # while there, two versions are mixed
COMMANDS = ("check", "init", "dlq", "try_out", "trace", "fleet", "adopt", "demo")
"""Beside run, in the order in which the help lists them: files in utils/commands/. A worker imports none of them, for
together they take 2.5 MB (measured)."""

ABOUT = """\
The worker joins the messages of its input topics that share an id, hands each joined message to process() in
worker.py, and sends what that returns to its output topics. Topics and brokers are in its row of the database table
consumer_configs. Without a command it runs.
"""
EPILOG = """\
environment (all names: docs/settings.md; your defaults: defaults.py):
  CONSUMER_NAME       the consumer that this worker belongs to: its row, its consumer group in Kafka
  DB_DRIVER DB_HOST DB_PORT DB_NAME DB_USER DB_PASSWORD
  DATABASE_URL        instead of the six above; MySQL, MariaDB, PostgreSQL or SQLite
  DB_SSL_CA           TLS to the database: the file of who signed its certificate
  …_FILE              of a secret, such as DB_PASSWORD_FILE: the file that holds it
  KAFKA_<PROPERTY>    a property of Kafka's clients, such as KAFKA_SECURITY_PROTOCOL

exit codes:
  0 stopped in order    78 bad configuration    1 anything else

examples:
  python main.py demo --results 20
  python main.py init --topics-input orders,payments --topics-output paid --kafka-bootstrap-server host:9092
  python main.py check
  python main.py dlq replay --reason process_failed
  python main.py try --last 100
  python main.py trace 1001
  python main.py
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    configure("INFO")
    try:
        command = _command(sys.argv[1:] if argv is None else argv)
        first_moment.over()
        code = command()
        with printing():
            sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            logger.critical(problem)  # it ends the process: no LOG_LEVEL hides why
        return EX_CONFIG
    except UnavailableError as error:
        logger.error(error)
    except (KeyboardInterrupt, BrokenPipeError, SetupFailed):
        pass  # `main.py check | head`: there is nobody to print to; why setup() failed stands in the log
    except (Exception, SystemExit):  # sys.exit() in worker.py would look like a stop in order
        logger.exception("unexpected error")
    else:
        return code
    return 1


def _command(words: Sequence[str]) -> Callable[[], int]:
    """What the command line asks for."""
    if odd := [word for word in words if re.search("[\udc80-\udcff]", word)]:
        raise ConfigError([f"the argument {word!a} is no text in UTF-8" for word in odd])
    parser = _parser(only_run=not words or words[0] == "run")
    try:
        with redirect_stdout(StringIO()) as printed:
            arguments = parser.parse_args(words)
    except SystemExit as end:  # argparse has printed the help, or what is wrong with the command line
        code = EX_CONFIG if end.code else 0
        if told := printed.getvalue():
            say(told.rstrip("\n"))  # argparse would not tell that it cannot be written
        return lambda: code
    if INTERRUPTED.exists():
        logger.critical("an update of the frame was interrupted: sh update-in-progress/finish.sh ends it")
        return lambda: EX_CONFIG
    return partial(arguments.command, arguments, os.environ)


def _parser(*, only_run: bool = False) -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("main.py", description=ABOUT, epilog=EPILOG, formatter_class=plain)
    parser.add_argument("--version", action="version", version=f"frame {frame_version()}")
    parser.set_defaults(command=run)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    add_command(commands, "run", run, "join messages until SIGTERM or Ctrl-C (the default)")
    for name in () if only_run else COMMANDS:
        import_module(f"utils.commands.{name}").add(commands)
    return parser


def run(_arguments: argparse.Namespace, environ: Environ) -> int:
    """Join messages until SIGTERM, SIGHUP or Ctrl-C. Errors that can go away by themselves are waited out."""
    process_stop = stop_on_signals()
    watch: Watch

    def listen(settings: Settings) -> str:
        nonlocal watch
        watch, address = answer_http(settings)
        start.health = watch.health
        end_at_last(process_stop, lambda: watch.settings.shutdown_timeout)
        return address

    # alone: it may be the only worker, for which unequal partition counts are no error. What Kafka assigns will show.
    start = Start(environ=environ, listen=listen, alone=lambda _cluster: True)
    try:
        for step, seen in take(start, STEPS, partial(patiently, stopping=process_stop)):
            configure_again(start.settings.log_level, start.settings.consumer_name)
            _tell(seen)
            if step.subject == "row":
                _tell_row(start)
    except Stopped:
        return 0
    read = partial(_read_again, start.database, start.environment, watch)
    refresh = Refresh(_config(start), read, watch.counters, watch.health)
    Apart(target=refresh.watch, args=(process_stop,), name="row").start()
    return work(refresh, process_stop, watch)


def _tell(seen: Seen) -> None:
    if seen.how == "lacking":
        tell_warnings([seen.text])


def _tell_row(start: Start) -> None:
    row, status = start.row, start.address
    facts = {"topics_input": row.topics_input, "topics_output": row.topics_output, "brokers": row.bootstrap_servers}
    logger.info("row loaded", extra={**facts, "status": status, "health": f"{status}health/ready"})


def _read_again(database: Engine, environment: Settings, watch: Watch, current: Config) -> Config:
    """The row as it is now. Where no worker could work by it, the current one, with the pause that the row asks for."""
    try:
        return _wanted(database, environment, watch, current)
    except ConfigError as error:
        paused = load_pause(database, environment.consumer_name)
        if paused is None:
            raise
        return replace(current, settings=replace(current.settings, paused=paused), problems=tuple(error.problems))


def _wanted(database: Engine, environment: Settings, watch: Watch, current: Config) -> Config:
    """ConfigError: no worker could work by the row as it is now."""
    try:
        row = load(database, environment.consumer_name)
    except DatabaseRefusedError as error:  # a new password, a right that was taken: nobody has changed the row
        raise UnavailableError(str(error)) from error
    settings = environment.overlaid(row.metadatas)
    if row == current.row and settings.paused == current.settings.paused:
        return _with_renewed_files(current)
    if replace(row, metadatas=current.row.metadatas) == current.row and settings.differs_in_pause(current.settings):
        # Also while something else does not work: that is when somebody pauses it.
        return replace(current, settings=settings, row=row, problems=())
    try:
        return _tried_row(settings, row, watch, current)
    except _Unanswered:
        raise
    except UnavailableError as error:  # the brokers of the new row, not the database
        raise ConfigError([str(error)]) from error


def _with_renewed_files(current: Config) -> Config:
    """Of TLS with the brokers: else a worker is refused one day for a certificate of old. Once they take the new ones.

    Until then `unfit_files` says why not. A file that is away for a moment is as it was.
    """
    found = tls_files.digests(current.settings)
    files = {name: digest or current.files.get(name, "") for name, digest in found.items()}
    if files == current.files:
        return replace(current, unfit_files="")
    try:
        if problems := tls_files.problems(current.settings):
            raise ConfigError(problems)
        preflight.look(current.settings, current.row)
    except (ConfigError, UnavailableError, OSError) as error:  # one is just being written, perhaps
        return replace(current, unfit_files=str(error))
    return replace(current, files=files, unfit_files="")


def _tried_row(settings: Settings, row: Row, watch: Watch, current: Config) -> Config:
    """All that a worker needs of Kafka, and its own topics created."""
    start = Start(environ={}, listen=lambda _settings: "", alone=partial(_owns_all, watch, current.row))
    start.settings, start.row = settings, row
    lacking = tuple(seen.text for _, seen in take(start, ROW_STEPS, lambda step: step()) if seen.how == "lacking")
    added = set(row.topics_input).difference(current.row.topics_input)
    ends = {**current.ends, **preflight.ends(settings, row, start.cluster, added)}
    return replace(_config(start), ends=ends, lacking=lacking)


def _config(start: Start) -> Config:
    files = tls_files.digests(start.settings)
    maps, unread = start.stores_maps, start.unread_maps
    return Config(start.settings, start.row, maps, start.limits, start.partitions, files=files, unread_maps=unread)


class _Unanswered(UnavailableError):
    """The loop is busy, or there is no worker just now."""


def _owns_all(watch: Watch, row: Row, cluster: preflight.Cluster) -> bool:
    """Whether this worker has all partitions of the input topics: then they need not have equal numbers of them."""
    owned = watch.health.ask(lambda view: len(view.worker.intake.owned.partitions), 1.0)
    if owned is None:
        raise _Unanswered("the worker does not say whether it has all partitions")
    return owned == sum(cluster.partitions.get(topic, 0) for topic in row.topics_input)


if __name__ == "__main__":
    leave(main())
