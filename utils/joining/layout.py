"""How the topic of a partition is laid out, as it was when the partition was assigned. Pure."""

from typing import NamedTuple


class Layout(NamedTuple):
    topic_id: str
    """Its identity: a topic made again has another one. Empty: not known."""
    joined_with: str = ""
    """All input topics of the worker, for its commits: see JoinedWith."""
    partitions: int = 0
    """How many the topic has; 0: not known."""
    differs: bool = False
    """Commits of the consumer group name other input topics: its workers may not have the same ones."""
    grown: bool = False
    """The topic has more partitions than at the last commit."""
