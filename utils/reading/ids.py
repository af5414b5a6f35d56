"""A set of ids in bounded memory: beyond so many it knows them only roughly. No Kafka, no clock, no logging."""

KNOWN = 50_000  # ids that are known exactly: some 100 bytes each
BITS = 1 << 25  # for the others: 4 MB. With a million of them 3 % of all ids are taken for one


class ManyIds:
    """Each id that was added is in it. Beyond KNOWN a few others are, too: who asks must be able to bear that."""

    __slots__ = ("_bits", "_known")

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._bits: bytearray | None = None

    def __bool__(self) -> bool:
        return bool(self._known)

    def __contains__(self, id: str) -> bool:
        if id in self._known:
            return True
        if self._bits is None:
            return False
        at = hash(id) % BITS
        return bool(self._bits[at >> 3] & 1 << (at & 7))

    def is_known(self, id: str) -> bool:
        """Whether it was added, beyond doubt. No: nobody can tell."""
        return id in self._known

    def add(self, id: str) -> None:
        if len(self._known) < KNOWN:
            self._known.add(id)
        elif id not in self._known:
            if self._bits is None:
                self._bits = bytearray(BITS >> 3)
            at = hash(id) % BITS
            self._bits[at >> 3] |= 1 << (at & 7)
