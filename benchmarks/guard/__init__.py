"""ConnectionLimits the speed of the hot paths by counting instructions, which a busy machine does not change.

``python -m benchmarks.guard`` runs the workload under valgrind's callgrind and compares with
``benchmarks/baseline.json``; see `benchmarks.guard.counting`.
"""
