"""Encryption on the client's side: keys, streams, names, and the files that keep them.

Bridges and farmers never see a key. Every scheme of the clients of 2016 to 2018 can be read, and
the one that libstorj writes is the one that this package writes (protocol reference, section 6).
"""
