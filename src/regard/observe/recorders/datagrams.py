"""Curves as a stream of JSON datagrams that nobody needs to receive."""

import math
import socket
from collections.abc import Mapping
from typing import Any

import orjson

from regard._errors import ArgumentError
from regard.observe.recorders.curves import STEP_COLUMN

__all__ = ["DatagramStream"]

_LARGEST = 8192  # bytes; macOS sends no datagram above 9216


class DatagramStream:
    """Send the values of each step over UDP: flat JSON objects, each with the step and as many curves as one may hold.

    What cannot be sent is dropped at once: who listens late, not at all or too slowly does not hold up anything.

    Args:
        address: ``"host:port"``, such as ``"127.0.0.1:9870"`` or ``"[::1]:9870"``.

    Attributes:
        num_lost: datagrams that this machine refused to send; what is lost on the way nobody knows.

    Raises:
        ArgumentError: the address is not of that form, or its host is not known.
    """

    def __init__(self, address: str) -> None:
        family, self._target = _resolved(address)
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self.num_lost = 0

    def send(self, step: int, curves: Mapping[str, float]) -> None:
        """Send the values of one step; those that JSON lacks, NaN and infinity, are left out."""
        start = b'{"%s":%d' % (STEP_COLUMN.encode(), step)
        packed = bytearray(start)
        for name, value in curves.items():
            if not math.isfinite(value):
                continue
            item = b",%s:%.9g" % (orjson.dumps(name), value)
            if len(packed) > len(start) and len(packed) + len(item) + 1 > _LARGEST:
                self._send(packed)
                packed = bytearray(start)
            packed += item
        if len(packed) > len(start):
            self._send(packed)

    def close(self) -> None:
        """Give back the socket; closing twice is harmless."""
        self._socket.close()

    def _send(self, packed: bytearray) -> None:
        try:
            self._socket.sendto(packed + b"}", self._target)
        except OSError:  # no route, a full queue: a live picture is worth no more than the attempt
            self.num_lost += 1


def _resolved(address: str) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """Return the family and the numbers of ``address``."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ArgumentError(f'udp must be "host:port" with a port from 1 to 65535, got {address!r}.')
    try:
        found = socket.getaddrinfo(host.removeprefix("[").removesuffix("]"), int(port), type=socket.SOCK_DGRAM)
    except OSError as error:
        raise ArgumentError(f"udp must name a host that is known here, got {address!r}: {error.strerror}.") from error
    family, _, _, _, target = found[0]
    return family, target
