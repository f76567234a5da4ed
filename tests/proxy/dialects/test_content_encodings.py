"""Content codings undone in pieces, and what hostile data does to them: nothing worse than `broken`."""

import gzip
import random
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_agentperf_proxy.dialects.encodings import TOO_LARGE, Brotli, Decoder, Zlib, Zstandard, decoder

TEXT = b"".join(b"data: {%d}\n\n" % index for index in range(2000))


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


ENCODED = {
    "identity": ("", TEXT),
    "gzip": ("gzip", gzip.compress(TEXT)),
    "x-gzip": ("X-GZIP", gzip.compress(TEXT)),
    "gzip members": ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(b"") + gzip.compress(TEXT[100:])),
    "gzip padded": ("gzip", gzip.compress(TEXT) + b"\0" * 20),
    "deflate zlib": ("deflate", zlib.compress(TEXT)),
    "deflate raw": ("deflate", raw_deflate(TEXT)),
    "br": ("br", brotli.compress(TEXT)),
    "zstd": ("zstd", zstandard.compress(TEXT)),
    "zstd frames": ("zstd", zstandard.compress(TEXT[:100]) + zstandard.compress(TEXT[100:])),
    "two codings": ("gzip, zstd", zstandard.compress(gzip.compress(TEXT))),
}


def make(name: str) -> Decoder:
    found = decoder(name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", ENCODED)
@pytest.mark.parametrize("size", [1, 2, 3, 100, 1_000_000])
def test_pieces_of_any_size_decode(name: str, size: int) -> None:
    encoding, data = ENCODED[name]
    found = make(encoding)
    assert b"".join(found.feed(data[index : index + size]) for index in range(0, len(data), size)) == TEXT
    assert found.broken is None


def test_output_comes_with_the_bytes_that_complete_it() -> None:
    gz, br, zstd = zlib.compressobj(wbits=31), brotli.Compressor(), zstandard.ZstdCompressor().compressobj()
    of_gz, of_br, of_zstd = make("gzip"), make("br"), make("zstd")
    for word in (b"one", b"two"):
        assert of_gz.feed(gz.compress(word) + gz.flush(zlib.Z_SYNC_FLUSH)) == word
        assert of_br.feed(br.process(word) + br.flush()) == word
        assert of_zstd.feed(zstd.compress(word) + zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)) == word


def test_an_unknown_coding_has_no_decoder() -> None:
    assert decoder("compress") is None
    assert decoder("gzip, rot13") is None


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, zstd"])
def test_broken_data_is_noted_once_and_gives_nothing_more(encoding: str) -> None:
    found = make(encoding)
    found.feed(b"\xff\xfe\xfd\xfc this is nothing of the kind")
    assert found.broken is not None
    assert found.feed(gzip.compress(TEXT)) == b""


@given(data=st.binary(max_size=200), cut=st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_no_data_makes_a_decoder_raise(data: bytes, cut: int) -> None:
    for encoding, sample in ENCODED.values():
        found = make(encoding)
        found.feed(data)
        damaged = make(encoding)
        damaged.feed(sample[:cut] + data)
        damaged.feed(sample[cut:])


@pytest.mark.parametrize("kind", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_breaks_the_decoder_before_it_fills_the_memory(kind: str) -> None:
    limit = 1_000_000
    bomb = b"\0" * (20 * limit)
    found: Decoder
    match kind:
        case "gzip":
            found, data = Zlib(gzip=True, limit=limit), gzip.compress(bomb)
        case "deflate":
            found, data = Zlib(gzip=False, limit=limit), zlib.compress(bomb)
        case "br":
            found, data = Brotli(brotli, limit=limit), brotli.compress(bomb)
        case _:
            found, data = Zstandard(limit=limit), zstandard.compress(bomb)
    assert found.feed(data) == b""
    assert found.broken == TOO_LARGE


def test_the_limit_is_per_call() -> None:
    noise = random.Random(1).randbytes(3000)
    data = gzip.compress(noise, 0)
    found = Zlib(gzip=True, limit=2000)
    assert found.feed(data[:1500]) + found.feed(data[1500:]) == noise
    assert found.broken is None
