"""`throughway events`: what happened lately, and what happens."""

import json
import sys
import time
from typing import Annotated, Final

import typer

from throughway.cli.asking import GatewayOption, ended_by_interrupt, explained
from throughway.cli.human import printable
from throughway.control.client import ControlClient, choose_gateway
from throughway.control.errors import DaemonAbsent, DaemonSilent
from throughway.control.event_schema import EventPage, HappenedEvent

EVERY_S: Final = 0.25
"""Between two questions while nothing happens."""


def events(
    gateway: GatewayOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what happens, until Ctrl-C.")] = False,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="Begin behind this event, as --json tells its cursor.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs, one event a line.")] = False,
) -> None:
    """Print what happened lately.

    That is what the daemon told of tunnels and sessions, the oldest first; it keeps the last 4,096 events.
    Where some were missed, a line says how many. With --follow, a daemon that
    is restarted is waited for.
    """
    with explained(), ended_by_interrupt():
        name = choose_gateway(gateway)
        after = _print_all(name, after, as_json)
        while follow:
            time.sleep(EVERY_S)
            try:
                after = _print_all(name, after, as_json)
            except (DaemonAbsent, DaemonSilent):
                continue


def _print_all(gateway: str, after: str | None, as_json: bool) -> str:
    """Print all that there is behind a cursor, and return the cursor behind it."""
    with ControlClient.of_gateway(gateway) as client:
        while True:
            page = client.events(after)
            _print_missed(page, as_json)
            for event in page.events:
                line = json.dumps(event.to_json(), separators=(",", ":")) if as_json else _line(event)
                sys.stdout.write(line + "\n")
            sys.stdout.flush()
            after = page.next
            if not page.has_more:
                return after


def _print_missed(page: EventPage, as_json: bool) -> None:
    """Say what is missing before this page. In JSON it is an event of its own, without a cursor."""
    if not page.missed and not page.is_other_run:
        return
    if as_json:
        missed = None if page.is_other_run else page.missed
        sys.stdout.write(json.dumps({"name": "events.missed", "fields": {"count": missed}}) + "\n")
    elif page.is_other_run:
        sys.stdout.write("(the daemon was started anew; what it told before that is gone)\n")
    else:
        sys.stdout.write(f"({page.missed:,} events were missed: they came faster than they were read)\n")


def _line(event: HappenedEvent) -> str:
    words = " ".join(f"{key}={_word(value)}" for key, value in event.fields.items())
    return printable(f"{event.at}  {event.name:<22} {words}".rstrip())


def _word(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text else text
