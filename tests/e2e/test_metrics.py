"""The read-only server, and a real Prometheus that scrapes it."""

import contextlib
import http.client
import json
import subprocess
import urllib.parse

import pytest

from conftest import REPOSITORY
from labkit import wait_until
from labkit.traffic import get
from test_process import assert_refused, start_by_hand, variant  # noqa: F401

DAEMON_PORT = 9909  # of control.http in the lab's configuration
PROMETHEUS_PORT = 9090
RULES = REPOSITORY / "share/prometheus/guideway.rules.yml"
DASHBOARD = REPOSITORY / "share/grafana/guideway.json"


def fetch(lab, port, path):
    """(status, body) of a GET to 127.0.0.1 on the balancer."""
    with lab.inside("balancer"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.connect()
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def metrics(lab):
    status, text = fetch(lab, DAEMON_PORT, "/metrics")
    assert status == 200
    return text


class Prometheus:
    def __init__(self, lab):
        self._lab = lab

    def api(self, path, **parameters):
        """What the HTTP API answers."""
        query = urllib.parse.urlencode(parameters)
        status, text = fetch(self._lab, PROMETHEUS_PORT, f"/api/v1/{path}?{query}")
        answer = json.loads(text)
        assert status == 200 and answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        """{labels as (name, value) pairs, but for job, instance and the name: number}."""
        hidden = {"job", "instance", "__name__"}
        return {
            tuple(sorted((k, v) for k, v in series["metric"].items() if k not in hidden)): float(
                series["value"][1]
            )
            for series in self.api("query", query=expression)["result"]
        }

    def value(self, expression):
        """Of the one series; None if there is none yet."""
        series = self.query(expression)
        assert len(series) <= 1, series
        return next(iter(series.values()), None)

    def wait(self, expression, what):
        """Waits for a series."""
        return wait_until(lambda: self.query(expression), what, deadline_s=30)


@pytest.fixture
def prometheus(lab, tmp_path):
    config = tmp_path / "prometheus.yml"
    config.write_text(
        f"""
global: {{ scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms }}
rule_files: ["{RULES}"]
scrape_configs:
  - job_name: guideway
    static_configs: [{{ targets: ["127.0.0.1:{DAEMON_PORT}"] }}]
"""
    )
    argv = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{PROMETHEUS_PORT}",
    ]
    log = tmp_path / "prometheus.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(lab.command("balancer", argv), stdout=out, stderr=out)

    def ready():
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(OSError):
            return fetch(lab, PROMETHEUS_PORT, "/-/ready")[0] == 200

    try:
        wait_until(ready, "Prometheus to be ready", deadline_s=60)
        yield Prometheus(lab)
    finally:
        process.kill()
        process.wait()


def test_the_read_only_server(lab):
    assert fetch(lab, DAEMON_PORT, "/healthz") == (200, "ok\n")
    status, text = fetch(lab, DAEMON_PORT, "/status")
    assert status == 200 and json.loads(text)["state"] == "serving"
    assert fetch(lab, DAEMON_PORT, "/v1/backends")[0] == 404


def test_metrics_are_as_promtool_wants_them(lab):
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics(lab), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_address_in_use_refuses_the_start(lab, variant):  # noqa: F811
    config = variant({"net_tap0,iface=gw-uplink": "net_null0"})
    assert_refused(start_by_hand(lab, config), "control.http")


def test_prometheus_sees_traffic(lab, prometheus):
    opened = 'sum(guideway_service_new_connections_total{service="web"})'
    prometheus.wait(opened, "the first scrape")
    start = prometheus.value(opened)
    for _ in range(50):
        assert get(lab).status == 200
    wait_until(lambda: prometheus.value(opened) >= start + 50, "50 connections", deadline_s=30)

    # No more traffic: what Prometheus has is what the command line says.
    def of_web():
        return next(s for s in lab.ask("get", "services")["services"] if s["name"] == "web")

    for metric, key in (
        ("service_packets_total", "packets"),
        ("service_bytes_total", "bytes"),
        ("service_forwarded_packets_total", "forwarded"),
        ("service_active_connections", "active_flows"),
    ):
        series = f'guideway_{metric}{{service="web"}}'
        # Asked each time: connections that were closed before go meanwhile.
        wait_until(lambda: prometheus.value(series) == int(of_web()[key]), f"{series} to be that")
    by_backend = prometheus.query('guideway_backend_packets_total{service="web"}')
    assert {dict(labels)["backend"]: packets for labels, packets in by_backend.items()} == {
        b["name"]: int(b["packets"]) for b in lab.ask("get", "backends")["backends"] if b["service"] == "web"
    }
    assert prometheus.value('sum(guideway_packets_total{verdict="forward"})') >= sum(by_backend.values())
    assert prometheus.value("sum(guideway_worker_busy_seconds_total)") > 0
    assert prometheus.value("sum(guideway_worker_idle_seconds_total)") > 0
    assert prometheus.value('sum(guideway_probes_total{kind="http",outcome="ok"})') > 0


def test_prometheus_sees_a_failure(lab, prometheus):
    digests = 'count(count by (service) (guideway_service_table_digest{service="web"}))'
    apart = (
        'guideway_service_table_digest{service="web",table="effective"}'
        ' != ignoring (table) guideway_service_table_digest{service="web",table="configured"}'
    )
    wait_until(lambda: prometheus.value(digests) == 1, "the first scrape", deadline_s=30)
    assert prometheus.query(apart) == {}
    (lab.folder("web-2") / "unhealthy").touch()
    down = 'guideway_backend_state{service="web",backend="web-2",state="down"} == 1'
    prometheus.wait(down, "web-2 to be down")
    prometheus.wait(apart, "the table to differ")
    assert prometheus.value('guideway_backend_up{service="web",backend="web-2"}') == 0
    assert prometheus.value('guideway_backend_share_ratio{service="web",backend="web-2"}') == 0
    assert prometheus.value('guideway_service_backends_up{service="web"}') == 2
    prometheus.wait(
        'ALERTS{alertname="GuidewayBackendDown",backend="web-2"}', "the alert to be pending"
    )
    (lab.folder("web-2") / "unhealthy").unlink()
    prometheus.wait('guideway_service_backends_up{service="web"} == 3', "web-2 to be back")
    assert prometheus.query(apart) == {}


def test_prometheus_takes_rules_and_dashboard(lab, prometheus):
    def evaluated():
        rules = prometheus.api("rules")["groups"][0]["rules"]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None

    for rule in wait_until(evaluated, "the rules to be evaluated", deadline_s=30):
        assert rule["health"] == "ok", rule
    prometheus.wait("guideway_build_info", "the first scrape")
    targets = [
        target["expr"]
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", [])
    ]
    assert targets
    for expression in targets:
        for variable, text in (
            ("$job", ".*"),
            ("$instance", ".*"),
            ("$service", ".*"),
            ("$__rate_interval", "1m"),
        ):
            expression = expression.replace(variable, text)
        prometheus.query(expression)  # fails if it is none
