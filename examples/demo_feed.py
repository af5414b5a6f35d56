"""Sample messages of a shop: orders and payments that share an id, as they would come in. No Kafka, no clock."""

import heapq
import json
from collections.abc import Iterator
from itertools import count
from random import Random
from typing import Any, NamedTuple

ORDERS, PAYMENTS = "orders", "payments"
AMOUNT = {ORDERS: "total", PAYMENTS: "paid"}
IDS_PER_SECOND = 7.0
LATEST_MATE = 1.5  # seconds after the first message of an id
FIRST_ID = 1001

_PRICES = {"tea": 4.9, "cocoa": 5.5, "honey": 7.4, "sugar": 2.3}
_BUYERS = ("Ada", "Alan", "Emmy", "Grace", "Linus", "Mary")
_NO_JSON = (b"<html>502 Bad Gateway</html>", b'{"id": 10', b"id;item;total")


class Sample(NamedTuple):
    """A message to be sent `at` seconds after the start. `id` is 0, and there is no key, where it is not JSON."""

    at: float
    topic: str
    id: int
    value: bytes

    @property
    def content(self) -> dict[str, Any]:
        return dict(json.loads(self.value)["content"]) if self.id else {}


def samples(random: Random) -> Iterator[Sample]:
    """Messages without end, in the order of time.

    Mates arrive at different moments and in either order. Of every ten ids the second never meets its mate, the fourth
    brings its first message twice (the later one corrects the earlier), and with the sixth comes something that is no
    JSON.
    """
    later: list[Sample] = []
    at = 0.0
    for id in count(FIRST_ID):
        for sample in _messages_of(id, at, random):
            heapq.heappush(later, sample)
        at += random.uniform(0.5, 1.5) / IDS_PER_SECOND
        while later and later[0].at <= at:
            yield heapq.heappop(later)


def _messages_of(id: int, at: float, random: Random) -> list[Sample]:
    order, payment = _order_and_payment(random)
    first, second = [(ORDERS, order), (PAYMENTS, payment)]
    if random.random() < 0.4:
        first, second = second, first
    mate_at = at + random.uniform(0.3, LATEST_MATE)
    match id % 10:
        case 2:
            return [_sample(at, id, first)]
        case 4:
            wrong = (first[0], first[1] | {AMOUNT[first[0]]: 0.0})
            return [_sample(at, id, wrong), _sample(at + 0.1, id, first), _sample(at + LATEST_MATE, id, second)]
        case 6:
            broken = Sample(at, random.choice((ORDERS, PAYMENTS)), 0, random.choice(_NO_JSON))
            return [broken, _sample(at, id, first), _sample(mate_at, id, second)]
        case _:
            return [_sample(at, id, first), _sample(mate_at, id, second)]


def _order_and_payment(random: Random) -> tuple[dict[str, Any], dict[str, Any]]:
    item = random.choice(list(_PRICES))
    total = round(_PRICES[item] * random.randint(1, 9), 2)
    order = {"buyer": random.choice(_BUYERS), "item": item, AMOUNT[ORDERS]: total}
    return order, {"method": random.choice(("card", "bank", "cash")), AMOUNT[PAYMENTS]: total}


def _sample(at: float, id: int, message: tuple[str, dict[str, Any]]) -> Sample:
    topic, content = message
    return Sample(at, topic, id, json.dumps({"id": id, "content": content}).encode())
