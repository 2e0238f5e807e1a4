"""The commands of `throughway protocols`. What needs rich is imported by the command that shows it."""

import json
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from throughway.cli.asking import GatewayOption, JsonOption, explained
from throughway.control.protocols_schema import Changed, Position, Protocols
from throughway.protocols.asking import Asked, Wish, asking

app = typer.Typer(
    help="The VPN protocols that are known, and a switch for each.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="ID", help="A protocol or a family, as `list` names them.")]
Device = Annotated[str | None, typer.Option(metavar="ADDR", help="For this device only, by its inside address.")]
Peer = Annotated[str | None, typer.Option(metavar="ADDR", help="For this peer only.")]


@app.command("list")
def list_(gateway: GatewayOption = None, as_json: JsonOption = False) -> None:
    """List the protocols with their switches."""
    with explained(), asking(gateway) as asked:
        found = asked.protocols()
        if as_json:
            return typer.echo(json.dumps(found.to_json(), indent=2))
        from throughway.protocols.view import show_list  # noqa: PLC0415 - rich

        return show_list(found, asked.note)


@app.command()
def show(name: Name, gateway: GatewayOption = None, as_json: JsonOption = False) -> None:
    """Tell all about a protocol, or about those of a family."""
    from throughway.protocols.view import chosen, show_one  # noqa: PLC0415 - rich

    with explained(), asking(gateway) as asked:
        found = asked.protocols()
        rows = chosen(name, found)
        if not rows:
            raise _unknown(name, found)
        if as_json:
            return typer.echo(json.dumps({"protocols": [row.to_json() for row in rows]}, indent=2))
        return show_one(name, found, asked.note)


@app.command()
def enable(
    name: Name, device: Device = None, peer: Peer = None, gateway: GatewayOption = None, as_json: JsonOption = False
) -> None:
    """Switch a protocol or a family on."""
    _set(name, Position.ON, device, peer, gateway, as_json)


@app.command()
def disable(
    name: Name, device: Device = None, peer: Peer = None, gateway: GatewayOption = None, as_json: JsonOption = False
) -> None:
    """Switch a protocol or a family off, for running flows too.

    What is known by its IP protocol is blocked by it, all else when it is recognised, whatever its port. The device is
    answered: by a reset on TCP, else by ICMP "administratively prohibited".
    """
    _set(name, Position.OFF, device, peer, gateway, as_json)


@app.command()
def unassisted(
    name: Name, device: Device = None, peer: Peer = None, gateway: GatewayOption = None, as_json: JsonOption = False
) -> None:
    """Leave a protocol to the plain kernel: on, but with neither Throughway's own NAT nor the kernel's helper."""
    _set(name, Position.UNASSISTED, device, peer, gateway, as_json)


@app.command()
def reset(
    name: Name, device: Device = None, peer: Peer = None, gateway: GatewayOption = None, as_json: JsonOption = False
) -> None:
    """Take back what was set, for all or for a device or peer: what is less specific holds again, or the default."""
    _set(name, None, device, peer, gateway, as_json)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A protocol's file (docs/protocols.md).")],
    gateway: GatewayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a protocol of your own by its file. It is recognised from then on, and has a switch."""
    with explained(), asking(gateway) as asked:
        changed = asked.add(file)
        _tell(asked, changed, f"{changed.name} is added, and on unless its file says otherwise.", as_json)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="ID", help="A protocol that was added.")],
    gateway: GatewayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a protocol of your own, and what is set of its switch."""
    with explained(), asking(gateway) as asked:
        _tell(asked, asked.remove(name), f"{name} is removed.", as_json)


def _set(
    name: str, position: Position | None, device: str | None, peer: str | None, gateway: str | None, as_json: bool
) -> None:
    with explained(), asking(gateway) as asked:
        changed = asked.switch(name, position, device, peer)
        place = " for " + (f"{device} with {peer}" if device and peer else f"{device or f'peer {peer}'}")
        where = place if device or peer else ""
        words = f"{name} is {position.value}{where}." if position else f"What was set of {name}{where} is taken back."
        _tell(asked, changed, words, as_json)
        if position and not where and not as_json:
            for line in _left(name, position, asked.protocols()):
                typer.echo(line)


def _left(name: str, position: Position, found: Protocols) -> Iterator[str]:
    """Say what stands otherwise than a switch that was set for all, because something more specific was set."""
    rows = [row for row in found.protocols if name in (row.id, row.family)]
    for row in rows:
        if row.position is not position:
            yield f"Not {row.id}, which is {row.position.value} by itself: `throughway protocols reset {row.id}`."
    names = {word for row in rows for word in (row.id, row.family)}
    for one in found.overrides:
        if one.name in names and one.position is not position:
            place = "".join(f" --{key} {to}" for key, to in (("device", one.device), ("peer", one.peer)) if to)
            yield (
                f"Not for {' with '.join(filter(None, (one.device, one.peer)))}, where {one.name} is "
                f"{one.position.value}: `throughway protocols reset {one.name}{place}`."
            )


def _tell(asked: Asked, changed: Changed, words: str, as_json: bool) -> None:
    if as_json:
        return typer.echo(json.dumps(changed.to_json(), indent=2))
    counts = [
        f"{count} running {'flow is' if count == 1 else 'flows are'} {what}"
        for count, what in ((changed.blocked, "blocked"), (changed.lifted, "blocked no more"))
        if count
    ]
    typer.echo(" ".join([words, *(f"{count[0].upper()}{count[1:]}." for count in counts)]))
    if asked.note:
        typer.echo(asked.note)
    return None


def _unknown(name: str, found: Protocols) -> Wish:
    names = sorted({word for row in found.protocols for word in (row.id, row.family)})
    near = get_close_matches(name, names, 1)
    return Wish(
        f"there is no protocol or family {name!r}",
        f"did you mean {near[0]}?" if near else "`throughway protocols list` names all",
    )
