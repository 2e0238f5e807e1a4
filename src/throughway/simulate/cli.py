"""`throughway simulate`: run worlds with a progress bar, and print what came out."""

import json
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from throughway.simulate.run import simulate as run_one
from throughway.simulate.score import Result
from throughway.simulate.settings import Policy, Settings


class PolicyChoice(Enum):
    """Which routers are put in the world."""

    THROUGHWAY = "throughway"
    FIFO = "fifo"
    SERIALISE = "serialise"
    ONE_PER_PEER = "one-per-peer"
    ALL = "all"


_DEFAULTS: Final = Settings()

_ROWS: Final[tuple[tuple[str, Callable[[Result], str]], ...]] = (
    ("delivered to the owner", lambda r: _percent(r.all.delivered_to_owner)),
    ("  in the first 10 s", lambda r: _percent(r.first.delivered_to_owner)),
    ("only to somebody else", lambda r: _percent(r.all.delivered_only_elsewhere)),
    ("  in the first 10 s", lambda r: _percent(r.first.delivered_only_elsewhere)),
    ("copies for each packet", lambda r: f"{r.all.copies_per_packet:.3f}"),
    ("  in the first 10 s", lambda r: f"{r.first.copies_per_packet:.3f}"),
    ("first verdicts right", lambda r: "-" if r.first_verdict_right is None else _percent(r.first_verdict_right)),
    ("SAs that never had one owner", lambda r: f"{r.never_certain:,}"),
    ("contested, median", lambda r: _seconds(r, r.contested_seconds_p50)),
    ("contested, 99th percentile", lambda r: _seconds(r, r.contested_seconds_p99)),
    ("packets dropped here", lambda r: f"{r.refused:,}"),
)


def simulate(
    hosts: Annotated[int, typer.Option(min=1, max=1_000_000, help="Devices inside.")] = _DEFAULTS.hosts,
    peers: Annotated[int, typer.Option(min=1, max=65_536, help="VPN servers outside.")] = _DEFAULTS.peers,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long the world lasts.")] = _DEFAULTS.minutes,
    seed: Annotated[int, typer.Option(help="Of all that happens by chance.")] = _DEFAULTS.seed,
    loss: Annotated[
        float, typer.Option(min=0, max=50, metavar="PERCENT", help="Packets lost between the router and a server.")
    ] = 0.0,
    policy: Annotated[
        PolicyChoice, typer.Option(help="How the router finds who owns an SPI; all compares the four.")
    ] = PolicyChoice.ALL,
    between: Annotated[
        float,
        typer.Option(
            min=0, max=100, metavar="PERCENT", help="Devices whose traffic goes to another one of the same server."
        ),
    ] = 0.0,
    periodic: Annotated[
        float, typer.Option(min=0, max=100, metavar="PERCENT", help="Devices with strictly periodic traffic.")
    ] = 0.0,
    equal_spis: Annotated[
        float,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Tunnels with the SPI of another one, to one server."),
    ] = 0.0,
    vanishing: Annotated[
        float,
        typer.Option(min=0, max=100, metavar="PERCENT", help="Devices that fall silent once; half of them return."),
    ] = _DEFAULTS.vanishing * 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Play devices and VPN servers through the daemon's own decisions, and compare with the truth.

    No kernel, no network, no root. The same options give the same numbers on every machine. With --policy all, what
    others do is run in the same world and shown beside it.
    """
    settings = Settings(
        hosts=hosts,
        peers=peers,
        minutes=minutes,
        seed=seed,
        loss=loss / 100,
        between=between / 100,
        periodic=periodic / 100,
        equal_spi=equal_spis / 100,
        vanishing=vanishing / 100,
    )
    policies = list(Policy) if policy is PolicyChoice.ALL else [Policy(policy.value)]
    results = _run(settings, policies)
    if as_json:
        first, *baselines = (result.to_json() for result in results)
        document = {**first, "baselines": baselines} if baselines else first
        typer.echo(json.dumps(document, indent=2))
    else:
        show(results, Console(highlight=False))


def _run(settings: Settings, policies: list[Policy]) -> list[Result]:
    """Run one policy after the other, with a bar on the standard error output where that is a terminal."""
    console = Console(stderr=True)
    results: list[Result] = []
    columns = (
        TextColumn("{task.description:<13}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for policy in policies:
            task = progress.add_task(policy.value, total=1.0)

            def tell(share: float, task: TaskID = task) -> None:
                progress.update(task, completed=share)

            results.append(run_one(settings, policy, tell))
    return results


def show(results: list[Result], console: Console) -> None:
    """Print the world in a line and a column for each policy."""
    world = results[0]
    settings = world.settings
    console.print(
        f"{settings.hosts:,} hosts, {settings.peers:,} {'peer' if settings.peers == 1 else 'peers'}, "
        f"{settings.minutes:g} minutes, {settings.loss * 100:g} % loss, seed {settings.seed}: "
        f"{world.sa_pairs:,} SA pairs, {world.packets:,} packets"
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("packets towards the inside")
    for result in results:
        table.add_column(result.policy.value, justify="right")
    for name, value in _ROWS:
        table.add_row(name, *(value(result) for result in results))
    console.print(table)


def _percent(share: float) -> str:
    return f"{share * 100:.3f} %"


def _seconds(result: Result, contested_s: float) -> str:
    """Write how long SAs were contested; others never contest one."""
    return f"{contested_s:.1f} s" if result.policy is Policy.THROUGHWAY else "-"
