"""bench/throughput works. How fast anything is, is not tested."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import REPOSITORY

# Nothing but the benchmark needs it, so the benchmark installs it.
pytestmark = [
    pytest.mark.skipif(
        shutil.which("dpdk-testpmd") is None, reason="bench/throughput macswap installs dpdk-dev"
    ),
    pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two cores are needed"),
]


def test_macswap():
    """Both forward, and their ratio is printed; that guidewayd forwards everything, it sees to."""
    argv = ["bench/throughput", "macswap", "--repetitions", "1", "--seconds", "0.5"]
    done = subprocess.run(
        argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    medians = re.search(r"^median +([\d.]+) +([\d.]+) +([\d.]+)$", done.stdout, re.MULTILINE)
    testpmd, guidewayd, ratio = (float(text) for text in medians.groups())
    assert testpmd > 0
    assert guidewayd > 0
    assert ratio > 0
