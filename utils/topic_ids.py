"""The identity of a topic, by which one that was made again is told from the one before. Pure."""

_NONE = "A" * 22  # the UUID of zeros: Kafka before 2.8, and what speaks as it did, has no identities of topics


def identity(told: object) -> str:
    """Of a topic, as the client tells it, or a commit; empty where brokers have none, or had none then."""
    text = str(told)
    return "" if text == _NONE else text


def is_another(one: str, other: str) -> bool:
    """Whether two identities are of two topics. Where one is not known, as before an upgrade, nothing is said."""
    return bool(one and other) and one != other
