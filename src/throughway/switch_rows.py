"""Protocols and their switches as the documents that people see, with a daemon and without."""

from collections.abc import Mapping
from pathlib import Path

from throughway.catalogue.protocol import Protocol, Transport
from throughway.control.protocols_schema import OverrideRow, Position, ProtocolRow, Protocols
from throughway.switch_files import Loaded


def rows(loaded: Loaded, folder: Path, counts: Mapping[str, tuple[int, int]] | None = None) -> Protocols:
    """Put together what is known; `counts` are flows by protocol, and how many of them are blocked."""
    return Protocols(
        protocols=tuple(_row(loaded, protocol, counts) for protocol in loaded.board.catalogue),
        overrides=tuple(
            OverrideRow(
                name=setting.name,
                position=Position(setting.position.value),
                device=str(setting.place.device or ""),
                peer=str(setting.place.peer or ""),
            )
            for setting in loaded.board.switches
            if not setting.place.is_everywhere
        ),
        folder=str(folder),
    )


def _row(loaded: Loaded, protocol: Protocol, counts: Mapping[str, tuple[int, int]] | None) -> ProtocolRow:
    ruling = loaded.board.ruling(protocol.id)
    is_set = any(one.name == ruling.switch and one.place.is_everywhere for one in loaded.board.switches)
    flows, blocked = (None, None) if counts is None else counts.get(protocol.id, (0, 0))
    return ProtocolRow(
        id=protocol.id,
        name=protocol.name,
        family=protocol.family,
        position=Position(ruling.position.value),
        decided_by=ruling.switch if is_set else "",
        default=Position(protocol.switch.default.value),
        file=str(loaded.own.get(protocol.id, "")),
        summary=protocol.summary,
        recognised_by=_recognised_by(protocol),
        carried_by=protocol.nat.carried_by.value,
        needs=protocol.nat.needs,
        off_blocks=protocol.switch.off_blocks,
        quirks=protocol.quirks,
        tell=protocol.tell,
        flows=flows,
        blocked=blocked,
    )


def _recognised_by(protocol: Protocol) -> str:
    """Say how a protocol is recognised: `UDP, its structure; usual port 51820`."""
    recognise = protocol.recognise
    if recognise.transport is Transport.IP:
        return "IP protocol " + ", ".join(str(number) for number in recognise.ip_protocols)
    ports = ", ".join(str(port) for port in recognise.ports)
    by = "its structure" if recognise.structures else "its pattern" if recognise.patterns else ""
    word = "usual port" if by else "port"
    return f"{recognise.transport.value.upper()}, " + "; ".join(filter(None, [by, f"{word} {ports}" if ports else ""]))
