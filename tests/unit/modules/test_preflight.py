# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_preflight``: each thing that may be missing has its code, a refusal hides nothing else, nothing is changed unasked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import preflight_rules
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_preflight, hyperv_replica_server
from simulator.cim.model import Account
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import DiskSpec, HyperVSettings, ReplicaServerSpec, VmSpec
from simulator.soap.rules import Effect, lost_after, lost_before
from simulator.spec import HostSpec, Limits, ListenerSpec
from simulator.windows.spec import ShareSpec, VolumeSpec

from .conftest import Runner

Start = Callable[..., Any]
PASSWORD = "Pa55-w0rd"
GIB = 2**30
ADMINISTRATOR = Account("Administrator", PASSWORD, groups=frozenset({"Administrators"}), builtin_administrator=True)
OPERATOR = Account("operator", PASSWORD, groups=frozenset({"Remote Management Users", "Hyper-V Administrators"}))
CLERK = Account("clerk", PASSWORD, groups=frozenset({"Remote Management Users"}))
FILTERED = Account("filtered", PASSWORD, groups=frozenset({"Administrators", "Remote Management Users"}))
STRANGER = Account("stranger", PASSWORD)
SITE = {
    "domain": "example.test", "accounts": (ADMINISTRATOR, OPERATOR, CLERK, FILTERED, STRANGER),
    "volumes": (VolumeSpec("C:"), VolumeSpec("D:", size=100 * GIB), VolumeSpec("E:")),
    "vms": (VmSpec("sql01", disks=(DiskSpec("D:\\VMs\\a.vhdx"),)), VmSpec("web01", disks=(DiskSpec("D:\\VMs\\b.vhdx"),))),
}


def look(runner: Any, **params: Any) -> dict[str, Any]:
    """The result of a run that the host saw no writing request of."""
    before = runner.running.host.counters.snapshot()
    result: dict[str, Any] = runner.run(hyperv_preflight, **params)
    assert runner.running.host.counters.since(before).writing == 0
    assert result["changed"] is False
    return result


def of(result: dict[str, Any], *statuses: str) -> set[tuple[str, str]]:
    return {(check["code"], check["subject"]) for check in result["checks"] if check["status"] in statuses}


def test_a_host_that_is_ready(start: Start) -> None:
    result = look(start(**SITE), destinations=[{"path": "E:\\Backup"}, {"path": "\\\\backup01\\hyperv"}])
    assert of(result, "missing", "warning") == set()
    assert of(result, "unknown") == {("state_folder", ""), ("destination_rights", "\\\\backup01\\hyperv")}
    assert (result["ready"], result["counts"]["unknown"]) == (True, 2)
    assert result["host"] == {"name": "HV01", "fqdn": "HV01.example.test", "release": "2022", "cluster": None}
    assert result["connection"]["encrypted"] is True
    knocks = next(check for check in result["checks"] if check["code"] == "destination_identity")
    assert knocks["message"] == "It is reached as the computer account HV01$ of example.test."
    assert {check["remedy"] for check in result["checks"] if check["status"] == "ok"} == {""}
    assert all(check["remedy"] for check in result["checks"] if check["status"] != "ok")


RIGHTS = ("rights_system", "rights_hyperv", "rights_vss", "rights_tasks", "rights_shell")


@pytest.mark.parametrize(("user", "missing"), [
    ("Administrator", ()), ("operator", ("rights_system", "rights_vss", "rights_tasks")),
    ("clerk", ("rights_system", "rights_hyperv", "rights_vss", "rights_tasks")),
    ("filtered", ("rights_system", "rights_hyperv", "rights_vss", "rights_tasks")), ("stranger", RIGHTS)])
def test_rights_by_account(start: Start, user: str, missing: tuple[str, ...]) -> None:
    result = look(start(**SITE), user=user, destinations=[{"path": "\\\\backup01\\hyperv"}])
    found = {check["code"]: check["status"] for check in result["checks"] if check["code"] in RIGHTS}
    assert found == {code: "missing" if code in missing else "ok" for code in RIGHTS}
    assert result["ready"] is not bool(missing)
    assert (("replica_listener", "") in of(result, "unknown")) == (user in ("clerk", "filtered"))  # Hyper-V shows them nothing


def test_services_that_are_stopped_disabled_or_missing(start: Start) -> None:
    runner = start(**SITE)
    with runner.fleet.locked():
        table = runner.running.host.services
        table["schedule"].state = "Stopped"
        table["vss"].start_mode = table["swprv"].start_mode = "Disabled"
        table["winrm"].start_mode = "Manual"
        del table["lanmanworkstation"]
    assert of(look(runner), "missing", "warning") == {
        ("service_stopped", "schedule"), ("service_disabled", "vss"), ("service_disabled", "swprv"), ("service_not_automatic", "winrm")}
    assert ("service_missing", "lanmanworkstation") in of(look(runner, destinations=[{"path": "\\\\backup01\\hyperv"}]), "missing")


def test_a_replica_server_behind_its_firewall(start: Start) -> None:
    server = HyperVSettings(replica=ReplicaServerSpec(enabled=True, authentication=1))
    runner = start(**SITE, hyperv=server)
    assert of(look(runner), "missing") == {("firewall", "")}
    runner.run(hyperv_replica_server, authentication="kerberos")
    assert {("firewall", ""), ("replica_listener", "")} <= of(look(runner), "ok")


def test_quotas_and_plain_messages(start: Start) -> None:
    limits = Limits(max_shells_per_user=2, max_memory_per_shell_mb=100, max_envelope_kb=150, max_timeout_ms=20_000)
    listener = ListenerSpec(schemes=("Negotiate", "Basic"), allow_unencrypted=True)
    result = look(start(**SITE, limits=limits, listener=listener))
    assert of(result, "missing") == {
        ("quota", "MaxShellsPerUser"), ("quota", "MaxMemoryPerShellMB"), ("quota", "MaxEnvelopeSizekb"), ("quota", "MaxTimeoutms")}
    assert of(result, "warning") == {("unencrypted_allowed", "")}


def test_clock_space_names_and_release(start: Start) -> None:
    result = look(start(skew=timedelta(minutes=-7), **{
        **SITE, "os_version": "2012R2", "volumes": (VolumeSpec("C:"), VolumeSpec("D:", size=100 * GIB, free=15 * GIB)),
        "vms": (*SITE["vms"], VmSpec("SQL01", disks=(DiskSpec("D:\\VMs\\c.vhdx"),)))}))
    assert of(result, "missing") == {("clock_skew", ""), ("volume_space", "D:\\")}
    assert {code for code, _subject in of(result, "warning")} == {"vm_names"}
    skew = next(check for check in result["checks"] if check["code"] == "clock_skew")
    assert skew["message"] == "The clock of the host is 420 s behind the controller's."


@pytest.mark.parametrize(("path", "options", "code"), [
    ("Q:\\Backup", {}, "destination"), ("\\\\HV01\\share", {}, "destination"), ("\\\\nas\\x", {"run_as": "session"}, "destination"),
    ("D:\\Backup", {}, "destination_source_volume"), ("backup", {}, "destination")])
def test_destinations_that_cannot_be_used(start: Start, path: str, options: dict[str, Any], code: str) -> None:
    assert of(look(start(**SITE), destinations=[{"path": path, **options}]), "missing") == {(code, path)}


def test_in_a_workgroup_system_is_nobody_at_a_share(start: Start) -> None:
    runner = start(**{**SITE, "domain": None})
    account = {"run_as": "account", "run_as_user": "NAS\\copier", "run_as_password": "s3cret-of-copier"}
    result = look(runner, destinations=[{"path": "\\\\backup01\\x"}, {"path": "\\\\nas\\x", **account}])
    assert of(result, "missing") == {("destination_identity", "\\\\backup01\\x")}
    assert any("NAS\\copier" in check["message"] for check in result["checks"])
    assert "s3cret-of-copier" not in str(result)


# -- what only writing shows ---------------------------------------------------------------------------------------------


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """The site with a file server whose share grants the right to change to ``grants``."""
    with ExitStack() as stack:

        def begin(*grants: str, **spec: Any) -> Any:
            server = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")),
                                    (ShareSpec("backup", "E:\\backup", grants),))
            fleet = stack.enter_context(Fleet([HostSpec(**{"name": "HV01", **SITE, **spec})], tmp_path / "fleet", file_servers=[server]))
            return Runner(fleet, fleet.hosts["HV01"])

        yield begin


def left(runner: Any) -> list[str]:
    """What is at the share, in jobs and in our folder of tasks."""
    with runner.fleet.locked():
        server, host = runner.fleet.file_servers["NAS"].files, runner.running.host
        return [*(entry.parts[-1] for entry in server.children(server.resolve("E:\\backup"))),
                *(entry.parts[-1] for entry in host.files.children(host.files.resolve("C:\\ProgramData\\agentless.hyperv\\jobs"))),
                *(task.name for task in host.tasks.tasks() if "agentless" in task.path)]


DESTINATIONS = [{"path": "E:\\Backup"}, {"path": "\\\\NAS\\backup"}]


@pytest.mark.parametrize(("grants", "good"), [(("EXAMPLE\\HV01$",), True), (("EXAMPLE\\HV02$",), False)])
def test_the_test_by_writing_knocks_as_copies_do(shared: Callable[..., Any], grants: tuple[str, ...], good: bool) -> None:
    runner = shared(*grants)
    predicted = runner.run(hyperv_preflight, destinations=DESTINATIONS, write_test=True, check=True)
    assert (predicted["changed"], runner.running.host.changes) == (True, 0)
    assert of(predicted, "unknown") == {("state_folder", ""), ("destination_rights", "\\\\NAS\\backup")}
    result = runner.run(hyperv_preflight, destinations=DESTINATIONS, write_test=True)
    assert of(result, "unknown") == set()
    assert of(result, "missing") == (set() if good else {("destination_rights", "\\\\NAS\\backup")})
    assert ("state_folder", "") in of(result, "ok")
    assert left(runner) == []


def test_the_test_by_writing_needs_a_state_folder_that_can_be_trusted(shared: Callable[..., Any]) -> None:
    runner = shared("EXAMPLE\\HV01$")
    with runner.fleet.locked():
        runner.running.host.files.create_directory("C:\\ProgramData\\agentless.hyperv")
    result = runner.run(hyperv_preflight, destinations=DESTINATIONS, write_test=True)
    assert of(result, "missing") == {("state_folder", "")}
    assert of(result, "unknown") == {("destination_rights", "\\\\NAS\\backup")}


@pytest.mark.parametrize("effect", [lost_before(), lost_after()], ids=lambda one: one.name)
@pytest.mark.parametrize("nth", range(18, 70, 2) if os.environ.get("FAULT_HARNESS") == "all" else (30, 44))
def test_a_lost_answer_in_the_test_by_writing_leaves_nothing_behind(shared: Callable[..., Any], effect: Effect, nth: int) -> None:
    runner = shared("EXAMPLE\\HV01$")
    with runner.fleet.locked():
        runner.running.host.rules.add(effect, nth=nth)
    try:
        result = runner.run(hyperv_preflight, destinations=DESTINATIONS[1:], write_test=True)
    except HypervError as error:
        assert isinstance(error, ConnectionFailed) or error.leftovers == ()
    else:
        assert of(result, "ok") >= {("connection_open", "")}
    with runner.fleet.locked():
        runner.running.host.rules.clear()
    assert of(runner.run(hyperv_preflight, destinations=DESTINATIONS[1:], write_test=True), "missing") == set()
    assert left(runner) == []


def test_every_code_has_a_row_in_the_page() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "preflight.md").read_text(encoding="utf-8")
    codes = page.partition("## Codes")[2].partition("| quota |")[0]
    rows = [line.split("|")[1].strip().strip("`") for line in codes.splitlines() if line.startswith("| `")]
    assert rows == list(preflight_rules.REMEDIES)
