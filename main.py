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
from functools import partial
from importlib import import_module
from io import StringIO
from pathlib import Path

from config import EX_CONFIG, ConfigError, Settings, UnavailableError
from utils.commands.command import Environ, add_command, say
from utils.logger import configure, configure_again, logger
from utils.monitoring.watch import Watch
from utils.running.calls import SetupFailed
from utils.running.lifetime import Stopped, end_at_last, leave, patiently, stop_on_signals
from utils.running.refresh import Refresh, tell_warnings
from utils.running.reread import found_by, read_again
from utils.running.steps import STEPS, Seen, Start, answer_http, take
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

    # The only worker of a consumer may have topics with unequal partition counts. What Kafka assigns will show it.
    start = Start(environ=environ, listen=listen, alone=lambda _cluster: True)
    try:
        for step, seen in take(start, STEPS, partial(patiently, stopping=process_stop)):
            configure_again(start.settings.log_level, start.settings.consumer_name)
            _tell(seen)
            if step.subject == "row":
                _tell_row(start)
    except Stopped:
        return 0
    read = partial(read_again, start.database, start.environment, watch)
    refresh = Refresh(found_by(start), read, watch.counters, watch.health)
    Apart(target=refresh.watch, args=(process_stop,), name="row").start()
    return work(refresh, process_stop, watch)


def _tell(seen: Seen) -> None:
    if seen.how == "lacking":
        tell_warnings([seen.text])


def _tell_row(start: Start) -> None:
    row, status = start.row, start.address
    facts = {"topics_input": row.topics_input, "topics_output": row.topics_output, "brokers": row.bootstrap_servers}
    logger.info("row loaded", extra={**facts, "status": status, "health": f"{status}health/ready"})


if __name__ == "__main__":
    leave(main())
