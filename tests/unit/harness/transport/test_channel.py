"""Messages arrive whole, with their arrays and open files, or not at all."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from harness.transport.channel import Channel, ChannelClosedError, ChannelTimeoutError


def _pair() -> tuple[Channel, Channel]:
    ours, theirs = Channel.pair()
    return ours, Channel(theirs)


def test_header_and_arrays_survive_bit_by_bit() -> None:
    ours, theirs = _pair()
    rng = np.random.default_rng(1)
    arrays = {
        "scores": rng.normal(size=(300_000, 2)).astype(np.float32),
        "stamps": rng.integers(0, 2**62, 1000),
        "none": np.zeros((0, 3)),
        "strided": np.arange(10)[::3],
    }
    sender = threading.Thread(target=ours.send, args=({"command": "x", "value": 1.5}, arrays))
    sender.start()
    header, received = theirs.receive(5.0)
    sender.join()
    assert header == {"command": "x", "value": 1.5}
    for name, array in arrays.items():
        assert received[name].dtype == array.dtype
        np.testing.assert_array_equal(received[name], array)


def test_a_closed_end_is_an_error_on_both_sides() -> None:
    ours, theirs = _pair()
    theirs.close()
    with pytest.raises(ChannelClosedError):
        ours.receive(1.0)
    with pytest.raises(ChannelClosedError):
        ours.send({"much": "x" * 1_000_000})


def test_half_a_message_times_out() -> None:
    ours, theirs = _pair()
    theirs.sock.sendall(b"\x10\x00\x00\x00{")
    with pytest.raises(ChannelTimeoutError):
        ours.receive(0.05)


def test_objects_are_never_unpickled() -> None:
    ours, theirs = _pair()
    text = b'{"arrays": [["a", "|O", [1]]]}'
    theirs.sock.sendall(len(text).to_bytes(4, "little") + text)
    with pytest.raises(ValueError, match="has the type"):
        ours.receive(1.0)


def test_open_files_are_handed_over() -> None:
    ours, theirs = _pair()
    take, put = os.pipe()
    ours.send({"n": 1})
    ours.send_descriptors([put])
    theirs.receive(1.0)
    (received,) = theirs.receive_descriptors(1)
    os.close(put)
    os.write(received, b"hello")
    os.close(received)
    assert os.read(take, 100) == b"hello"
    assert os.read(take, 100) == b""
    os.close(take)
