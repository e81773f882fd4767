"""Runs in the network of a machine of the stage, which has no other way out: hands connections to sockets of its host.

Arguments: ADDRESS:PORT=SOCKET for each place that is listened at; an address that the machine does not have is given to it.
"""

import fcntl
import socket
import struct
import sys
import threading

# linux/sockios.h
SET_ADDRESS, SET_MASK, SET_FLAGS = 0x8916, 0x891C, 0x8914
UP = 1


def give(address: str, number: int) -> None:
    """Gives the loopback interface one more address."""
    name = f"lo:{number}".encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in ((SET_ADDRESS, address), (SET_MASK, "255.255.255.255")):
            place = struct.pack("<HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(control, request, struct.pack("16s16s", name, place))
        fcntl.ioctl(control, SET_FLAGS, struct.pack("16sh14x", name, UP))


def copy(source: socket.socket, target: socket.socket) -> None:
    """Hands on bytes until there are no more."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, target):
            one.close()


def serve(listener: socket.socket, path: str) -> None:
    """Leads each connection to a socket of the host."""
    while True:
        client, _ = listener.accept()
        other = socket.socket(socket.AF_UNIX)
        try:
            other.connect(path)
        except OSError:
            client.close()
            continue
        for ends in ((client, other), (other, client)):
            threading.Thread(target=copy, args=ends, daemon=True).start()


def main() -> None:
    """Listens everywhere, then says so and goes on for good."""
    threads = []
    for number, word in enumerate(sys.argv[1:]):
        place, _, path = word.partition("=")
        host, _, port = place.rpartition(":")
        if not host.startswith("127."):
            give(host, number)
        listener = socket.create_server((host, int(port)), backlog=128)
        threads.append(threading.Thread(target=serve, args=(listener, path)))
    for thread in threads:
        thread.start()
    print("ready", flush=True)


main()
