"""Whose trace a result belongs to."""

from tests.builders import fragment
from utils.joining.messages import Fragment, Headers
from utils.joining.trace_context import trace_of

PARENT, STATE = ("traceparent", b"00-1-2-01"), ("tracestate", b"of=a")
OTHER = ("traceparent", b"00-3-4-00")


def of(topic: int, headers: Headers | None) -> Fragment:
    plain = fragment(topic)
    return Fragment(topic, plain.offsets, plain.offset, plain.value, headers)


def test_the_first_topic_that_has_a_trace_gives_it_whichever_came_first() -> None:
    fragments = [of(2, [OTHER]), of(0, None), of(1, [("x", b"y"), STATE, PARENT])]
    assert trace_of(fragments) == trace_of(fragments[::-1]) == [PARENT, STATE]


def test_a_state_without_its_parent_is_none() -> None:
    assert trace_of([of(0, [STATE]), of(1, [OTHER])]) == [OTHER]


def test_without_a_trace_there_is_nothing_to_carry() -> None:
    assert trace_of([of(0, None), of(1, [("traceparent", None)])]) == []
    assert trace_of([of(0, [("x", b"y")])]) == []
