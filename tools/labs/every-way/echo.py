#!/usr/bin/python3
"""echo.py PORT...: sends back what comes, by TCP and by UDP, over IPv4 and IPv6.

A TCP connection begins with a line from this end, «NAME ADDRESS PORT»: this backend and the
client as it is seen from here. A datagram is answered with the same line and what came, from the
address that it came to.
"""

import contextlib
import socket
import struct
import sys
import threading

NAME = socket.gethostname()
SO_RCVBUFFORCE = 33  # Python has no name for it


def line(client):
    address = client[0].removeprefix("::ffff:")
    return f"{NAME} {address} {client[1]}\n".encode()


def echo(connection, client):
    with connection, contextlib.suppress(OSError):
        connection.sendall(line(client))
        while piece := connection.recv(1 << 16):
            connection.sendall(piece)


def serve_tcp(port):
    family = socket.AF_INET6
    with socket.create_server(
        ("::", port), family=family, backlog=4096, dualstack_ipv6=True
    ) as server:
        while True:
            connection, client = server.accept()
            threading.Thread(target=echo, args=(connection, client), daemon=True).start()


def serve_udp(port):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)  # a burst of large ones
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        server.bind(("::", port))
        while True:
            payload, [(level, kind, info)], _, client = server.recvmsg(65535, 64)
            # To this address, so from it; by whatever device leads to the client.
            info = struct.pack("16sI", info[:16], 0)
            with contextlib.suppress(OSError):  # such as the news that a client is gone
                server.sendmsg([line(client), payload], [(level, kind, info)], 0, client)


threads = [
    threading.Thread(target=serve, args=(int(port),))
    for port in sys.argv[1:]
    for serve in (serve_tcp, serve_udp)
]
for thread in threads:
    thread.start()
