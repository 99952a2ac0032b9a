"""Measurements that anyone can repeat: ``make bench`` for a quick set, ``make bench-full`` for everything.

Machines differ and are noisy: figures are ratios to something measured in the same run wherever they can be.
A benchmark is described in `benchmarks.benchmark`, all of them are listed in `benchmarks.suite`, and
``python -m benchmarks --help`` runs them. docs/performance.md shows what one run has found.
"""
