"""Hooks and the names of their pins."""

import pytest

from throughway.core.ports import Interface
from throughway.dataplane.hooks import PROGRAMS, Hook, wanted_hooks


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_pin_names_its_hook(program: str) -> None:
    hook = Hook(program, 17)
    assert Hook.from_pin(hook.pin) == hook
    assert "." not in hook.pin


@pytest.mark.parametrize("name", ["map-mappings", "namespace-3", "link-other-7", "link-outside_ingress-x", "qdisc-7"])
def test_other_pins_are_no_hooks(name: str) -> None:
    assert Hook.from_pin(name) is None


def test_what_releases_is_attached_before_what_holds() -> None:
    hooks = wanted_hooks(Interface("ppp0", 9, 0), (Interface("lan0", 3, 14), Interface("lan1", 4, 14)))
    assert [(hook.program, hook.ifindex) for hook in hooks] == [
        ("inside_ingress", 3),
        ("inside_ingress", 4),
        ("inside_egress", 3),
        ("inside_egress", 4),
        ("outside_egress", 9),
        ("outside_ingress", 9),
    ]
    assert [hook.is_ingress for hook in hooks] == [True, True, False, False, False, True]
