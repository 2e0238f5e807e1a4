from io import StringIO
from pathlib import Path

from rich.console import Console

from throughway.lab.detected import Detected
from throughway.lab.gateway import GatewayKind
from throughway.lab.leaks import NO_LEAKS, Leaks
from throughway.lab.report import PINGS_ANSWERED_MIN, ClientReport, Report
from throughway.lab.transfer import Transfer

TEN_MB = 10_000_000


def client(
    name: str, *, received: int = 10, transfer: Transfer | None = None, fault: str | None = None
) -> ClientReport:
    return ClientReport(
        name=name,
        address="10.77.0.11",
        tunnel_up=received > 0,
        pings_sent=10,
        pings_received=received,
        first_reply_s=0.25 if received else None,
        transfer=transfer,
        session_fault=fault,
    )


def report(*clients: ClientReport, gateway: GatewayKind = GatewayKind.THROUGHWAY, leaks: Leaks = NO_LEAKS) -> Report:
    return Report(scenario="esp-native", gateway=gateway, clients=clients, leaks=leaks)


def test_it_passes_when_every_tunnel_carries_data() -> None:
    assert report(client("vpnc1"), client("vpnc2")).passed
    assert not report(client("vpnc1"), client("vpnc2", received=0)).passed


def test_a_tunnel_that_loses_more_than_a_late_answer_or_two_has_not_passed() -> None:
    assert client("vpnc1", received=PINGS_ANSWERED_MIN).has_passed
    assert not client("vpnc1", received=PINGS_ANSWERED_MIN - 1).has_passed


def test_a_leak_fails_our_gateway_and_is_a_remark_on_any() -> None:
    for leaks in (Leaks(dropped=1), Leaks(named=1), Leaks(unasked=1)):
        assert not report(client("vpnc1"), leaks=leaks).passed
    leaky = report(client("vpnc1"), gateway=GatewayKind.MASQUERADE, leaks=Leaks(dropped=1))
    assert leaky.passed
    assert leaky.remarks() == ["1 packets left the router with a private source address"]


def test_a_tunnel_whose_transfer_is_not_whole_has_not_passed() -> None:
    assert client("vpnc1", transfer=Transfer(TEN_MB, TEN_MB, intact=True)).has_passed
    assert not client("vpnc1", transfer=Transfer(TEN_MB, 5, intact=False)).has_passed


def test_a_transfer_is_in_the_document_when_one_was_made() -> None:
    assert "transfer" not in client("vpnc1").to_json()
    made = client("vpnc1", transfer=Transfer(TEN_MB, TEN_MB, intact=True)).to_json()
    assert made["transfer"] == {"bytes_to_peer": TEN_MB, "bytes_to_inside": TEN_MB, "intact": True}


def test_the_document_has_exactly_the_promised_keys() -> None:
    assert report(client("vpnc1"), client("vpnc2", received=0)).to_json() == {
        "scenario": "esp-native",
        "gateway": "throughway",
        "clients": [
            {
                "name": "vpnc1",
                "address": "10.77.0.11",
                "tunnel_up": True,
                "pings_sent": 10,
                "pings_received": 10,
                "first_reply_s": 0.25,
            },
            {
                "name": "vpnc2",
                "address": "10.77.0.11",
                "tunnel_up": False,
                "pings_sent": 10,
                "pings_received": 0,
                "first_reply_s": None,
            },
        ],
        "detected": {},
        "passed": False,
    }


def test_the_document_names_the_leaks_of_a_run_that_had_some() -> None:
    assert report(client("vpnc1"), leaks=Leaks(dropped=2)).to_json()["leaks"] == [
        "2 packets left the router with a private source address"
    ]


def test_a_client_that_is_detected_as_something_else_fails_our_gateway() -> None:
    def run(found: Detected, gateway: GatewayKind = GatewayKind.THROUGHWAY) -> Report:
        return Report(
            scenario="esp-native",
            gateway=gateway,
            clients=(client("vpnc1"),),
            expected=("ike", "esp"),
            detected={"vpnc1": found},
        )

    assert run(Detected(("esp", "ike"))).passed
    for wrong in (Detected(("ike",)), Detected(("esp", "ike", "gre")), Detected(("esp", "ike"), ("UDP",)), Detected()):
        assert not run(wrong).passed
        assert run(wrong, GatewayKind.MASQUERADE).passed
    assert run(Detected(("ike",))).remarks() == ["not detected as just ike, esp: vpnc1 as ike"]
    assert run(Detected(("esp", "ike"))).to_json()["detected"] == {"vpnc1": ["esp", "ike"]}


def test_remarks_name_what_failed_and_where_to_read_on() -> None:
    failed = report(client("vpnc1"), client("vpnc2", received=0)).kept_in(Path("/lab/tw0001"))
    assert failed.remarks() == [
        "without a working tunnel: vpnc2",
        "captures and logs are in /lab/tw0001",
    ]


def test_a_tunnel_of_which_the_daemon_does_not_say_that_it_carries_data_has_not_passed() -> None:
    assert client("vpnc1", fault="").has_passed
    silent = report(client("vpnc1", fault="has no session"), client("vpnc2", fault=""))
    assert not silent.passed
    assert silent.failure() == "the session of vpnc1 has no session"
    both = report(client("vpnc1", fault="has no session"), client("vpnc2", received=0))
    assert both.failure() == "without a working tunnel: vpnc2; the session of vpnc1 has no session"


def test_what_the_daemon_says_is_in_the_document_where_it_was_asked() -> None:
    assert client("vpnc1", fault="").to_json()["session_fault"] == ""
    assert "session_fault" not in client("vpnc1").to_json()


def test_nothing_is_cut_off_in_80_columns() -> None:
    tunnel = client("wireguard1", transfer=Transfer(10**6, 10**6, True))
    told = report(tunnel)
    told = Report(
        scenario="wireguard",
        gateway=told.gateway,
        clients=told.clients,
        detected={"wireguard1": Detected(("wireguard",))},
        expected=("wireguard",),
    )
    out = StringIO()
    Console(file=out, width=80).print(told.table())
    assert "…" not in out.getvalue()
    for words in ("wireguard1", "10.77.0.", "wireguard", "intact"):
        assert words in out.getvalue()
