"""Kafka's clients, their errors, and what is looked at of brokers. Knows no message, and no other package."""
