"""The lab: Guideway between real hosts, all of them network namespaces of this machine.

`topology` reads what a lab consists of, `lab` builds it and takes it down, `namespace` and
`process` are the few things they need of Linux; `traffic`, real clients, and `counters`, what the
daemon counted, are for the demonstration and the tests.
"""

from .errors import LabError
from .lab import DIRECTORY, NICS, Lab, Options
from .wait import wait_until

__all__ = ["DIRECTORY", "NICS", "Lab", "LabError", "Options", "wait_until"]
