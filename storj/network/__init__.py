"""The local Storj network: a bridge and farmers that speak the real wire protocols."""
