"""Messages out of the bytes of one direction: whole, in order, with the times of their first and last byte."""

import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from otel_agentperf_proxy.websocket_messages import Message, MessageReader

LIMIT = 1_000_000


def frame(data: bytes, opcode: int = 1, *, fin: bool = True, rsv: int = 0, masked: bool = False) -> bytes:
    """A frame by hand, as RFC 6455 5.2 draws it."""
    first = bytes([fin << 7 | rsv << 4 | opcode])
    flag = masked << 7
    if len(data) < 126:
        head = first + bytes([flag | len(data)])
    elif len(data) < 1 << 16:
        head = first + bytes([flag | 126]) + struct.pack("!H", len(data))
    else:
        head = first + bytes([flag | 127]) + struct.pack("!Q", len(data))
    if not masked:
        return head + data
    mask = b"\x37\xfa\x21\x3d"
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def reader(*extensions: str, from_client: bool = False, limit: int = LIMIT) -> MessageReader:
    return MessageReader(list(extensions), from_client=from_client, limit_bytes=limit)


def read(found: MessageReader, data: bytes, size: int | None = None) -> list[bytes]:
    """The messages of bytes fed in pieces."""
    size = size or max(len(data), 1)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return [message.data for at, piece in enumerate(pieces) for message in found.feed(at, piece)]


def test_the_examples_of_the_standard():
    """RFC 6455 5.7, and RFC 7692 7.2.3.1 and 7.2.3.2 (the second message refers to the first)."""
    assert read(reader(), bytes.fromhex("810548656c6c6f")) == [b"Hello"]
    assert read(reader(from_client=True), bytes.fromhex("818537fa213d7f9f4d5158")) == [b"Hello"]
    assert read(reader(), bytes.fromhex("010348656c80026c6f")) == [b"Hello"]
    deflated = bytes.fromhex("c107f248cdc9c90700")
    assert read(reader("permessage-deflate"), deflated) == [b"Hello"]
    assert read(reader("permessage-deflate"), bytes.fromhex("4103f248cd8004c9c90700")) == [b"Hello"]
    again = bytes.fromhex("c105f200110000")
    assert read(reader("permessage-deflate"), deflated + again) == [b"Hello", b"Hello"]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
@pytest.mark.parametrize("masked", [False, True])
def test_every_form_of_length(size, masked):
    data = os.urandom(size)
    whole = frame(data, 2, masked=masked) + frame(b"next", masked=masked)
    assert read(reader(from_client=masked), whole, 4096) == [data, b"next"]


def test_times_are_those_of_the_first_and_the_last_byte():
    found = reader()
    whole = frame(b"one") + frame(b"tw", fin=False) + frame(b"", 9) + frame(b"o", 0)
    assert found.feed(10, whole[:1]) == []
    assert found.feed(20, whole[1:6]) == [Message(10, 20, True, b"one")]
    assert found.feed(30, whole[6:-1]) == []
    assert found.feed(40, whole[-1:] + frame(b"x", 2)) == [Message(20, 40, True, b"two"), Message(40, 40, False, b"x")]


def test_a_close_frame_ends_it():
    found = reader()
    assert read(found, frame(b"a") + frame(b"\x03\xe8", 8) + frame(b"b")) == [b"a"]
    assert found.closed
    assert found.broken is None
    assert read(found, frame(b"c")) == []


def compressed(messages: list[bytes], *, takeover: bool) -> bytes:
    """Messages as a library sends them, each in two fragments."""
    encoder = PerMessageDeflate(False, not takeover, 15, 15)
    out = b""
    for data in messages:
        half = len(data) // 2
        out += Frame(Opcode.TEXT, data[:half], False).serialize(mask=True, extensions=[encoder])
        out += Frame(Opcode.CONT, data[half:], True).serialize(mask=True, extensions=[encoder])
    return out


@pytest.mark.parametrize("takeover", [False, True])
def test_compressed_messages(takeover):
    messages = [b'{"type": "response.create", "input": []}' * 100, b"", b"short", os.urandom(5000)]
    agreed = "permessage-deflate; server_no_context_takeover; client_max_window_bits=15"
    agreed += "" if takeover else "; client_no_context_takeover"
    assert read(reader(agreed, from_client=True), compressed(messages, takeover=takeover), 700) == messages


@given(
    st.lists(st.binary(max_size=300), max_size=6), st.lists(st.integers(1, 400), min_size=1, max_size=40), st.booleans()
)
def test_any_split_gives_the_same_messages(messages, sizes, deflate):
    if deflate:
        whole = compressed(messages, takeover=True)
    else:
        whole = b"".join([frame(data, masked=True) for data in messages])
    found = reader(*["permessage-deflate"] * deflate, from_client=True)
    got = []
    at = step = 0
    while at < len(whole):
        size = sizes[step % len(sizes)]
        got += [message.data for message in found.feed(step, whole[at : at + size])]
        at += size
        step += 1
    assert got == messages
    assert found.broken is None


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frame(b"x", 3), "opcode"),
        (frame(b"x", masked=True), "masking"),
        (frame(b"x", rsv=4), "reserved"),
        (frame(b"x", 0), "fragments"),
        (frame(b"x", fin=False) + frame(b"y"), "fragments"),
        (frame(b"x" * 126, 9), "control frame"),
        (frame(b"x" * (LIMIT + 1)), "exceeds limit"),
        (frame(b"x" * (LIMIT - 1), fin=False) + frame(b"xx", 0), "exceeds limit"),
        (b"HTTP/1.1 404 Not Found\r\n" * 5, "reserved"),
    ],
)
def test_what_is_no_websocket_or_too_long_is_read_no_further(data, why):
    found = reader()
    assert read(found, frame(b"before") + data + frame(b"after")) == [b"before"]
    assert why in found.broken


@pytest.mark.parametrize(
    ("extensions", "data"),
    [
        (["x-unknown"], frame(b"x")),
        (["permessage-deflate; client_max_window_bits=99"], frame(b"x", masked=True)),
        (["permessage-deflate, permessage-deflate; ="], frame(b"x")),
        (["permessage-deflate"], frame(b"no deflate", rsv=4, masked=True)),
    ],
)
def test_extensions_that_cannot_be_undone(extensions, data):
    found = reader(*extensions, from_client=True)
    assert read(found, data) == []
    assert found.broken


def test_a_compressed_bomb_is_not_blown_up():
    bomb = compressed([b"0" * 5_000_000], takeover=True)
    found = reader("permessage-deflate", from_client=True)
    assert len(bomb) < 20_000
    assert read(found, bomb) == []
    assert "exceeds limit" in found.broken


@given(st.binary(max_size=400), st.booleans(), st.booleans())
def test_hostile_bytes_never_raise(data, from_client, deflate):
    found = reader(*["permessage-deflate"] * deflate, from_client=from_client)
    for at in range(0, len(data), 7):
        found.feed(at, data[at : at + 7])
