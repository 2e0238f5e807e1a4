"""Send random bytes through a tunnel, both ways, and compare the digests of what came with those of what was sent.

    transfer.py serve PORT
    transfer.py connect ADDRESS PORT SIZE FROM       FROM: an interface, or an address of this end

On a connection the client sends the size (8 bytes, network order) and as many bytes; the server answers with the
SHA-256 of what it got, then as many bytes of its own, then their SHA-256.

The server writes "ready" when it listens. The client writes "moved TO_SERVER TO_CLIENT" now and then, in bytes, and at
its end "ended TO_SERVER TO_CLIENT intact" or "... damaged"; its status is 0 when all came and is intact.
"""

import hashlib
import ipaddress
import os
import socket
import struct
import sys
import threading

CHUNK = 1 << 16
TOLD_EVERY = 1 << 19
STALLED_S = 20.0
DIGEST = hashlib.sha256().digest_size


def send(connection: socket.socket, size: int, count: list[int]) -> bytes:
    """Send random bytes and return their digest; `count[0]` grows as they go."""
    digest = hashlib.sha256()
    while count[0] < size:
        chunk = os.urandom(min(CHUNK, size - count[0]))
        digest.update(chunk)
        connection.sendall(chunk)
        count[0] += len(chunk)
    return digest.digest()


def receive(connection: socket.socket, size: int, count: list[int]) -> bytes:
    """Receive so many bytes and return their digest; `count[0]` grows as they come.

    Raises ConnectionError when the other end closes before.
    """
    digest = hashlib.sha256()
    while count[0] < size:
        chunk = connection.recv(min(CHUNK, size - count[0]))
        if not chunk:
            raise ConnectionError("closed by the other end")
        digest.update(chunk)
        count[0] += len(chunk)
    return digest.digest()


def exactly(connection: socket.socket, size: int) -> bytes:
    """Receive so many bytes and return them."""
    got = b""
    while len(got) < size:
        chunk = connection.recv(size - len(got))
        if not chunk:
            raise ConnectionError("closed by the other end")
        got += chunk
    return got


def answer(connection: socket.socket) -> None:
    """Do the server's part on one connection."""
    with connection:
        connection.settimeout(STALLED_S)
        (size,) = struct.unpack("!Q", exactly(connection, 8))
        connection.sendall(receive(connection, size, [0]))
        connection.sendall(send(connection, size, [0]))


def serve(port: int) -> None:
    """Take connections until killed, each in a thread of its own."""
    has_both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if has_both else socket.AF_INET
    with socket.create_server(("", port), family=family, backlog=64, dualstack_ipv6=has_both) as listener:
        print("ready", flush=True)  # noqa: T201 - that is how it speaks
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()


def tell(word: str, *rest: object) -> None:
    """Write one line."""
    print(word, *rest, flush=True)  # noqa: T201 - that is how it speaks


def watch(to_server: list[int], to_client: list[int], is_over: threading.Event) -> None:
    """Tell how far it is, whenever that is news."""
    told = 0
    while not is_over.wait(0.2):
        if to_server[0] + to_client[0] - told >= TOLD_EVERY:
            told = to_server[0] + to_client[0]
            tell("moved", to_server[0], to_client[0])


def open_from(origin: str, address: str, port: int) -> socket.socket:
    """Connect from an interface, or from an address of this end."""
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    connection.settimeout(STALLED_S)
    try:
        ipaddress.ip_address(origin)
    except ValueError:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, origin.encode())
    else:
        connection.bind((origin, 0))
    connection.connect((address, port))
    return connection


def connect(address: str, port: int, size: int, origin: str) -> bool:
    """Do the client's part, and return whether all came and is intact."""
    to_server, to_client, is_over = [0], [0], threading.Event()
    watching = threading.Thread(target=watch, args=(to_server, to_client, is_over))
    watching.start()
    is_intact = False
    try:
        with open_from(origin, address, port) as connection:
            connection.sendall(struct.pack("!Q", size))
            sent = send(connection, size, to_server)
            is_intact = exactly(connection, DIGEST) == sent
            received = receive(connection, size, to_client)
            is_intact = exactly(connection, DIGEST) == received and is_intact
    except OSError as failed:
        is_intact = False
        tell("failed", failed)
    finally:
        is_over.set()
        watching.join()
    tell("ended", to_server[0], to_client[0], "intact" if is_intact else "damaged")
    return is_intact


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        sys.exit(0 if connect(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]) else 1)
