"""What a message is, what waits, and what a commit says.

Pure: no Kafka, no clock, no logging, no environment, no threads. Knows no other package.
"""
