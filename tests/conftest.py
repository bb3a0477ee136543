"""Settings that all tests share."""

from hypothesis import settings

# A machine that does other work as well may take long over any one example.
settings.register_profile('storj', deadline=None)
settings.load_profile('storj')
