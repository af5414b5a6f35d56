"""Records in: where to begin, how far, and what is shed. Knows neither process() nor results.

locator.py says where to begin. The loop reads through the door, intake.py, and keeps what waits through waiting.py.
going_back.py says when what had no room is read again.
"""
