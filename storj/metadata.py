"""Storj metadata module: what the package is called, who made it, and which release this is.

The lowest module: it imports nothing, so that ``setup.cfg`` can read the version from it and every
other module may import it.
"""

__all__ = ('__author__', '__copyright__', '__license__', '__title__', '__version__')

__title__ = 'storj'
__version__ = '1.0.0'
__author__ = 'The storj contributors'
__license__ = 'MIT'
__copyright__ = 'Copyright (c) 2016-2026 The storj contributors'
