"""Settings that all tests share."""

import signal

from hypothesis import settings

# A machine that does other work as well may take long over any one example. Examples are not kept,
# for the tree may be read-only; one that fails becomes a test.
settings.register_profile('storj', deadline=None, database=None)
settings.load_profile('storj')

# A suite that a script starts in the background, or with nohup, inherits that signals are ignored,
# and would hand it on to the programs that it tests.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, 'SIGHUP') and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
