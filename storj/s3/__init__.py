"""Storj s3 package: an S3 gateway, so that what speaks S3 works with a Storj v2 network.

It sits on :mod:`storj.catalog` and :mod:`storj.transfer` and has no engine of its own. Content and
names are encrypted here, before anything goes to the network. What the network cannot keep (ETags,
metadata, multipart uploads in progress) is in a small database beside it.
"""
