"""What is told to programs: over HTTP, and by --json."""

import json

import msgspec


def as_json(value: object) -> bytes:
    """In UTF-8. Half a character, which a row or a log line of worker.py may hold, stays as JSON writes it."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value)).encode()
