"""The farmer: a node that keeps shards, serves them over both data channels, and proves them."""
