"""Storj package."""
