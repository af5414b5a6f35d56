"""Looks at the whole table again and again. What one look has found is what the next one is held against."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from config import ConfigError, Settings, UnavailableError
from models import ListedRow, load_all
from utils.fleet.looks import Look, Sites, Subject, subject_of
from utils.fleet.verdicts import ConsumerSeen, judged, utc, worst_first
from utils.kafka.names import Named, collisions


@dataclass(frozen=True, slots=True)
class FleetSeen:
    """All consumers, the worst first. `problem`: why the table could not be read this time, and is as it was before."""

    time: str  # UTC, ISO 8601
    consumers: tuple[ConsumerSeen, ...]
    problem: str = ""

    @property
    def is_bad(self) -> bool:
        return bool(self.problem) or any(each.level == "bad" for each in self.consumers)


class Watcher:
    def __init__(
        self,
        environment: Settings,
        database: Engine,
        names: Collection[str],
        timeout: float,
        apart: float,
    ) -> None:
        """`names`: of the consumers that are looked at; none: all. `timeout`, `apart`: see Sites."""
        self._environment = environment
        self._database = database
        self._names = names
        self._sites = Sites(timeout, apart)
        self._rows: list[ListedRow] | None = None  # as of the last time that the table could be read
        self._collisions: Mapping[str, Sequence[str]] = {}
        self._before: dict[str, Look] = {}

    def see(self) -> FleetSeen:
        """The first time after two looks. Raises UnavailableError, ConfigError, until the table has been read once."""
        problem = ""
        try:
            rows = load_all(self._database)
            self._rows, self._collisions = self._chosen(rows), self._of_names(rows)
        except (UnavailableError, ConfigError) as error:
            if self._rows is None:
                raise
            problem = "; ".join(error.problems) if isinstance(error, ConfigError) else str(error)
        listed = [self._subject(each) for each in self._rows]
        subjects = {row.consumer_name: each for row, each in listed if each}
        pairs = self._sites.look(subjects.values(), self._before)
        seen = [
            judged(row, subject, pairs.get(row.consumer_name), self._collisions.get(row.consumer_name, ()))
            for row, subject in listed
        ]
        self._before = {name: pair.now for name, pair in pairs.items()}
        return FleetSeen(utc(time.time()), tuple(worst_first(seen)), problem)

    def close(self) -> None:
        self._sites.close()

    def _chosen(self, rows: list[ListedRow]) -> list[ListedRow]:
        if unknown := sorted(set(self._names) - {each.consumer_name for each in rows}):
            exist = ", ".join(each.consumer_name for each in rows[:20]) + (", …" if len(rows) > 20 else "") or "none"
            raise ConfigError([f"table consumer_configs has no row {name!r}, but: {exist}" for name in unknown])
        return [each for each in rows if not self._names or each.consumer_name in self._names]

    def _of_names(self, rows: Sequence[ListedRow]) -> Mapping[str, Sequence[str]]:
        """Of all rows, whichever are looked at."""
        subjects = [each for _, each in map(self._subject, rows) if each]
        return collisions([Named(each.row, each.settings.dead_letters) for each in subjects])

    def _subject(self, listed: ListedRow) -> tuple[ListedRow, Subject | None]:
        try:
            return listed, subject_of(listed, self._environment)
        except ConfigError as error:
            return listed._replace(row=None, problems=tuple(error.problems)), None
