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


def weights(lab, service="web"):
    """{backend: weight} of a service, as configured."""
    backends = lab.ask("get", "backends")["backends"]
    return {b["name"]: b["weight"] for b in backends if b["service"] == service}


def packets(lab):
    """The counters of all workers together, as numbers; those of the drops under "drops"."""
    counters = lab.ask("status")["packets"]
    drops = {reason: int(n) for reason, n in counters.pop("drops").items()}
    return {**{name: int(n) for name, n in counters.items()}, "drops": drops}


def wait_conserved(lab):
    """Holds the counters against the law that every packet has one verdict. They are read while
    workers write them, so it need not hold at any moment, but must soon."""

    def conserved():
        p = packets(lab)
        verdicts = p["forwarded"] + p["replied"] + p["punted"] + p["dropped"]
        return p["received"] == verdicts and p["dropped"] == sum(p["drops"].values())

    wait_until(conserved, "received = forwarded + replied + punted + dropped")


def config_error(lab):
    """Why the last configuration was refused; empty if it was not."""
    return lab.ask("status")["config_error"]
