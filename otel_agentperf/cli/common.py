"""What all commands share: the console for messages, addresses, and how an error ends a command."""

import logging

from rich.console import Console

from otel_agentperf.errors import UsageError

__all__ = ["configure_logging", "console", "parse_address"]

console = Console(stderr=True, highlight=False)
"""Messages and progress; stdout belongs to data."""


def parse_address(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`; an IPv6 host is written in brackets, port 0 takes a free one.

    Raises:
        UsageError: not an address.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"not an address: {text!r}; write HOST:PORT, for example 127.0.0.1:4000")
    return host.strip("[]"), int(port)


def configure_logging(level: int = logging.INFO) -> None:
    """Our own messages as lines on stderr; of libraries only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for name in ("otel_agentperf", "otel_agentperf_proxy"):
        logging.getLogger(name).setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
