"""Measurements that anyone can repeat: ``make bench`` for a quick set, ``make bench-full`` for everything.

Machines differ and are noisy: figures are ratios to something measured in the same run wherever they can be.
"""
