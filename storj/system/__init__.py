"""Files replaced as a whole, locks, ini files, and shortages of the operating system.

Nothing here knows of bridges, farmers or transfers; both the client and the network use it.
"""
