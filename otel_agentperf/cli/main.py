"""The command `otel-agentperf`: registers all commands and turns errors into one line and an exit code."""

import sys
from importlib import import_module
from typing import Annotated, Any, Final

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


for _module in ("demo", "serve", "simulate", "bench", "export", "ship", "read", "watch", "doctor", "clickhouse"):
    import_module(f"otel_agentperf.cli.{_module}").register(app)


_Mistake: Final[type[Exception]] = next(kind for kind in typer.BadParameter.mro() if kind.__name__ == "ClickException")
"""Base of what a wrong command line raises. It is click's, or of the click inside Typer, by Typer's version."""


def main() -> None:
    """Entry point: one line for a user's mistake and no traceback, exit codes of `errors.ExitCode`."""
    try:
        code = app(prog_name="otel-agentperf", standalone_mode=False)
    except typer.Exit as exc:
        sys.exit(exc.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)
    except AgentPerfError as exc:
        _say(str(exc))
        sys.exit(exc.exit_code)
    except _Mistake as exc:
        _say_mistake(exc)
        sys.exit(ExitCode.USAGE)
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _say_mistake(exc: Any) -> None:
    # Without arguments the help has been printed by now.
    if type(exc).__name__ != "NoArgsIsHelpError":
        command = exc.ctx.command_path if exc.ctx is not None else app.info.name
        words = exc.format_message().replace("\n", " ").rstrip(".")
        _say(f"{words}; see {command} --help")


def _say(words: str) -> None:
    print(f"otel-agentperf: {words}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
