"""How a call of the bridge is made: arguments, connection, answers, retries, paging, key files.

Knows the rules that all routes share, and no route: those are the methods of
:class:`storj.http.Client`.
"""
