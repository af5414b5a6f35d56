"""Your part: what is done with each joined message. Edit process(); the rest of the program need not be touched."""

from typing import Any


def process(message: dict[str, Any], consumer_name: str) -> dict[str, Any] | list[dict[str, Any]] | None:
    """Called with each message whose parts have arrived on all input topics; what it returns is sent on.

    `message` is the JSON objects of the input topics that share an `id`, merged in the order of `topics_input`:

        {"id": 1001, "content": {"item": "tea", "total": 9.8, "paid": 9.8}, ...}

    - `id`: text or a whole number. 1 and "1" are the same id.
    - `content`: always a dict, merged key by key; `{}` where no topic sent one.
    - All other fields as they came. Where two topics give the same one, the later topic of `topics_input` wins.

    It is yours: change it, return it. `consumer_name` is the name of this consumer's row.

    Return a dict (one result, sent to every output topic), a list of dicts (as many results) or None (nothing is sent,
    the message is done). Results are JSON; the key in Kafka is the result's own `id`, else that of the message.
    Anything else, and any exception, is a failure: it is tried again later, and in the end kept as a dead letter.
    `from utils.retry import Reject, Retry`: raise Retry(after=seconds) to say when, Reject("why") where it is no use.

    A slow call is fine: reading goes on meanwhile. With CONCURRENCY above 1, other messages are processed at the same
    time in other threads; or write `async def process(…)`, and they are coroutines on one event loop.

    After a crash process() may be called again with a message that it has seen before, so let calls to the outside do
    no harm when they are repeated: pass the `id` on, for example.

    What should be made only once, a pool of connections or a model, make in `setup()`, and close it in `teardown()`:
    two more functions, without arguments, if you define them here (examples/http_session.py).

    To log: `from utils.logger import logger`. Other loggers tell warnings only (docs/log-messages.md).
    """
    return message
