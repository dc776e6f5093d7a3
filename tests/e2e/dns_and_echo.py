#!/usr/bin/python3
"""dns_and_echo.py ADDRESS DNS_PORT ECHO_PORT: answers DNS queries and datagrams, for health probes.

To the name health.example.com it answers without an error, to all others with NXDOMAIN. Datagrams
come back behind «echo ». With a file «sick» in the current directory it says SERVFAIL and «sick ».
"""

import os
import selectors
import socket
import sys

NAME = b"\6health\7example\3com\0"


def dns(query):
    code = 2 if os.path.exists("sick") else 0 if query[12:].startswith(NAME) else 3
    return query[:2] + bytes([0x81, 0x80 | code]) + query[4:]


def echo(payload):
    return (b"sick " if os.path.exists("sick") else b"echo ") + payload


with selectors.DefaultSelector() as selector:
    for port, answer in zip(sys.argv[2:], (dns, echo)):
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((sys.argv[1], int(port)))
        selector.register(server, selectors.EVENT_READ, answer)
    while True:
        for key, _ in selector.select():
            payload, client = key.fileobj.recvfrom(65535)
            key.fileobj.sendto(key.data(payload), client)
