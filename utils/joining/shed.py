"""What was read of a partition and not kept, for want of memory: it is to be read again. Pure.

Which offsets these are is told by their states (SHED). Written by PartitionOffsets alone.
"""


class Shed:
    __slots__ = ("count", "read_end", "since")

    def __init__(self, start: int) -> None:
        self.count = 0
        self.since: int | None = None
        """The first drop since reading was last set back, by its number."""
        self.read_end = start
        """Below it everything has been read before, when reading has been set back."""

    def add(self, number: int) -> None:
        """`number`: how many records were dropped so far, in all partitions, with this one."""
        self.count += 1
        self.since = number if self.since is None else min(self.since, number)

    def no_more(self, count: int) -> None:
        """So many were read again, or are not in the log any more."""
        self.count -= count
        if not self.count:  # also what was dropped ahead of reading, since it was set back
            self.since = None

    def set_back(self, position: int) -> None:
        """Reading, which had come to `position`, goes on from the lowest of them."""
        self.read_end = max(self.read_end, position)
        self.since = None
