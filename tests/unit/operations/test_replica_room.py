# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Room for first copies: values in and values out."""
from __future__ import annotations

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Chain, ChainLink
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import Authorization, ServerFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_room import Need, Room, of_chains
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume

D = Volume("\\\\?\\Volume{1}\\", "D:\\", "NTFS", 1000, 100)
PLACE = "D:\\Replica"


def link(size: int | None, full: int = 500) -> ChainLink:
    return ChainLink("D:\\a.vhdx", "dynamic", "vhdx", full, size, None, None)


def test_what_copies_take() -> None:
    assert of_chains([Chain((link(10), link(20))), Chain((link(30),))]) == Need(60, 1000)
    assert of_chains([Chain((link(400), link(200)))]) == Need(500, 500)
    assert of_chains([Chain((link(None),)), Chain((link(30),))]) == Need(None, 1000)
    assert of_chains([Chain((link(10),), "it ends here")]) == Need(None, 500)
    assert of_chains([Chain((), "missing")]) == Need(None, None)
    assert of_chains([]) == Need(0, 0)


def test_copies_that_run_side_by_side_share_the_room() -> None:
    room = Room("hv02", (D,))
    assert room.take("a", PLACE, Need(60, 80)) is None
    with pytest.raises(HypervError) as raised:
        room.take("b", PLACE, Need(41, 41))
    assert (raised.value.error_code, raised.value.details) == ("no_room_on_replica", {"needed": 41, "free": 40})
    assert "may grow" in str(room.take("c", PLACE, Need(40, 40)))


@pytest.mark.parametrize(("storage", "need"), [("E:\\Replica", Need(1, 1)), ("\\\\nas\\replica", Need(1, 1)), ("", Need(1, 1)),
                                               (PLACE, Need(None, 5))])
def test_what_is_not_known_is_said(storage: str, need: Need) -> None:
    assert "is not known" in str(Room("hv02", (D,)).take("a", storage, need))


def test_the_entry_of_a_server_is_the_closest_one() -> None:
    entries = tuple(Authorization(name, name, "") for name in ("*", "*.example.test", "*.b.example.test", "hv01.example.test"))
    facts = ServerFacts("id", {}, entries, True)
    assert [one.primary for one in map(facts.entry_for, ("HV01.example.test", "x.b.example.test", "x.example.test", "else")) if one] == [
        "hv01.example.test", "*.b.example.test", "*.example.test", "*"]
    assert ServerFacts("id", {}, (), True).entry_for("x") is None
