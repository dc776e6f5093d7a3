"""What the command line says, in the shape that tests compare."""

from labkit import wait_until


def states(lab):
    """{SERVICE/BACKEND: state}, of all."""
    backends = lab.ask("get", "backends")["backends"]
    return {f"{b['service']}/{b['name']}": b["state"] for b in backends}


def wait_state(lab, state, *names):
    """Waits until the backends SERVICE/BACKEND are in `state`."""
    wait_until(
        lambda: all(states(lab)[name] == state for name in names),
        f"{', '.join(names)} to be {state}",
    )


def health(lab):
    """{SERVICE/BACKEND: what its last probe said}, of all; empty before the first."""
    backends = lab.ask("get", "backends")["backends"]
    return {f"{b['service']}/{b['name']}": b["health"] for b in backends}


def wait_healthy(lab):
    """Waits until every backend is up and its last probe found it well: after its start the daemon
    takes even a dead one for up."""
    wait_until(
        lambda: {*states(lab).values(), *health(lab).values()} == {"up", "ok"},
        "every backend to be up and well",
    )


def weights(lab, service="web"):
    """{backend: weight} of a service, as in force."""
    backends = lab.ask("get", "backends")["backends"]
    return {b["name"]: b["weight"] for b in backends if b["service"] == service}


def config_error(lab):
    """Why the last configuration was refused; empty if it was not."""
    return lab.ask("status")["config_error"]
