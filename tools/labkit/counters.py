"""The daemon's counters of packets, and what must hold among them."""

from .errors import LabError
from .wait import wait_until

VERDICTS = ("forwarded", "replied", "punted", "dropped")


def packets(lab):
    """The counters of all workers together, as numbers; those of the drops under "drops", and the
    NICs' own count of what came in under "nics"."""
    status = lab.ask("status")
    counters = status["packets"]
    drops = {reason: int(n) for reason, n in counters.pop("drops").items()}
    nics = sum(int(interface["received_packets"]) for interface in status["interfaces"])
    return {**{name: int(n) for name, n in counters.items()}, "drops": drops, "nics": nics}


def miscounted(lab):
    """Where the counters lose or invent packets: sentences, none if all are accounted for.

    They are read while workers write them, so they need not agree at any moment, but must once
    traffic is quiet. Waits for that; if it does not come, tells what is wrong at the end.
    """

    def agree():
        before = packets(lab)
        return not _disagreements(before) and packets(lab) == before

    try:
        wait_until(agree, "the counters to agree")
    except LabError:
        return _disagreements(packets(lab))
    return []


def _disagreements(counters):
    received, dropped = counters["received"], counters["dropped"]
    equations = [
        # Holds for the devices that stand for a NIC in a lab, TAP, AF_PACKET and AF_XDP, which
        # count what they hand to a worker. Hardware also counts what it discards thereafter.
        ("received", received, "the NICs' own count", counters["nics"]),
        ("received", received, " + ".join(VERDICTS), sum(counters[v] for v in VERDICTS)),
        ("dropped", dropped, "the drops by reason", sum(counters["drops"].values())),
    ]
    return [f"{a} ({m}) is not {b} ({n})" for a, m, b, n in equations if m != n]
