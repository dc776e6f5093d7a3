"""End-to-end tests: the real daemon and command line in the lab, on real traffic.

`lab` is a lab in which everything is well: all programs run, every backend is up, the
configuration is the one that the daemon started with. It is started once and set right again before
each test, so that a test may do with it what it likes. Tests wait for conditions, never for time to
pass.
"""

import os
import pathlib
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tools"))

from labkit import Lab, Options  # noqa: E402
from labkit.counters import miscounted  # noqa: E402
from observe import wait_healthy  # noqa: E402
from ways import EVERY_WAY, configure  # noqa: E402

BACKENDS = 4  # namespaces; the configuration names the first three


@pytest.fixture(scope="session")
def running_lab(request):
    """The lab as it happens to be: first-light, or one with the Options that it is parametrized
    with, indirectly."""
    if os.geteuid() != 0:
        pytest.exit("The end-to-end tests need root, for the lab.", returncode=1)
    if Lab.is_up():
        pytest.exit("A lab is up already; `tools/lab down` takes it down.", returncode=1)
    options = getattr(request, "param", Options(backends=BACKENDS))
    lab = Lab.up(options)
    if options is EVERY_WAY:
        configure(lab)
    yield lab
    lab.down()


@pytest.fixture
def lab(running_lab):
    set_right(running_lab)
    yield running_lab
    if running_lab.running("balancer/guidewayd"):
        assert miscounted(running_lab) == []


def set_right(lab):
    """Undoes what the tests before did to the lab."""
    for node in lab.nodes:
        (lab.folder(node) / "unhealthy").unlink(missing_ok=True)
    for name in lab.programs:
        if not lab.running(name):
            lab.start(name)
    for backend in lab.ask("get", "backends")["backends"]:
        if backend["times_down"] and backend["state"] != "drain":  # held for flapping
            lab.ask("undrain", f"{backend['service']}/{backend['name']}")
    lab.ask("apply", "--discard-overrides", str(lab.config_file("balancer")))
    wait_healthy(lab)
