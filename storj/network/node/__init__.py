"""What every node of the network has: an identity, the signed RPC, contracts, addresses."""
