"""Health checks of every kind, each by servers that answer it."""

import copy
import pathlib
import signal
import subprocess
import sys

import pytest

from labkit import namespace, wait_until
from labkit.process import Process
from observe import health, states, wait_healthy, wait_state

HTTPS, DNS, ECHO = 8443, 5353, 7007
BACKENDS = {f"web-{n}": f"10.0.0.1{n}" for n in (1, 2, 3)}
CHECKS = {
    "tcp": {"tcp": {"port": HTTPS}},
    "https": {"https": {"port": HTTPS, "path": "/healthz", "host": "www.example.com"}},
    "dns": {"dns": {"port": DNS, "name": "health.example.com"}},
    "icmp": {"icmp": {}},
    "udp": {"udp": {"port": ECHO, "send": "are you well?", "expect": "echo are"}},
}

NGINX = """
daemon off; user root; worker_processes 1; pid nginx.pid; error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  server {
    listen %(https)d ssl; ssl_certificate server.pem; ssl_certificate_key key.pem;
    location = /healthz { if (-f %(folder)s/sick) { return 503; } return 200; }
  }
}
"""


class Backends:
    """The servers on each backend, which work in a folder of their own."""

    def __init__(self, lab, folder):
        self._lab = lab
        self._folder = folder
        self._running = {}
        for name in BACKENDS:
            self.folder(name).mkdir()
            (self.folder(name) / "nginx.conf").write_text(NGINX % {"https": HTTPS, "folder": self.folder(name)})
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                 "-subj", "/CN=www.example.com", "-keyout", "key.pem", "-out", "server.pem"],
                cwd=self.folder(name), check=True, capture_output=True)
            self.start(name)

    def folder(self, name):
        return self._folder / name

    def start(self, name):
        folder = str(self.folder(name))
        programs = (
            ["nginx", "-p", folder, "-c", "nginx.conf"],
            ["env", "-C", folder, sys.executable, str(pathlib.Path(__file__).with_name("dns_and_echo.py")),
             BACKENDS[name], str(DNS), str(ECHO)],
        )
        self._running[name] = [Process.start(self._lab.command(name, argv), f"{folder}/log") for argv in programs]
        self._ignore_pings(name, 0)

    def stop(self, name):
        """None of its servers answers from here on, nor its kernel pings."""
        for process in self._running.pop(name, []):
            process.stop(signal.SIGKILL)
        self._ignore_pings(name, 1)

    def stop_all(self):
        for name in BACKENDS:
            self.stop(name)
            self._ignore_pings(name, 0)

    def _ignore_pings(self, name, value):
        namespace.run(self._lab.command(name, ["sysctl", "-qw", f"net.ipv4.icmp_echo_ignore_all={value}"]))


@pytest.fixture
def backends(lab, tmp_path):
    """The backends, with a service for each kind of check in force, and all of them up."""
    running = Backends(lab, tmp_path)
    config = lab.config()
    web = config["services"][0]
    pace = {"interval": "200ms", "timeout": "200ms", "rise": 2, "fall": 2}
    config["services"] = [
        copy.deepcopy({**web, "name": kind, "ports": [9000 + n], "health_check": {**check, **pace}})
        for n, (kind, check) in enumerate(CHECKS.items())
    ]
    try:
        done = lab.apply(config)
        assert done.returncode == 0, done.stderr
        wait_healthy(lab)
        yield running
    finally:
        running.stop_all()


def said(lab, backend):
    """{kind: what its last probe of this backend said}."""
    return {kind: health(lab)[f"{kind}/{backend}"] for kind in CHECKS}


def test_a_backend_that_stops_is_ejected_and_returns(lab, backends):
    backends.stop("web-2")
    down = [f"{kind}/web-2" for kind in CHECKS]
    wait_state(lab, "down", *down)
    assert said(lab, "web-2") == {
        "tcp": "connection refused",
        "https": "connection refused",
        "dns": "connection refused",
        "icmp": "timeout after 200ms",
        "udp": "connection refused",
    }
    assert {name: state for name, state in states(lab).items() if name not in down} == {
        f"{kind}/{name}": "up" for kind in CHECKS for name in ("web-1", "web-3")
    }
    backends.start("web-2")
    wait_healthy(lab)


def test_a_sick_backend_is_judged_by_its_answer(lab, backends):
    sickness = backends.folder("web-3") / "sick"
    sickness.touch()
    wait_state(lab, "down", "https/web-3", "dns/web-3", "udp/web-3")
    assert said(lab, "web-3") == {
        "tcp": "ok",
        "https": "status 503",
        "dns": "rcode SERVFAIL",
        "icmp": "ok",
        "udp": "unexpected answer",
    }
    sickness.unlink()
    wait_healthy(lab)


def test_a_certificate_that_is_not_trusted_takes_a_backend_down_if_it_is_verified(lab, backends):
    config = lab.config()
    check = {"https": {**CHECKS["https"]["https"], "verify": True}, "interval": "200ms", "fall": 2}
    config["services"] = [{**config["services"][0], "health_check": check}]
    assert lab.apply(config).returncode == 0
    wait_state(lab, "down", *(f"web/{name}" for name in BACKENDS))
    wait_until(
        lambda: {*health(lab).values()} == {"certificate: self-signed certificate"},
        "every certificate to be refused",
    )
