"""Messages between processes: a JSON header and raw little-endian arrays over a Unix stream socket. Never pickle.

Frame: uint32 header length, header (UTF-8 JSON), then the bytes of each array in the order of ``header["arrays"]``.
"""

from __future__ import annotations

import json
import math
import select
import socket
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.clock import now_ns

LENGTH = struct.Struct("<I")
DTYPES = frozenset({"<i8", "<i4", "<f4", "<f8", "|u1"})
Arrays = dict[str, npt.NDArray[Any]]


class ChannelClosedError(ConnectionError):
    """The other end is gone."""


class ChannelTimeoutError(TimeoutError):
    """No complete message arrived in time."""


class Channel:
    """One end of a socket pair. Not thread-safe."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(True)

    @staticmethod
    def pair() -> tuple[Channel, socket.socket]:
        """(this process's end, the socket to hand to a child)."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        return Channel(ours), theirs

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self.sock.fileno()

    def close(self) -> None:
        """Close this end; the other one sees ChannelClosedError."""
        self.sock.close()

    def send(self, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
        """Send one message. Raises ChannelClosedError."""
        blobs = {name: np.ascontiguousarray(array) for name, array in (arrays or {}).items()}
        listed = [[name, blob.dtype.str, list(blob.shape)] for name, blob in blobs.items()]
        text = json.dumps({**header, "arrays": listed}).encode()
        try:
            self.sock.sendall(LENGTH.pack(len(text)) + text)
            for blob in blobs.values():
                if blob.size:
                    self.sock.sendall(blob.data.cast("B"))
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChannelClosedError("the other process closed its control channel") from error

    def receive(self, timeout_s: float | None = None) -> tuple[dict[str, Any], Arrays]:
        """Wait for one message. Raises ChannelClosedError, ChannelTimeoutError, and ValueError for a malformed one."""
        deadline = None if timeout_s is None else now_ns() + int(timeout_s * 1e9)
        (length,) = LENGTH.unpack(self._exactly(LENGTH.size, deadline))
        header = json.loads(bytes(self._exactly(length, deadline)))
        if not isinstance(header, dict):
            raise ValueError("malformed message: the header is not an object")
        arrays: Arrays = {}
        for name, dtype, shape in header.pop("arrays"):
            if dtype not in DTYPES:
                raise ValueError(f"malformed message: array {name!r} has the type {dtype!r}")
            size = np.dtype(dtype).itemsize * math.prod(shape)
            arrays[name] = np.frombuffer(self._exactly(size, deadline), dtype).reshape(shape)
        return header, arrays

    def send_descriptors(self, descriptors: list[int]) -> None:
        """Hand open files to the process at the other end."""
        socket.send_fds(self.sock, [b"F"], descriptors)

    def receive_descriptors(self, count: int) -> list[int]:
        """Take ``count`` open files. Raises ChannelClosedError."""
        data, descriptors, _, _ = socket.recv_fds(self.sock, 1, count)
        if data != b"F" or len(descriptors) != count:
            raise ChannelClosedError("expected open files on the control channel")
        return list(descriptors)

    def _exactly(self, size: int, deadline_ns: int | None) -> bytearray:
        data = bytearray(size)
        view, position = memoryview(data), 0
        while position < size:
            if deadline_ns is not None:
                remaining = (deadline_ns - now_ns()) * 1e-9
                if remaining <= 0 or not select.select([self.sock], [], [], remaining)[0]:
                    raise ChannelTimeoutError("no complete message in time")
            try:
                received = self.sock.recv_into(view[position:])
            except ConnectionResetError as error:
                raise ChannelClosedError("the other process is gone") from error
            if received == 0:
                raise ChannelClosedError("the other process closed its control channel")
            position += received
        return data
