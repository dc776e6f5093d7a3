"""Backends taken out by hand."""

import contextlib

from observe import states, weights
from labkit import wait_until
from labkit.traffic import ask, get, session, spread, unfair


def test_drain_keeps_connections_and_takes_no_new_ones(lab):
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab)) for _ in range(30)]
        first = [ask(s).backend for s in sessions]
        assert "web-1" in first

        lab.ask("drain", "web/web-1")
        assert states(lab)["web/web-1"] == "drain"
        fair = {name: weight for name, weight in weights(lab).items() if name != "web-1"}
        assert unfair(spread(get(lab) for _ in range(1000)), fair) == []
        assert [ask(s).backend for s in sessions] == first

        lab.ask("undrain", "web/web-1")
        assert states(lab)["web/web-1"] == "up"
        assert [ask(s).backend for s in sessions] == first
    assert unfair(spread(get(lab) for _ in range(1000)), weights(lab)) == []


def test_drain_is_of_one_service(lab):
    lab.ask("drain", "web/web-1")
    assert states(lab)["echo/web-1"] == "up"


def test_a_drained_backend_counts_its_connections_down(lab):
    """The operator's sign that it may be switched off."""

    def open_at_web_1():
        for b in lab.ask("get", "backends")["backends"]:
            if (b["service"], b["name"]) == ("web", "web-1"):
                return int(b["active_flows"]) - int(b["closing_flows"])

    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(session(lab)) for _ in range(30)]
        mine = [ask(s).backend for s in sessions].count("web-1")
        lab.ask("drain", "web/web-1")
        assert open_at_web_1() >= mine > 0
    wait_until(lambda: open_at_web_1() == 0, "web-1 to have none open")
    # Closed connections leave the table after dataplane.flow_timeouts.tcp_closing, 30 s unless
    # configured; that they leave is the flow table's own test.


def test_a_backend_that_is_not_there(lab):
    done = lab.guideway("drain", "web/nobody")
    assert done.returncode == 2
    assert "nobody" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    wait_until(lambda: set(states(lab).values()) == {"up"}, "every backend to be up")
