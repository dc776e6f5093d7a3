"""Waiting for conditions instead of sleeping."""

import time

from .errors import LabError


def wait_until(condition, what, deadline_s=10.0, interval_s=0.02):
    """Calls `condition` until it returns something true, and returns that.

    Raises LabError with `what`, a clause such as "web-1 to be up", once `deadline_s` has passed.
    """
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= end:
            raise LabError(f"Waited {deadline_s:g} s in vain for {what}.")
        time.sleep(interval_s)
