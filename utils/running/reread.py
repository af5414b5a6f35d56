"""The row, read again while a worker runs, and whether a worker could work by it as it is now.

`Refresh` asks for it, in a thread of its own. A new row is tried as at a start: all that a worker needs of Kafka.
"""

from dataclasses import replace
from functools import partial

from sqlalchemy import Engine

from config import ConfigError, Settings, UnavailableError
from models import Row, load, load_pause
from utils.database_errors import DatabaseRefusedError
from utils.kafka import preflight, tls_files
from utils.monitoring.watch import Watch
from utils.running.refresh import Config
from utils.running.steps import ROW_STEPS, Start, take


def found_by(start: Start) -> Config:
    """What a worker works by, after such a start."""
    files = tls_files.digests(start.settings)
    maps, unread = start.stores_maps, start.unread_maps
    return Config(start.settings, start.row, maps, start.limits, start.partitions, files=files, unread_maps=unread)


def read_again(database: Engine, environment: Settings, watch: Watch, current: Config) -> Config:
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
    return replace(found_by(start), ends=ends, lacking=lacking)


class _Unanswered(UnavailableError):
    """The loop is busy, or there is no worker just now."""


def _owns_all(watch: Watch, row: Row, cluster: preflight.Cluster) -> bool:
    """Whether this worker has all partitions of the input topics: then they need not have equal numbers of them."""
    owned = watch.health.ask(lambda view: len(view.worker.intake.owned.partitions), 1.0)
    if owned is None:
        raise _Unanswered("the worker does not say whether it has all partitions")
    return owned == sum(cluster.partitions.get(topic, 0) for topic in row.topics_input)
