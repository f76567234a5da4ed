"""`clickhouse`: what makes queries of a ClickHouse source cheaper."""

from typing import Annotated

import typer

from otel_agentperf.errors import UsageError

__all__ = ["register"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@app.callback()
def _clickhouse() -> None:
    """Prepare a ClickHouse database for the reading commands."""


@app.command()
def init(
    *,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the statements; whoever may make tables runs them.")
    ] = False,
    database: Annotated[str, typer.Option(metavar="NAME", help="Where the collector's table is.")] = "default",
    table: Annotated[str, typer.Option(metavar="NAME", help="The collector's table.")] = "otel_traces",
    name: Annotated[str, typer.Option(metavar="NAME", help="The table to make.")] = "agentperf_spans",
) -> None:
    """Print the DDL of a table that holds the spans in typed columns, filled from the collector's table by a view.

    Read it with `clickhouse+http://HOST:8123/DATABASE?table=agentperf_spans`: a query reads the columns that it names,
    and no maps.

    Example:

        otel-agentperf clickhouse init --print --database otel
    """
    if not print_only:
        raise UsageError("nothing is run against a server; write --print, and give the statements to clickhouse-client")
    from otel_agentperf_analyzers.clickhouse.functions import name as quoted
    from otel_agentperf_analyzers.clickhouse.spans import typed_table

    statements = typed_table(f"{quoted(database)}.{quoted(name)}", f"{quoted(database)}.{quoted(table)}")
    typer.echo("\n\n".join(f"{statement};" for statement in statements))


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app, name="clickhouse")
