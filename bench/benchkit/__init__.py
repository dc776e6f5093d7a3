"""What bench/table, bench/throughput and bench/footprint consist of.

`pipeline`, `macswap`, `peers` and `memory` measure; `machine` says what on, and has packages and
huge pages, `daemon` runs DPDK's programs and guidewayd outside of a lab, `command` and `report` are
for the command lines.
"""
