"""Transfers of whole files: many shards, many farmers, each of which may fail."""
