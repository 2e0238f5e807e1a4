"""Commands of other packages, which are imported when they are used and not before."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command


class LazyCommand(TyperCommand):
    """Stand for a command of another package: listed by its help line, loaded when it is run.

    `target` is "module:attribute" and names a typer application or a function that is one command.
    """

    target: str

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Hand over to the real command, which parses its own options and runs."""
        return self._loaded().make_context(info_name, args, parent=parent, **extra)

    @property
    def commands(self) -> Mapping[str, Any]:
        """The commands of the real one, for who walks the whole command line."""
        commands: Mapping[str, Any] = getattr(self._loaded(), "commands", {})
        return commands

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the real command."""
        return list(self._loaded().get_params(ctx))

    def _loaded(self) -> Any:
        module, _, attribute = self.target.partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            return get_command(found)
        app = typer.Typer(add_completion=False, rich_markup_mode=self.rich_markup_mode)
        app.command(self.name)(found)
        return get_command(app)


def mount(app: typer.Typer, name: str, target: str, help_line: str) -> None:
    """Add the command to the application without importing it."""
    stand_in = type("LazyCommand", (LazyCommand,), {"target": target})
    app.command(name, cls=stand_in, help=help_line)(_never_called)


def _never_called() -> None:
    raise AssertionError("a lazy command was run in place of the real one")
