"""How many queries are in flight: one number that the sender writes and the loop that keeps cores awake reads."""

from __future__ import annotations

import mmap
import os
import struct

from harness.transport.slots import create_shared, map_shared

COUNT = struct.Struct("<q")


class Flight:
    """The number, 0 at first. ``descriptor`` is what another process maps; the side that is awake is counted."""

    def __init__(self, descriptor: int | None = None) -> None:
        """``descriptor``: the memory of another one, which belongs to this object from now on; None: new memory."""
        self.descriptor = create_shared(mmap.PAGESIZE, "flight") if descriptor is None else descriptor
        self.memory = map_shared(self.descriptor, mmap.PAGESIZE)

    def set(self, count: int) -> None:
        """Write the number."""
        COUNT.pack_into(self.memory, 0, count)

    def get(self) -> int:
        """Read the number."""
        return int(COUNT.unpack_from(self.memory)[0])

    def close(self) -> None:
        """Give the memory back; others that have mapped it keep it."""
        self.memory.close()
        os.close(self.descriptor)
