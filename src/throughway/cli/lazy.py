"""Commands of other packages, which are imported when they are used and not before."""

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_group


class LazyCommand(TyperCommand):
    """Stand for a command of another package: listed by its help line, loaded when it is used.

    `target` is "module:attribute" and names a typer application, or a function that is one command.
    The types of the commands themselves are private to typer, hence Any.
    """

    target: str

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Hand over to the real command, which parses its own options and runs."""
        return self._real.make_context(info_name, args, parent=parent, **extra)

    @property
    def commands(self) -> Mapping[str, Any]:
        """The commands of the real one, for who walks the whole command line."""
        commands: Mapping[str, Any] = getattr(self._real, "commands", {})
        return commands

    @property
    def params(self) -> list[Any]:
        """The options of the real command."""
        return list(self._real.params)

    @params.setter
    def params(self, own: list[Any]) -> None:
        """Take none of its own: the base class sets them when it is made."""

    @cached_property
    def _real(self) -> Any:
        module, _, attribute = self.target.partition(":")
        found = getattr(import_module(module), attribute)
        above = typer.Typer(rich_markup_mode=self.rich_markup_mode)
        if isinstance(found, typer.Typer):
            above.add_typer(found, name=self.name)
        else:
            above.command(self.name)(found)
        return get_group(above).commands[str(self.name)]


def mount(app: typer.Typer, name: str, target: str, help_line: str) -> None:
    """Add the command to the application without importing it."""
    stand_in = type("LazyCommand", (LazyCommand,), {"target": target})
    app.command(name, cls=stand_in, help=help_line)(_never_called)


def _never_called() -> None:
    raise AssertionError("a lazy command was run in place of the real one")
