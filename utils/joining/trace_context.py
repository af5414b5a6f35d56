"""The trace that a result belongs to: W3C Trace Context in the headers of the messages that it was made of.

Pure: no Kafka, no clock, no logging.
"""

from collections.abc import Sequence
from operator import attrgetter

from utils.joining.messages import Fragment, Headers

CARRIED = ("traceparent", "tracestate")
"""Names of https://www.w3.org/TR/trace-context/; the second one means nothing without the first."""


def trace_of(fragments: Sequence[Fragment]) -> Headers:
    """The headers to be carried on: those of the first fragment, in the order of `topics_input`, that has a trace."""
    for fragment in sorted(fragments, key=attrgetter("topic")):
        found = dict(fragment.headers or ())
        if found.get(CARRIED[0]):
            return [(name, found[name]) for name in CARRIED if found.get(name)]
    return []
