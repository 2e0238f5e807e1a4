"""The row of namespaces, empty of rules but for a witness that counts what is forwarded."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.kernel.firewall.net import Row, entered
from throughway.dataplane.nft import Nft
from throughway.policy.ruleset import RulesetSettings, transactions

SETTINGS = RulesetSettings(insides=("lan0",), outside="wan0")


@pytest.fixture
def row() -> Iterator[Row]:
    if os.geteuid():
        pytest.skip("network namespaces need root")
    with ExitStack() as stack:
        made = Row(stack)
        made.nft("table inet witness { chain seen { type filter hook forward priority -300; counter; }; }")
        yield made


@pytest.fixture
def nft(row: Row) -> Iterator[Nft]:
    """A context that speaks for the router."""
    with entered(row.name("router")):
        made = Nft()
    with made:
        yield made


@pytest.fixture
def ours(row: Row, nft: Nft) -> Nft:
    """The router with our table, which is told that the programs are on the outside interface."""
    with entered(row.name("router")):
        outside = socket.if_nametoindex(SETTINGS.outside)
    for transaction in transactions(replace(SETTINGS, attached=outside)):
        nft.apply(transaction)
    return nft
