"""A model of how the client fetches, over topics that hold the same ids in the same order.

One request at a time, to one broker: it names all partitions that are not paused, and is made as long as the queue has
room. The answer brings so many records of each, one partition after the other, until it is full. So the first topic
comes far before the others where its partitions fill the answers. What is paused or sought loses what is in the queue.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import TopicPartition

from utils.reading.intake import Intake

Partition = tuple[str, int]


class Piece(NamedTuple):
    """Records of one partition in a row, as they were fetched."""

    at: Partition
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Fetches:
    """In records."""

    piece: int  # of one partition, at most
    answer: int  # of all partitions, at most
    queue: int  # with so many in the queue no request is made
    round_trip: float = 0.0  # seconds


class FetchingConsumer:
    def __init__(self, partitions: Iterable[Partition], records: int, fetches: Fetches) -> None:
        self._fetches = fetches
        self._records = records  # of each partition
        self._positions = dict.fromkeys(partitions, 0)  # where the next fetch of each begins
        self._read = dict.fromkeys(self._positions, 0)  # what has left the queue
        self._paused: set[Partition] = set()
        self._queue: deque[Piece] = deque()
        self._queued = 0
        self._answer: tuple[float, list[Piece]] | None = None  # when it comes
        self._first = 0  # the partition that the next request names first
        self.fetched = 0  # records, those that were thrown away too

    def consume(self, most: int, now: float) -> list[tuple[Partition, int]]:
        """Where the next records stand: as many as there are, `most` at most."""
        self._fetch(now)
        taken: list[tuple[Partition, int]] = []
        while self._queue and len(taken) < most:
            at, begin, end = self._queue.popleft()
            until = min(end, begin + most - len(taken))
            taken += [(at, offset) for offset in range(begin, until)]
            if until < end:
                self._queue.appendleft(Piece(at, until, end))
            self._queued -= until - begin
            self._read[at] = until
        return taken

    def _fetch(self, now: float) -> None:
        while True:
            if self._answer is None:
                if self._queued >= self._fetches.queue:
                    self._first = 0
                    return
                self._answer = now + self._fetches.round_trip, list(self._pieces())
            due, pieces = self._answer
            if due > now:
                return
            self._answer = None
            if not pieces:
                return
            for piece in pieces:
                if piece.begin == self._positions[piece.at] and piece.at not in self._paused:
                    self._positions[piece.at] = piece.end
                    self._queue.append(piece)
                    self._queued += piece.end - piece.begin
                self.fetched += piece.end - piece.begin

    def _pieces(self) -> Iterator[Piece]:
        room = self._fetches.answer
        names = list(self._positions)
        for at in names[self._first :] + names[: self._first]:
            begin = self._positions[at]
            if end := min(self._fetches.piece, room, self._records - begin) * (at not in self._paused):
                yield Piece(at, begin, begin + end)
                room -= end
        self._first = (self._first + 1) % len(names)

    def pause(self, partitions: list[TopicPartition]) -> None:
        paused = {(each.topic, each.partition) for each in partitions}
        self._paused |= paused
        self._drop(paused)

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._paused -= {(each.topic, each.partition) for each in partitions}

    def seek(self, to: TopicPartition) -> None:
        self._read[to.topic, to.partition] = to.offset
        self._drop({(to.topic, to.partition)})

    def get_watermark_offsets(self, _at: TopicPartition, cached: bool) -> tuple[int, int]:
        assert cached
        return 0, self._records

    def _drop(self, dropped: set[Partition]) -> None:
        self._queue = deque(piece for piece in self._queue if piece.at not in dropped)
        self._queued = sum(piece.end - piece.begin for piece in self._queue)
        for at in dropped:
            self._positions[at] = self._read[at]

    @property
    def is_done(self) -> bool:
        return all(read == self._records for read in self._read.values())


def know_to_be_together(intake: Intake) -> None:
    """As if enough keys had been seen."""
    intake.siblings.are_together = lambda: True  # type: ignore[method-assign]
    intake.siblings.are_mostly_together = lambda: True  # type: ignore[method-assign]
