# mypy: ignore-errors
"""A worker as people wrote it by hand from the classic instructions: a dict, a time-out, auto-commit. It is adopted.

python classic_skeleton.py BOOTSTRAP GROUP TOPIC_A,TOPIC_B TOPIC_OUT TIMEOUT
"""

import json
import signal
import sys
import time

from confluent_kafka import Consumer, Producer

bootstrap, group, topics_input, topic_output, timeout = sys.argv[1:6]
topics = topics_input.split(",")
running = True
messages = {}


def stop(*_):
    global running
    running = False


def process(message, consumer_name):
    return message


signal.signal(signal.SIGTERM, stop)
consumer = Consumer(
    {
        "bootstrap.servers": bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": True,
        "auto.commit.interval.ms": 500,
        "partition.assignment.strategy": "roundrobin",
    }
)
producer = Producer({"bootstrap.servers": bootstrap})
consumer.subscribe(topics)
print("started", flush=True)
while running:
    msg = consumer.poll(0.1)
    now = time.time()
    for key in [key for key, value in messages.items() if now - value["time"] > float(timeout)]:
        del messages[key]
    if msg is None or msg.error():
        continue
    data = json.loads(msg.value())
    entry = messages.setdefault(str(data["id"]), {"time": now, "parts": {}})
    entry["parts"][msg.topic()] = data
    if len(entry["parts"]) == len(topics):
        del messages[str(data["id"])]
        joined = {"content": {}}
        for topic in topics:
            part = entry["parts"][topic]
            content = {**joined["content"], **part.get("content", {})}
            joined.update(part)
            joined["content"] = content
        result = process(joined, group)
        producer.produce(topic_output, json.dumps(result).encode(), str(data["id"]))
        producer.poll(0)
producer.flush()
consumer.close()
print(f"stopped, {len(messages)} were waiting", flush=True)
