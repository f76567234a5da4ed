"""S3-compatible object storage, by the client that is in pyarrow: for the source `s3://`, and for `ship`.

DuckDB's httpfs is not used: its extension belongs to one version of DuckDB and is fetched from the network, and a query
that reads a bucket fails in its middle when the bucket goes away. Objects are copied, whole, before anything is asked.

Credentials come the usual way: `AWS_ACCESS_KEY_ID` and the others, a profile (`AWS_PROFILE`), a web identity, the
machine's role. `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` name another service than AWS, such as MinIO.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from otel_agentperf.errors import SourceError, UsageError

if TYPE_CHECKING:
    from pyarrow.fs import S3FileSystem

SCHEME: Final = "s3"
ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")

ATTEMPTS: Final = 3
"""Times that a request is sent before it is given up."""

CONNECT_TIMEOUT_S: Final = 10.0
REQUEST_TIMEOUT_S: Final = 60.0

_PARAMETERS: Final = frozenset(("endpoint", "region"))


@dataclass(slots=True, frozen=True)
class Place:
    """`s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]`."""

    url: str
    """Without the query."""
    bucket: str
    prefix: str
    """Without slashes at its ends; it may hold a glob."""
    endpoint: str | None = None
    region: str | None = None

    @classmethod
    def parse(cls, url: str) -> "Place":
        """Take a URL apart.

        Raises:
            UsageError: it names no bucket, holds credentials, or has other parameters.
        """
        # A question mark of a glob is one character, not the beginning of a query.
        plain, mark, query = url.rpartition("?")
        if not mark or not all(part.partition("=")[0] in _PARAMETERS for part in query.split("&")):
            plain, query = url, ""
        parts = urlsplit(plain.replace("?", "%3F").replace("#", "%23"))
        if "@" in parts.netloc:
            raise UsageError("no credentials in an s3:// URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if parts.scheme.lower() != SCHEME or not parts.netloc:
            raise UsageError(f"{url} names no bucket: s3://BUCKET/PREFIX")
        told = {name: values[-1] for name, values in parse_qs(query).items()}
        prefix = parts.path.strip("/").replace("%3F", "?").replace("%23", "#")
        return cls(
            f"{SCHEME}://{parts.netloc}{'/' + prefix if prefix else ''}",
            parts.netloc,
            prefix,
            told.get("endpoint"),
            told.get("region"),
        )

    def key(self, *names: str) -> str:
        """The path of an object below it, as pyarrow has it."""
        return "/".join(part for part in (self.bucket, self.prefix, *names) if part)

    def connect(self) -> "S3FileSystem":
        """A client.

        Raises:
            SourceError: pyarrow was built without one.
            UsageError: the endpoint is no URL.
        """
        try:
            from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem
        except ImportError as problem:
            raise SourceError(
                "this pyarrow was built without S3; install the one from PyPI (pip install --force-reinstall pyarrow)"
            ) from problem
        endpoint = self.endpoint or _first(ENDPOINT_VARIABLES)
        scheme, host = "https", None
        if endpoint is not None:
            parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
            if parts.scheme not in ("http", "https") or not parts.netloc:
                raise UsageError(f"the endpoint of S3 is a URL such as http://127.0.0.1:9000, not {endpoint!r}")
            scheme, host = parts.scheme, parts.netloc
        return S3FileSystem(
            region=self.region or _first(REGION_VARIABLES) or ("us-east-1" if host else None),
            scheme=scheme,
            endpoint_override=host,
            connect_timeout=CONNECT_TIMEOUT_S,
            request_timeout=REQUEST_TIMEOUT_S,
            retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        )

    def has_bucket(self, client: "S3FileSystem") -> bool:
        """Whether the bucket is there; raises OSError when nobody answers."""
        from pyarrow.fs import FileType

        return bool(client.get_file_info(self.bucket).type != FileType.NotFound)

    @contextmanager
    def told(self, doing: str) -> Iterator[None]:
        """Turn what the client raises into one line.

        Args:
            doing: such as `read`.
        """
        try:
            yield
        except OSError as problem:
            raise SourceError(f"cannot {doing} {self.url}: {reason(problem)}") from problem


def reason(problem: OSError) -> str:
    """Why a request to a bucket failed, in few words."""
    text = str(problem)
    for sign, words in (
        ("ACCESS_DENIED", "access denied; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_PROFILE"),
        ("InvalidAccessKeyId", "the access key is not known there"),
        ("SignatureDoesNotMatch", "the secret key is wrong"),
        ("NO_SUCH_BUCKET", "no such bucket"),
        ("NO_SUCH_KEY", "no such object"),
        ("NETWORK_CONNECTION", "no connection to the service"),
        ("Timeout", "the service does not answer"),
    ):
        if sign in text:
            return words
    return text.splitlines()[0][:300] if text else type(problem).__name__


def _first(variables: tuple[str, ...]) -> str | None:
    return next((value for name in variables if (value := os.environ.get(name))), None)
