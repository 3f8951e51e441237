"""What fastalloc costs, beside no profiler and beside others: `python -m benchmarks --help`.

Two halves. `worker`, `probes`, `profilers` and `workloads` run inside the measured interpreter, of
any CPython from 3.11 on, and import nothing that they do not measure. All else runs outside, starts
them, and does the sums.
"""
