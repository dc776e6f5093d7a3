"""What bench/throughput and bench/memory consist of.

`macswap`, `peers` and `memory` measure; `machine` says what on, and has packages and huge pages,
`daemon` runs DPDK's programs and guidewayd outside of a lab, `command` and `report` are for the
command lines.
"""
