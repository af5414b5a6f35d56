"""How long brokers make a client wait for its quota."""

from confluent_kafka import ThrottleEvent

from utils.kafka.mute import Mute


def test_what_one_broker_says_takes_nothing_from_the_time_of_another() -> None:
    """Each says 0 when it makes the client wait no more."""
    now = 100.0
    mute = Mute(lambda: now)
    mute.on_throttle(ThrottleEvent("one", 1, 10.0))
    mute.on_throttle(ThrottleEvent("two", 2, 0.0))
    assert mute.seconds == 10
    now += 11
    assert mute.seconds == 0
