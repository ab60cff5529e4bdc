# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewall rules: the class of root/StandardCimv2, netsh, and what gets through."""
from __future__ import annotations

from pathlib import Path

import pytest
from simulator.cim.model import Instance
from simulator.cim.repository import Repository
from simulator.cim.schema import Schema
from simulator.windows.firewall import NAMESPACE, RULE, Firewall, register
from simulator.windows.programs.base import HostFacts
from unit.simulator.windows.helpers import ADMINISTRATOR, ORDINARY, Rig

HTTP = "VIRT-HVRHTTPL-In-TCP-NoScope"
NETSH = "%SystemRoot%\\System32\\netsh.exe advfirewall firewall "


class Walled:
    """A host with a firewall."""

    def __init__(self, root: Path, locale: str = "en-US") -> None:
        self.rig = Rig(root, facts=HostFacts("HV1", locale=locale))
        self.firewall = Firewall(locale, self.rig.changes.append)
        self.rig.processes.firewall = self.firewall
        self.repository = Repository(Schema.load(), "2022")
        register(self.repository, self.firewall)

    def rule(self, rule_id: str) -> list[Instance]:
        return self.repository.query(NAMESPACE, f'SELECT * FROM {RULE} WHERE InstanceID = "{rule_id}"', ADMINISTRATOR).instances

    def call(self, rule_id: str, method: str) -> None:
        selectors = {"CreationClassName": f"MSFT|FW|FirewallRule|{rule_id}", "PolicyRuleName": "", "SystemCreationClassName": "",
                     "SystemName": ""}
        answer = {p.name: v for p, v in self.repository.invoke(NAMESPACE, RULE, selectors, method, {}, ADMINISTRATOR)}
        assert answer == {"ReturnValue": 0}


@pytest.mark.parametrize("locale", ["en-US", "de-DE", "ja-JP"])
def test_the_rules_of_replica_are_there_and_disabled_in_any_language(tmp_path: Path, locale: str) -> None:
    host = Walled(tmp_path, locale)
    (row,) = host.rule(HTTP)
    assert (row["Enabled"], row["Direction"], row["Action"], row["SystemName"]) == (2, 1, 2, "")
    assert (str(row["DisplayName"]) == "Hyper-V Replica HTTP Listener (TCP-In)") == (locale == "en-US")
    assert not host.firewall.admits(80)
    host.call(HTTP, "Enable")
    assert ([r["Enabled"] for r in host.rule(HTTP)], host.firewall.admits(80), host.firewall.admits(443)) == ([1], True, False)
    host.call(HTTP, "Disable")
    assert (host.firewall.admits(80), host.rule("no such rule")) == (False, [])


def test_netsh_makes_and_removes_rules_by_a_name_that_is_no_key(tmp_path: Path) -> None:
    host = Walled(tmp_path)
    add = NETSH + 'add rule name="our rule" dir=in action=allow protocol=TCP localport="8080"'
    assert [host.rig.run(add).code for _unused in range(2)] == [0, 0]
    rows = [r for r in host.repository.enumerate(NAMESPACE, RULE, ADMINISTRATOR) if r["DisplayName"] == "our rule"]
    assert len({str(r["InstanceID"]) for r in rows}) == 2
    assert all(str(r["InstanceID"]).startswith("{") for r in rows)
    assert (host.firewall.admits(8080), host.firewall.admits(8081)) == (True, False)
    delete = NETSH + 'delete rule name="our rule"'
    assert [host.rig.run(delete).code for _unused in range(2)] == [0, 1]
    assert not host.firewall.admits(8080)


def test_a_rule_that_blocks_wins(tmp_path: Path) -> None:
    host = Walled(tmp_path)
    host.rig.run(NETSH + "add rule name=a dir=in action=allow protocol=TCP localport=8000-8100,9000")
    host.rig.run(NETSH + "add rule name=b dir=in action=block protocol=TCP localport=8080")
    assert [host.firewall.admits(port) for port in (8000, 8080, 9000, 9001)] == [True, False, True, False]
    host.firewall.on = False
    assert host.firewall.admits(9001)


@pytest.mark.parametrize("tail", [
    "add rule name=x dir=sideways action=allow protocol=TCP localport=1", "add rule name=x dir=in action=allow protocol=TCP localport=0",
    "add rule name=x dir=in action=allow localport=80", "add rule dir=in action=allow protocol=TCP localport=80",
    "add rule name=x dir=in action=allow protocol=TCP localport=80 colour=red"])
def test_netsh_refuses_what_it_does_not_know(tmp_path: Path, tail: str) -> None:
    host = Walled(tmp_path)
    before = len(host.firewall.all())
    assert host.rig.run(NETSH + tail).code == 1
    assert len(host.firewall.all()) == before


def test_netsh_needs_an_administrator(tmp_path: Path) -> None:
    host = Walled(tmp_path)
    outcome = host.rig.run(NETSH + f"delete rule name={HTTP}", caller=ORDINARY)
    assert (outcome.code, "elevation" in outcome.out) == (1, True)
