"""The bridge: accounts, buckets, files, and the renter node that speaks to the farmers.

Knows farmers by what they answer only: nothing of :mod:`storj.network.farmer` is imported here.
"""
