"""Commands of this module are registered by `register`."""

import typer


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
