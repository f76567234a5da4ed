"""`ship`: sealed segments of a store as Parquet in a bucket."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otel_agentperf.cli.common import console
from otel_agentperf.errors import ExitCode

if TYPE_CHECKING:
    from otel_agentperf_analyzers.shipping import Shipped

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(ship)


def ship(
    store: Annotated[
        Path | None,
        typer.Argument(
            metavar="STORE",
            help="A store directory. Default: `$OTEL_AGENTPERF_STORE`, else `./agentperf-store`.",
            show_default=False,
        ),
    ] = None,
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="s3://BUCKET/PREFIX",
            help="Where to. Credentials and endpoint as for any S3 client: `AWS_ACCESS_KEY_ID`, `AWS_PROFILE`, "
            "`AWS_ENDPOINT_URL` and so on.",
        ),
    ],
    every: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=1.0, help="Go on, and look for new segments this often. Else once."),
    ] = None,
) -> None:
    """Send sealed segments of a store to S3-compatible storage, as Parquet by day and hour.

    A segment that was sent is noted in the store and not sent again; one that was interrupted is sent again, under the
    same names. Reading commands take the bucket as a SOURCE. Run it beside a proxy, on any machine that sees the store.

    Example:

        otel-agentperf ship agentperf-store --to s3://traces/agentperf --every 60
    """
    import time

    from otel_agentperf_analyzers.shipping import Shipper
    from otel_agentperf_analyzers.sources.bucket import Place

    directory = store if store is not None else Path(os.environ.get("OTEL_AGENTPERF_STORE") or "agentperf-store")
    shipper = Shipper(directory, Place.parse(to))
    while True:
        done = shipper.run()
        if every is None or done.segments or done.failed:
            _tell(done)
        if every is None:
            break
        time.sleep(every)
    if done.failed:
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _tell(done: "Shipped") -> None:
    words = f"shipped {done.segments} segments, {done.spans:,} spans in {done.objects} objects, {done.bytes:,} bytes"
    if done.retries:
        words += f", {done.retries} retries"
    console.print(words, soft_wrap=True, markup=False)
    if done.failed:
        console.print(f"{done.failed} segments were not shipped: {done.problem}", soft_wrap=True, markup=False)
    if done.skipped.lines:
        console.print(f"skipped {done.skipped.lines} unreadable lines, the first is {done.skipped.examples[0]}")
