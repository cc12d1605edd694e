"""Kafka in, Kafka out: a consumer group over a topic of events, findings to another topic.

Each partition is a shard with an engine and a state of its own. See ``docs/kafka.md``.
"""
