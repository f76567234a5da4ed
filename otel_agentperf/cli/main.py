"""The command `otel-agentperf`: registers all commands and turns errors into one line and an exit code."""

import sys
from importlib import import_module
from typing import Annotated

import click
import typer

from otel_agentperf._version import __version__
from otel_agentperf.errors import AgentPerfError, ExitCode

app = typer.Typer(
    name="otel-agentperf",
    help="Observe LLM endpoints that serve coding agents: proxy, traces, AgentPerf metrics, replays.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"otel-agentperf {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for _module in ("serve", "simulate", "bench", "read"):
    import_module(f"otel_agentperf.cli.{_module}").register(app)


def main() -> None:
    """Entry point: no traceback for a user's mistake, exit codes of `errors.ExitCode`."""
    try:
        code = app(standalone_mode=False)
    except click.exceptions.Exit as exc:
        sys.exit(exc.exit_code)
    except click.exceptions.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except click.ClickException as exc:
        exc.show()
        sys.exit(ExitCode.USAGE)
    except AgentPerfError as exc:
        print(f"otel-agentperf: {exc}", file=sys.stderr)  # noqa: T201
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output left (`| head`): nothing is wrong, and stdout must not be flushed again.
        sys.stderr.close()
        sys.exit(ExitCode.OK)
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


if __name__ == "__main__":
    main()
