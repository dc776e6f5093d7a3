#!/usr/bin/python3
"""udp_echo.py ADDRESS PORT: answers each datagram with this backend's name, a space, and what came.

Answers leave from ADDRESS, the VIP, as a backend with direct server return must see to.
"""

import socket
import sys

name = socket.gethostname().encode()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind((sys.argv[1], int(sys.argv[2])))
    while True:
        payload, client = server.recvfrom(65535)
        server.sendto(name + b" " + payload, client)
