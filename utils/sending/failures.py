"""What becomes of what cannot be made a result: it is logged, counted and, with a topic of dead letters, kept there.

No Kafka. Each comes back as the outcome of its group, and leaves as a result would: its offsets are finished when the
dead letter is safe; where there is none, when all that was sent before is. Its error stays behind: it holds all that
process() had in its hands.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from utils.errors import Quotable, unquoted
from utils.joining import dead_letters
from utils.joining.aggregator import Group, size_of
from utils.joining.dead_letters import Letter, sources
from utils.joining.messages import Fragment, InvalidMessage, InvalidResult, not_json
from utils.logger import logger
from utils.metrics import Counters
from utils.processing.outcome import Outcome
from utils.sparing import SparingByKind

EXAMPLES = 10  # groups that a log line names at most


class Failures:
    """Turns what failed into outcomes."""

    def __init__(
        self,
        consumer_name: str,
        topic: str,
        counters: Counters,
        wall_clock: Callable[[], float] = time.time,
        lines: SparingByKind | None = None,
    ) -> None:
        """`topic`: that of the dead letters; empty: they are discarded. `lines`: of the log, also of who was before."""
        self.topic = topic
        self._consumer_name = consumer_name
        self._counters = counters
        self._wall_clock = wall_clock
        self._lines = lines or SparingByKind(wall_clock)

    def invalid(self, fragment: Fragment, key: bytes | None, error: InvalidMessage) -> Outcome:
        """A record that is no message: it has no id, so that the key of the record stays that of the dead letter."""
        self._counters.invalid += 1
        group = Group("", (fragment,), len(fragment.value))
        self._tell_invalid({"source": sources(group)[0], "error": str(error)})
        return self._without_result(group, dead_letters.INVALID_MESSAGE, error, key=key)

    def incomplete(self, groups: Sequence[Group], missing: Callable[[Group], Sequence[str]]) -> list[Outcome]:
        """Groups that have waited long enough. `missing`: the topics that have given no fragment."""
        lacking = [missing(group) for group in groups]
        self._counters.count_evicted(lacking)
        if self.topic:
            self._log_incomplete(groups[:EXAMPLES], lacking, of=len(groups))
        else:  # nothing else will tell where they stood
            for first in range(0, len(groups), EXAMPLES):
                some = groups[first : first + EXAMPLES]
                self._log_incomplete(some, lacking[first:], of=len(some))
        return [
            self._without_result(group, dead_letters.INCOMPLETE, missing=topics)
            for group, topics in zip(groups, lacking, strict=True)
        ]

    def failed(self, outcome: Outcome) -> list[Outcome]:
        """An outcome with an error: of process(), of what it returned, or of what turned out to be no message."""
        group, error = outcome.group, outcome.error
        if isinstance(error, InvalidMessage):
            return self._not_json(group, error)
        self._counters.failed += 1
        if (beside := self._besides("failed")) is not None:
            where = {"id": group.id, "source": sources(group), **beside}
            logger.error("process() failed", extra=where, exc_info=unquoted(error))
        reason = dead_letters.RESULT_INVALID if isinstance(error, InvalidResult) else dead_letters.PROCESS_FAILED
        return [self._without_result(group, reason, error, attempts=outcome.attempts)]

    def _not_json(self, group: Group, error: InvalidMessage) -> list[Outcome]:
        """The parts that are to blame. The others are given up without them: `dlq replay` joins them with what may be
        sent in their place.
        """
        guilty = not_json(group.fragments) or group.fragments
        innocent = tuple([each for each in group.fragments if each not in guilty])
        self._counters.invalid += len(guilty)
        bad = Group(group.id, guilty, size_of(guilty))
        self._tell_invalid({"id": group.id, "source": sources(bad), "error": str(error)})
        outcomes = [self._without_result(bad, dead_letters.INVALID_MESSAGE, error)]
        if innocent:
            missing = [each.offsets.topic for each in guilty]
            outcomes += self.incomplete([Group(group.id, innocent, size_of(innocent))], lambda _group: missing)
        return outcomes

    def refused(self, outcome: Outcome, why: str) -> Outcome:
        """An outcome with a record that is too large for its topic, according to the client or the broker."""
        group, letter = outcome.group, outcome.letter
        where = {"id": group.id, "source": sources(group), "error": why}
        if letter:
            if (beside := self._besides("letter")) is not None:
                logger.error("dead letter too large: it keeps its sources only", extra={**where, **beside})
            return msgspec.structs.replace(outcome, letter=dead_letters.without_contents(letter))
        if (beside := self._besides("large")) is not None:
            logger.error("result too large", extra={**where, **beside})
        self._counters.failed += 1
        self._counters.refused_results += len(outcome.results)
        return self._without_result(group, dead_letters.TOO_LARGE, TooLarge(why), attempts=outcome.attempts)

    def _tell_invalid(self, facts: Mapping[str, object]) -> None:
        if (beside := self._besides("invalid")) is not None:
            logger.error("invalid message", extra={**facts, **beside})

    def _besides(self, kind: str) -> dict[str, int] | None:
        """Where no dead letter tells of it, each has its line."""
        return self._lines.next(kind) if self.topic else {}

    def _log_incomplete(self, groups: Sequence[Group], lacking: Sequence[Sequence[str]], *, of: int) -> None:
        """`of`: how many the line stands for."""
        by_id = {group.id: topics for group, topics in zip(groups, lacking, strict=False)}
        extra = {"count": of, "missing_topics_by_id": by_id, "sources": [sources(group) for group in groups]}
        logger.warning("incomplete messages given up", extra=extra)

    def _without_result(
        self,
        group: Group,
        reason: str,
        error: BaseException | None = None,
        *,
        missing: Sequence[str] = (),
        attempts: int = 0,
        key: bytes | None = None,
    ) -> Outcome:
        letter: Letter | None = None
        if self.topic:
            self._counters.dead_letters[reason] += 1
            now = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="milliseconds")
            letter = dead_letters.write(
                group, reason, consumer=self._consumer_name, time=now, error=error, missing=missing,
                attempts=attempts, key=key,
            )  # fmt: skip
        return Outcome(group, [], letter=letter, lacks_some=reason == dead_letters.INCOMPLETE)


class TooLarge(Quotable):
    """A result does not fit into its topic."""
