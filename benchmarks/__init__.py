"""Benchmarks: what transfers and their parts take on this machine, beside libstorj and the bound.

``make benchmark`` runs them all. They are no tests: nothing passes or fails, and single figures of
a busy machine mean little. Both sides of a comparison run in turn within one run; medians and
ratios are what to quote.
"""
