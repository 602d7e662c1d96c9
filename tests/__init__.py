"""The tests, and what the chaos trials share with them without pytest."""

import socket


def free_port() -> int:
    """A port of 127.0.0.1 that no server listens at; another program may take it before you do."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
