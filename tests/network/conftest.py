"""Fixtures that all tests against a running network may use."""

from tests.network.engine import bucket, client, engine, network

__all__ = ('bucket', 'client', 'engine', 'network')
