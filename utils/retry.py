"""What process() may raise to say how its message goes on: `from utils.retry import Reject, Retry`."""


class Retry(Exception):
    """Try this message again, in `after` seconds; without it, when any other failed one would be.

    It counts as an attempt, as any other exception does.
    """

    def __init__(self, why: str = "", after: float | str | None = None) -> None:
        """`after`: also as text, such as an HTTP service says it in Retry-After."""
        super().__init__(why)
        self.after = None if after is None else max(float(after), 0.0)


class Reject(Exception):
    """This message will never succeed: no further attempt is made, and it becomes a dead letter at once."""
