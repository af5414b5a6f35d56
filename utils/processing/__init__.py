"""Calls process(): runners, order by id, attempts, suspects. Knows no Kafka."""
