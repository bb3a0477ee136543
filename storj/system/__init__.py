"""What the operating system is asked for: files replaced as a whole, locks, and its shortages.

Nothing here knows of bridges, farmers or transfers; both the client and the network use it.
"""
