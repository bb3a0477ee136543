"""The MetaDisk node: the JSON API of 2014, the web page, and the files of both on the farmers.

::

    browser, program --- /accounts, /api, page ---> routes, website
                                                        |
                                        node (spool, ledger, catalogue)
                                                        |
                                                     storage
                                                        |
                                  bridge's own wire API and the farmers' channels

The node shares the bridge's address and process, and is a client of it like any other: its files
are entries of a bucket in an account of its own.

Nothing is imported here: a farmer shows the page, and needs no database for it.
"""
