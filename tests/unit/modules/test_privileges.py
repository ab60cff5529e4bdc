# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``docs/privileges.md``, enforced: what each module needs, and that a missing right is told as one, never as *absent* or as success."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from simulator.fleet import Fleet
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, VmSpec
from simulator.soap.rules import RequestView, access_denied
from simulator.spec import HostSpec
from support.exported import export

from .conftest import Runner
from .replica_pair import SQL, WEB, changes, spec, vm
from .test_preflight import SITE

CHECKOUT = Path(__file__).resolve().parents[3]
PACKAGE = "ansible_collections.agentless.hyperv.plugins.modules"
CALLS: dict[str, dict[str, Any]] = {
    "hyperv_checkpoint": {"name": "sql01", "checkpoint_name": "new in {number}"},
    "hyperv_checkpoint_info": {},
    "hyperv_checkpoint_revert": {"name": "web01", "checkpoint_name": "y", "force": True},
    "hyperv_cleanup": {"remove": True},
    "hyperv_export": {"name": "sql01", "destination": "E:\\Exports", "consistency_fallback": "crash"},
    "hyperv_export_info": {"destination": "E:\\Exports"},
    "hyperv_preflight": {},
    "hyperv_probe": {},
    "hyperv_protection_info": {"destinations": [{"path": "E:\\Backup"}]},
    "hyperv_prune": {"destination": "E:\\Backup", "keep": {"last": 1}},
    "hyperv_replica_info": {},
    "hyperv_replica_server": {"authentication": "kerberos", "http_port": "8{number}"},
    "hyperv_report": {"hosts": [], "destination": "E:\\Backup"},
    "hyperv_restore": {"name": "web01", "destination": "E:\\Restorable", "new_name": "new {number}", "location": "D:\\New"},
    "hyperv_restore_info": {"destination": "E:\\Backup"},
    "hyperv_shadow_copy": {"volume": "D:\\"},
    "hyperv_shadow_copy_info": {},
    "hyperv_vm_info": {},
    "hyperv_vss_copy": {"names": ["sql01"], "destination": "E:\\Backup"},
}
"""One call of each module that does its work on one host; ``{number}`` is another one each time."""
READING = frozenset((
    "hyperv_checkpoint_info", "hyperv_export_info", "hyperv_preflight", "hyperv_probe", "hyperv_protection_info", "hyperv_prune",
    "hyperv_replica_info", "hyperv_report", "hyperv_restore_info", "hyperv_shadow_copy_info", "hyperv_vm_info"))
"""Those that leave a host as the others expect it."""
WITH_CHECKPOINT = {**SITE, "vms": (
    SITE["vms"][0], VmSpec("web01", disks=(DiskSpec("D:\\VMs\\b.vhdx"),), checkpoints=(CheckpointSpec("c", "y"),)))}
OF_TWO_HOSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "hyperv_replica": ("hv01", {"server": "hv02.example.test", "peer": "hv02"}),
    "hyperv_replica_failover": ("hv02", {"action": "planned", "peer": "hv01", "shutdown": "turn_off"}),
}
"""The same for two hosts, the first of which has the primary: the host of the task, and its options but the machine."""
SIDES = {"hv01": "on the primary", "hv02": "on the replica"}


def _class(*names: str) -> Callable[[str], bool]:
    return lambda uri: uri.rpartition("/")[2] in names


AREAS: dict[str, Callable[[str], bool]] = {
    "system": _class("win32_operatingsystem", "win32_computersystem"),
    "VMs": lambda uri: "/root/virtualization/v2/" in uri,
    "volumes": _class("win32_volume"),
    "shadow copies": _class("win32_shadowcopy"),
    "files": lambda uri: uri.endswith("/root/cimv2/*"),
    "tasks": lambda uri: "/taskscheduler/" in uri,
    "cluster": lambda uri: "/root/mscluster" in uri,
    "firewall": lambda uri: "/root/standardcimv2/" in uri,
    "shell": lambda uri: "/windows/shell" in uri,
}
"""The columns of the page, as the resources that each means."""
ACCOUNTS = ("operator", "clerk", "filtered", "stranger")


Words = dict[str, str]


def rows() -> dict[tuple[str, str], Words]:
    """The matrix of the page: module and side, which is empty for one host, to what it says of each area."""
    page = (CHECKOUT / "docs" / "privileges.md").read_text(encoding="utf-8")
    found = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = re.fullmatch(r"`(hyperv_\w+)`(?:, (.+))?", cells[0])
        if name is not None and len(cells) == len(AREAS) + 1:
            found[name[1], name[2] or ""] = dict(zip(AREAS, cells[1:], strict=True))
    return found


@dataclass
class Watch:
    """A rule's condition: refuses some areas, and notes which are asked for."""

    refused: frozenset[str]
    asked: set[str] = field(default_factory=set)

    def __call__(self, view: RequestView) -> bool:
        uri = view.request.resource_uri.lower()
        area = next((name for name, holds in AREAS.items() if holds(uri)), None)
        if area is not None:
            self.asked.add(area)
        return area in self.refused


@dataclass(frozen=True)
class Trial:
    """A call of a module, by the host of the task, and the host that refuses something."""

    module: str
    runner: Runner
    refusing: Runner
    params: dict[str, Any]

    def outcome(self, refused: set[str], number: int) -> tuple[str, set[str]]:
        """``needed``, ``told`` or ``-``, and what was asked for. A refusal that neither stops a module nor is told is a failure here."""
        watch = Watch(frozenset(refused))
        with self.refusing.fleet.locked():
            self.refusing.running.host.rules.clear()
            self.refusing.running.host.rules.add(access_denied(), times=None, when=watch)
        try:
            result = call(self.runner, self.module, **numbered(self.params, number))
        except HypervError as error:
            assert error.error_code == "access_denied", error.message
            return "needed", watch.asked
        if result.get("failed"):
            assert result["error_code"] == "access_denied", result["msg"]
            return "needed", watch.asked
        if not watch.asked & watch.refused:
            return "-", watch.asked
        assert told(result, self.runner), f"a refusal of {sorted(watch.refused)} is not told"
        return "told", watch.asked

    def compare(self, words: Words) -> None:
        """Try a row. Each area that the module asks for is refused alone: one right less than it needs, or than all. Then everything that
        it can do without is refused at once: the least right."""
        asked = [area for area, word in words.items() if word != "-"]
        for number, area in enumerate(asked):
            found, seen = self.outcome({area}, number)
            assert (area, found, seen - set(asked)) == (area, words[area], set())
        needed = {area for area in asked if words[area] == "needed"}
        found, seen = self.outcome(set(AREAS) - needed, len(asked))
        assert (found, seen - set(asked)) == ("told" if needed < set(asked) else "-", set())


def call(runner: Runner, module: str, user: str = "Administrator", **params: Any) -> dict[str, Any]:
    return runner.run(importlib.import_module(f"{PACKAGE}.{module}"), user=user, **params)


def numbered(params: dict[str, Any], number: int = 0) -> dict[str, Any]:
    return {key: value.format(number=number) if isinstance(value, str) else value for key, value in params.items()}


def told(result: dict[str, Any], runner: Runner) -> bool:
    """Whether a result says that something was refused."""
    return bool(runner.told.warnings) or "access_denied" in str(result) or any(
        check["status"] in ("missing", "unknown") for check in result.get("checks", ()) if check["code"] != "state_folder")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """One host for everything that leaves it as it was."""
    with Fleet([HostSpec(name="HV01", **WITH_CHECKPOINT)], tmp_path_factory.mktemp("fleet")) as fleet:
        yield Runner(fleet, fleet.hosts["HV01"])


@pytest.mark.parametrize("module", sorted(READING))
def test_what_is_refused_is_told_as_refused(site: Runner, module: str) -> None:
    with site.keep_session():
        Trial(module, site, site, CALLS[module]).compare(rows()[module, ""])


@pytest.mark.parametrize("module", sorted(set(CALLS) - READING))
def test_what_is_refused_to_a_change_is_told_as_refused(start: Callable[..., Any], module: str) -> None:
    runner = start(**WITH_CHECKPOINT)
    if module == "hyperv_restore":
        with runner.fleet.locked():
            export(runner.running.host, "web01", "E:\\Restorable")
    with runner.keep_session():
        Trial(module, runner, runner, CALLS[module]).compare(rows()[module, ""])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Runner]]:
    """Two hosts that may replicate, two machines on the first."""
    specs = [spec("HV01", vm("sql01", SQL), vm("web01", WEB), accounts=SITE["accounts"]), spec("HV02", accounts=SITE["accounts"])]
    with Fleet(specs, tmp_path_factory.mktemp("pair")) as fleet:
        runners = {one.name.lower(): Runner(fleet, fleet.hosts[one.name]) for one in specs}
        for runner in runners.values():
            runner.peers = runners
        yield runners


@pytest.mark.parametrize("user", ACCOUNTS)
def test_accounts_without_the_rights_are_refused_on_either_of_two_hosts(pair: dict[str, Runner], user: str) -> None:
    before = changes(*pair.values())
    with ExitStack() as stack:
        for one, name in product(pair.values(), (user, "Administrator")):
            stack.enter_context(one.keep_session(name))
        for module, (host, params) in OF_TWO_HOSTS.items():
            for users in ({"user": user}, {"peer_user": user}):
                with pytest.raises(HypervError) as refused:
                    call(pair[host], module, **users, name="sql01", **params)
                assert (module, users, refused.value.error_code) == (module, users, "access_denied")
    assert changes(*pair.values()) == before


def test_what_either_of_two_hosts_refuses_is_told_as_refused(pair: dict[str, Runner]) -> None:
    """In turn: what makes relations, then what turns them. Each side has a machine of its own for it."""
    with pair["hv01"].keep_session(), pair["hv02"].keep_session():
        for (module, (host, params)), (refusing, name) in product(OF_TWO_HOSTS.items(), (("hv01", "sql01"), ("hv02", "web01"))):
            Trial(module, pair[host], pair[refusing], {"name": name, **params}).compare(rows()[module, SIDES[refusing]])
            with pair[refusing].fleet.locked():
                pair[refusing].running.host.rules.clear()
    assert [pair[name].running.host.hyperv.machines[vm_id].replication_mode for name in pair for vm_id in (SQL, WEB)] == [2, 2, 1, 1]


@pytest.mark.parametrize("user", ACCOUNTS)
def test_accounts_without_the_rights_are_refused(site: Runner, user: str) -> None:
    with site.fleet.locked():
        site.running.host.rules.clear()
        before = site.running.host.changes
    with site.keep_session(user):
        for module in sorted(set(CALLS) - {"hyperv_preflight"}):
            with pytest.raises(HypervError) as refused:
                call(site, module, user, **numbered(CALLS[module]))
            assert (module, refused.value.error_code) == (module, "access_denied")
    with site.fleet.locked():
        assert site.running.host.changes == before


def test_the_page_has_a_row_for_every_module() -> None:
    modules = {path.stem for path in (CHECKOUT / "plugins" / "modules").glob("hyperv_*.py")}
    assert set(CALLS) | set(OF_TWO_HOSTS) == modules, "a module is not tried here"
    assert set(rows()) == {(module, "") for module in CALLS} | {(module, side) for module in OF_TWO_HOSTS for side in SIDES.values()}
