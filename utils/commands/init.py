"""`python main.py init`: the table consumer_configs, and the row of a consumer in it."""

import argparse

from sqlalchemy import Engine

from config import BOM, ConfigError, Settings
from models import Row, engine, init_db, keeping_pause, load, load_pause, save
from utils.commands.command import Commands, Environ, add_command, say, settings_of
from utils.kafka.names import Named, own_collisions
from utils.logger import logger
from utils.processing import user_code
from utils.running.steps import collisions_of, outputs, tried


def add(commands: Commands) -> None:
    parser = add_command(commands, "init", init, "create the table and write this consumer's row")
    parser.add_argument("--topics-input", required=True, metavar="A,B", help="topics to read and join")
    parser.add_argument("--topics-output", required=True, metavar="C", help="topics to send results to; '' for none")
    parser.add_argument("--kafka-bootstrap-server", required=True, metavar="HOST:PORT", help="one or more brokers")
    parser.add_argument(
        "--metadatas",
        type=lambda given: given.removeprefix(BOM),
        metavar="JSON",
        help="settings of this consumer; without it they stay as they are. A pause stays",
    )


def init(arguments: argparse.Namespace, environ: Environ) -> int:
    """Create the table consumer_configs where it is missing, and insert or update the row of CONSUMER_NAME."""
    settings, problems = tried(lambda: settings_of(environ))
    name = settings.consumer_name if settings else str({**user_code.defaults(), **environ}.get("CONSUMER_NAME", ""))
    topics, servers = (arguments.topics_input, arguments.topics_output), arguments.kafka_bootstrap_server
    row, problems_of_row = tried(lambda: Row.validated(name, *topics, servers, arguments.metadatas))
    overlaid, problems_of_metadatas = tried(lambda: (settings or Settings()).overlaid(arguments.metadatas))
    if not settings or not row or not overlaid:
        raise ConfigError(problems + problems_of_row + problems_of_metadatas)
    for warning in overlaid.warnings:
        logger.warning(warning)
    database = engine(settings.url(), create=True)
    created = init_db(database)
    _must_not_collide(database, row, settings)
    was_paused = _was_paused(database, name)
    inserted = save(database, keeping_pause(row) if was_paused else row)
    say(f"table consumer_configs {'created' if created else 'is there'}")
    say(f"row {name} {'inserted' if inserted else 'updated'}: {', '.join(row.topics_input)} -> {outputs(row)}")
    for line in collisions_of(row, database, settings):
        logger.warning(line)
    load(database, name)  # as a worker will: a table made by hand may lack a column that is not written here
    if load_pause(database, name):
        say(f"row {name} {'stays' if was_paused else 'is'} paused: its workers go on after fleet resume {name}")
    elif was_paused:
        say(f"row {name} is no longer paused: its workers go on")
    return 0


def _was_paused(database: Engine, name: str) -> bool | None:
    """None: the row does not tell. UnavailableError: nobody can tell just now, and a pause must not be written over."""
    try:
        return load_pause(database, name)
    except ConfigError:  # of a row that is to be written anew
        return None


def _must_not_collide(database: Engine, row: Row, environment: Settings) -> None:
    """ConfigError: no worker would begin by it. `metadatas` that are not given stay as they are stored."""
    stored, _ = tried(lambda: load(database, row.consumer_name).metadatas) if row.metadatas is None else (None, [])
    settings, _ = tried(lambda: environment.overlaid(row.metadatas if stored is None else stored))
    if settings and (problems := own_collisions(Named(row, settings.dead_letters))):
        raise ConfigError(problems)
