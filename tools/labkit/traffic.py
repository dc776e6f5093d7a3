"""Real clients: what the demonstration and the tests send through a lab."""

import collections
import contextlib
import dataclasses
import hashlib
import http.client
import ipaddress
import itertools
import math
import random
import socket
import threading
import time

from .wait import wait_until

VIP = "198.51.100.10"

# Where connections come from: every address of the client in turn, and then the next port. One
# address alone would soon use its ports again, and a balancer remembers connections for a while.
_ADDRESSES = [str(address) for address in ipaddress.ip_network("203.0.113.128/25")]
_PORTS = range(10000, 60000)
_connections = itertools.count(random.randrange(len(_ADDRESSES) * len(_PORTS)))
HTTP_PORT = 80
ECHO_PORT = 7


@dataclasses.dataclass
class Reply:
    """What came of one request. No backend: it failed, by `error`."""

    backend: str | None
    status: int = 0
    body: bytes = b""
    error: str = ""
    began: float = 0.0  # by time.monotonic()


def connect(lab, port=HTTP_PORT, timeout_s=5):
    """A TCP connection to the VIP, from an address and port that were not used for long."""
    turn, address = divmod(next(_connections), len(_ADDRESSES))
    source = (_ADDRESSES[address], _PORTS[turn % len(_PORTS)])
    with lab.inside("client"):
        return socket.create_connection((VIP, port), timeout_s, source)


@contextlib.contextmanager
def session(lab, timeout_s=5):
    """One connection to a backend, for any number of requests; `ask` makes one."""
    connection = http.client.HTTPConnection(VIP, timeout=timeout_s)
    connection.sock = connect(lab, timeout_s=timeout_s)
    connection.auto_open = 0  # never a second connection behind the caller's back
    try:
        yield connection
    finally:
        connection.close()


def ask(connection, path="/", method="GET", body=None, headers=None):
    """One request over a session; raises OSError or HTTPException."""
    began = time.monotonic()
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return Reply(response.getheader("X-Backend"), response.status, response.read(), began=began)


def get(lab, path="/", timeout_s=5):
    """One request over a connection of its own. Never raises: a failure is a Reply too."""
    began = time.monotonic()
    try:
        with session(lab, timeout_s) as connection:
            reply = ask(connection, path, headers={"Connection": "close"})
            return dataclasses.replace(reply, began=began)
    except (OSError, http.client.HTTPException) as error:
        return Reply(None, error=f"{type(error).__name__}: {error}", began=began)


def echo(lab, payload=b"?", timeout_s=2):
    """One datagram to the echo service from a new port; (the backend's name, what it sent back)."""
    with lab.inside("client"):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(timeout_s)
        client.connect((VIP, ECHO_PORT))  # takes answers from the VIP alone
        client.send(payload)
        backend, _, rest = client.recv(65535).partition(b" ")
        return backend.decode(), rest


def spread(replies):
    """Counter of replies by backend; failed ones under None."""
    return collections.Counter(reply.backend for reply in replies)


def unfair(counts, weights):
    """What in `counts` does not go by `weights`, {backend: weight}: sentences, none if all is fair.

    Allows five standard deviations of chance, and the table 1 % of unevenness.
    """
    requests, total = sum(counts.values()), sum(weights.values())
    complaints = [f"{name} got requests" for name in counts if name not in weights]
    for name, weight in weights.items():
        share = weight / total
        fair = requests * share
        allowed = 5 * math.sqrt(fair * (1 - share)) + 0.01 * fair
        if abs(counts[name] - fair) > allowed:
            complaints.append(f"{name} got {counts[name]}, not {fair:.0f} ± {allowed:.0f}")
    return complaints


class Download(threading.Thread):
    """A download in the background. `backend` is known once it is constructed; when it has ended,
    `digest` is the SHA-256 of what came, or `error` says what went wrong.

    With a `pace`, in bytes a second, it is slow and cannot end until `finish` is called: half of
    the file is left for then.
    """

    def __init__(self, lab, path, pace=None):
        super().__init__(daemon=True)
        self._pace = pace
        self._fast = threading.Event()
        self._connection = http.client.HTTPConnection(VIP)
        self._connection.sock = connect(lab)
        self._connection.request("GET", path)
        self._response = self._connection.getresponse()
        self.backend = self._response.getheader("X-Backend")
        self.received = 0
        self.digest = None
        self.error = ""
        self.start()

    def run(self):
        digest = hashlib.sha256()
        length = self._response.length
        try:
            while piece := self._response.read(1 << 16):
                digest.update(piece)
                self.received += len(piece)
                if self._pace:
                    first_half = self.received < length / 2
                    self._fast.wait(len(piece) / self._pace if first_half else None)
            self.digest = digest.hexdigest()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.error = f"{type(error).__name__}: {error}"

    def finish(self):
        """Lets it go on as fast as it can, and waits for its end."""
        self._fast.set()
        self.join()

    def cancel(self):
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
        self.finish()
        self._connection.close()


class Load:
    """New connections, one request each, from several threads for as long as the block lasts. A
    connection that gets no answer within `timeout_s` has failed."""

    def __init__(self, lab, threads=2, pause_s=0.002, timeout_s=1.0):
        self._lab = lab
        self._pause_s = pause_s
        self._timeout_s = timeout_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self.replies = []  # in the order of their end; only ever grows

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def since(self, moment):
        """The replies to connections that were opened after `moment`."""
        return [reply for reply in list(self.replies) if reply.began > moment]

    def failures(self):
        return [reply for reply in list(self.replies) if reply.status != 200]

    def wait_for(self, count, deadline_s=10):
        """Waits for `count` replies to connections opened from now on, and returns them."""
        now = time.monotonic()
        wait_until(lambda: len(self.since(now)) >= count, f"{count} replies", deadline_s)
        return self.since(now)

    def _run(self):
        while not self._over.wait(self._pause_s):
            self.replies.append(get(self._lab, timeout_s=self._timeout_s))
