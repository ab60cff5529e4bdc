# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``docs/privileges.md``, enforced: what each module needs, and that a missing right is told as one, never as *absent* or as success."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
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
"""One call of each module that does its work; ``{number}`` is another one each time."""


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


def rows() -> dict[str, list[str]]:
    """The matrix of the page."""
    page = (CHECKOUT / "docs" / "privileges.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| `hyperv_")]
    return {cells[0].strip("`"): cells[1:] for cells in lines if len(cells) == len(AREAS) + 1}


def call(runner: Runner, module: str, user: str = "Administrator", number: int = 0) -> dict[str, Any]:
    params = {key: value.format(number=number) if isinstance(value, str) else value for key, value in CALLS[module].items()}
    return runner.run(importlib.import_module(f"{PACKAGE}.{module}"), user=user, **params)


def told(result: dict[str, Any], runner: Runner) -> bool:
    """Whether a result says that something was refused."""
    return bool(runner.told.warnings) or "access_denied" in str(result) or any(
        check["status"] in ("missing", "unknown") for check in result.get("checks", ()) if check["code"] != "state_folder")


@pytest.mark.parametrize("module", sorted(CALLS))
def test_what_is_refused_is_told_as_refused(start: Callable[..., Any], module: str) -> None:
    checkpointed = VmSpec("web01", disks=(DiskSpec("D:\\VMs\\b.vhdx"),), checkpoints=(CheckpointSpec("c", "y"),))
    runner = start(**{**SITE, "vms": (SITE["vms"][0], checkpointed)})
    if module == "hyperv_restore":
        with runner.fleet.locked():
            export(runner.running.host, "web01", "E:\\Restorable")
    found = []
    for number, area in enumerate(AREAS.values()):
        with runner.fleet.locked():
            runner.running.host.rules.clear()
            rule = runner.running.host.rules.add(access_denied(), times=None, when=_asks(area))
        try:
            result = call(runner, module, number=number)
        except HypervError as error:
            assert error.error_code == "access_denied"
            found.append("needed")
        else:
            if result.get("failed"):
                assert result["error_code"] == "access_denied"
                found.append("needed")
                continue
            assert told(result, runner) or not rule.fired
            found.append("told" if rule.fired else "-")
    assert rows()[module] == found


def _asks(area: Callable[[str], bool]) -> Callable[[RequestView], bool]:
    return lambda view: area(view.request.resource_uri.lower())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with Fleet([HostSpec(name="HV01", **SITE)], tmp_path_factory.mktemp("fleet")) as fleet:
        yield Runner(fleet, fleet.hosts["HV01"])


@pytest.mark.parametrize("user", ACCOUNTS)
def test_accounts_without_the_rights_are_refused(site: Runner, user: str) -> None:
    for module in sorted(set(CALLS) - {"hyperv_preflight"}):
        with pytest.raises(HypervError) as refused:
            call(site, module, user)
        assert (module, refused.value.error_code) == (module, "access_denied")
    with site.fleet.locked():
        assert site.running.host.changes == 0


def test_the_page_has_a_row_for_every_module() -> None:
    modules = {path.stem for path in (CHECKOUT / "plugins" / "modules").glob("hyperv_*.py")}
    page = (CHECKOUT / "docs" / "privileges.md").read_text(encoding="utf-8")
    listed = page.partition("Not in the matrix:")[2].partition("\n\n")[0]
    untried = {module for module in modules - set(CALLS) if f"`{module}`" not in listed}
    assert untried == set(), "a module is neither tried here nor told as not tried"
    assert set(rows()) == set(CALLS)
