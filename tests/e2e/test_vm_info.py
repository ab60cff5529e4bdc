# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_vm_info`` from a playbook: machines of every kind on every release. One play on ten hosts, and many looks at its results."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import host, winrm
from controller import CHECKOUT, Controller, Run, TaskResult
from simulator.fleet import Fleet
from simulator.hyperv.scenarios import zoo
from simulator.hyperv.spec import VmSpec
from simulator.spec import OS_VERSIONS, ClusterSpec, HostSpec, Quirks
from simulator.windows.spec import VolumeSpec

MODULE = "agentless.hyperv.hyperv_vm_info"
CLUSTER = ClusterSpec("CL1", ("NODE1", "NODE2"), {"csv": "NODE1"})
CSV = VolumeSpec("C:\\ClusterStorage\\Volume1", filesystem="CSVFS")
BUILDS = {"2012R2": 9600, "2016": 14393, "2019": 17763, "2022": 20348, "2025": 26100}
BUSY = {"merging": "merging_disks", "exporting": "exporting", "migrating": "migrating", "creating_checkpoint": "creating_checkpoint",
        "backup": None, None: None}
OTHER = {"saving": "Saving", "critical": "RunningCritical"}
MODES = ("none", "primary", "replica", "test_replica", "extended_replica")
CHAINS = ["tree", "long-chain", "linked-clone", "orphan-chain", "missing-disk", "web01", "old-format"]
UNKNOWN_ID = "00000000-1111-2222-3333-444444444444"
TASKS: list[dict[str, Any]] = [
    {"name": "all", MODULE: {}},
    {"name": "by name", MODULE: {"name": "WEB01"}},
    {"name": "by id", MODULE: {"name": "twin", "vm_id": "{{ '{' ~ twin_id | lower ~ '}' }}"},
     "vars": {"twin_id": "{{ (all.vms | selectattr('name', 'eq', 'twin') | selectattr('state', 'eq', 'off') | first).vm_id }}"}},
    {"name": "twins", MODULE: {"name": "twin"}, "ignore_errors": True},
    {"name": "absent", MODULE: {"name": "nobody knows it"}, "ignore_errors": True},
    {"name": "listed", MODULE: {"names": ["Twin", "web01", "gone", UNKNOWN_ID], "gather": ["state"]}},
    {"name": "chains", MODULE: {"names": CHAINS, "gather": ["chains"]}},
]
TASKS[0]["register"] = "all"


def specs() -> list[HostSpec]:
    now = datetime.now(UTC)
    hosts = [host(f"V{version}", *zoo(version), os_version=version, start=now, quirks=Quirks(other_case=0.3)) for version in OS_VERSIONS]
    hosts.append(host("JAPAN", *zoo("2022"), start=now, locale="ja-JP", quirks=Quirks(utc_offset_minutes=540)))
    hosts.append(host("REFUSES", *zoo("2022"), start=now, quirks=Quirks(refuse_wql_namespaces=("root/virtualization/v2",))))
    clustered = {"domain": "example.test", "cluster": CLUSTER, "volumes": (VolumeSpec("C:"), VolumeSpec("D:"), CSV)}
    for name in CLUSTER.nodes:
        machines = (VmSpec("csv", clustered=True, folder=CSV.path + "\\csv"),) if name == "NODE1" else ()
        common = (VmSpec("web01"), VmSpec("twin"), VmSpec("twin", state="off"))
        hosts.append(host(name, *common, *machines, start=now, **clustered))
    hosts.append(host("LATE", VmSpec("web01"), VmSpec("twin"), VmSpec("twin", state="off"), start=now - timedelta(hours=1)))
    return hosts


@dataclass(frozen=True)
class Played:
    """The one play, and its fleet."""

    run: Run
    fleet: Fleet

    def of(self, task: str, host: str) -> TaskResult:
        return self.run.of(task)[host.lower()]

    def machines(self, host: str, task: str = "all") -> dict[tuple[str, str], dict[str, Any]]:
        """By name and state, which tells the twins apart."""
        return {(machine["name"], machine["state"]): machine for machine in self.of(task, host)["vms"]}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("controller")
    with Fleet(specs(), tmp_path_factory.mktemp("fleet")) as fleet:
        controller = Controller(folder, CHECKOUT / ".build" / "path")
        run = controller.play(TASKS, controller.inventory(winrm(fleet)), "--forks", "10")
        assert run.code == 0, run.output
        yield Played(run, fleet)


def arriving(text: str) -> str:
    """Control characters cannot travel in XML: the host sends a question mark (wire 2.5)."""
    return "".join("?" if ord(char) < 32 and char not in "\t\n\r" else char for char in text)


def expected(spec: VmSpec, version: str) -> dict[str, Any]:
    """What the facts must say of a machine, from its description."""
    before_policies, before_automatic = version == "2012R2", version in ("2012R2", "2016")
    kinds = {"vhd": "virtual", "passthrough": "pass_through", "floppy": "other", "pmem": "other"}
    disks = [kinds[disk.medium] for disk in spec.disks if disk.medium in kinds] + ["fibre_channel"] * spec.fibre_channel_ports
    return {
        "name": arriving(spec.name), "state": "other" if spec.state in OTHER else spec.state, "other_state": OTHER.get(spec.state),
        "generation": spec.generation, "busy": BUSY[spec.busy],
        "notes": spec.notes.replace("\r\n", "\n") or None,
        "checkpoint_policy": None if before_policies else spec.policy,
        "automatic_checkpoints": None if before_automatic else spec.automatic_checkpoints,
        "mode": MODES[spec.replication_mode], "relations": len(spec.relations) or int(spec.replication_mode in (1, 2, 4)),
        "processors": None if spec.health == "configuration_offline" else spec.processors,
        "storage_offline": spec.health == "configuration_offline",
        "disks": sorted(disks), "shared": sum(disk.shared for disk in spec.disks),
        "checkpoints": sorted((None if before_automatic else point.automatic, point.parent is None) for point in spec.checkpoints),
        "tpm": None if before_policies else (spec.tpm, spec.shielded),
    }


def told(machine: dict[str, Any]) -> dict[str, Any]:
    """The same out of the facts."""
    same = ("name", "state", "other_state", "generation", "busy", "checkpoint_policy", "automatic_checkpoints", "processors",
            "storage_offline")
    return {
        **{key: machine[key] for key in same},
        "notes": machine["notes"].replace("\r\n", "\n") if machine["notes"] else None, "mode": machine["replication"]["mode"],
        "relations": len(machine["replication"]["relations"]), "disks": sorted(disk["kind"] for disk in machine["disks"]),
        "shared": sum(disk["shared"] for disk in machine["disks"]),
        "checkpoints": sorted((point["automatic"], point["parent_id"] is None) for point in machine["checkpoints"]),
        "tpm": machine["security"] and (machine["security"]["tpm"], machine["security"]["shielded"]),
    }


@pytest.mark.parametrize("version", OS_VERSIONS)
def test_every_machine_of_every_release_is_told_as_it_is(played: Played, version: str) -> None:
    result = played.of("all", f"V{version}")
    assert (result["host"]["release"], result["host"]["build"], result["host"]["cluster"]) == (version, BUILDS[version], None)
    wanted = sorted((expected(spec, version) for spec in zoo(version) if not spec.planned), key=lambda one: (one["name"], one["state"]))
    found = sorted((told(machine) for machine in result["vms"]), key=lambda one: (one["name"], one["state"]))
    assert [machine for machine in found if machine not in wanted] == [machine for machine in wanted if machine not in found] == []
    assert (result["missing"], result["vanished"], list(result["duplicates"])) == ([], [], ["twin"])
    assert not result.result.get("warnings")


@pytest.mark.parametrize("host", [f"v{version}" for version in OS_VERSIONS])
def test_no_writing_request_and_no_more_than_a_few_for_each_task(played: Played, host: str) -> None:
    with played.fleet.locked():
        simulated = played.fleet.hosts[host.upper()].host
        assert (simulated.counters.writing, simulated.changes) == (0, 0)
        operations = dict(simulated.counters.by_operation)
    files = operations["Invoke Msvm_ImageManagementService.GetVirtualHardDiskSettingData"]
    assert files == 3 + 7 + 2 + 2 + 1 + 1 + 1, "one for each file of the seven chains, a missing one included"
    assert operations["Enumerate"] <= 6 * 20 + 6
    assert not [name for name in operations if name.startswith("Shell")]


def test_one_machine_is_found_by_name_without_case_and_by_id_in_any_form(played: Played) -> None:
    one = played.of("by name", "v2022")
    assert one["vm"] == {**played.machines("v2022")["web01", "running"], "uptime": one["vm"]["uptime"]}
    assert "vms" not in one.result
    by_id = played.of("by id", "v2022")["vm"]
    assert (by_id["name"], by_id["state"], by_id["vm_id"]) == ("twin", "off", played.machines("v2022")["twin", "off"]["vm_id"])


def test_machines_of_one_name_are_refused_with_their_ids(played: Played) -> None:
    refused = played.of("twins", "v2019")
    ids = sorted(machine["vm_id"] for machine in played.of("all", "v2019")["vms"] if machine["name"] == "twin")
    assert (refused.status, refused["error_code"], refused["candidates"]) == ("ignored", "vm_not_unique", ids)
    assert all(one in refused["msg"] for one in ids)
    assert "vm_id" in refused["hint"]


def test_an_absent_machine_is_an_error_with_a_code(played: Played) -> None:
    refused = played.of("absent", "v2016")
    assert (refused["error_code"], refused["msg"]) == ("vm_not_found", "This host has no virtual machine named 'nobody knows it'.")


def test_a_list_of_names_tells_what_is_missing(played: Played) -> None:
    result = played.of("listed", "v2025")
    assert [machine["name"] for machine in result["vms"]] == ["twin", "twin", "web01"]
    assert result["missing"] == ["gone", UNKNOWN_ID]
    assert set(result["vms"][0]) == set(played.of("all", "v2025")["vms"][0]) - {
        "processors", "memory", "jobs", "disks", "checkpoints", "integration", "replication", "security", "cluster", "readiness"}


def test_chains_from_leaf_to_base(played: Played) -> None:
    chains = {name: machine["disks"][0] for (name, _state), machine in played.machines("v2022", "chains").items()}
    lengths = {name: len(disk["chain"]) for name, disk in chains.items()}
    assert lengths == {"tree": 3, "long-chain": 7, "linked-clone": 2, "orphan-chain": 2, "missing-disk": 0, "web01": 1, "old-format": 1}
    assert [link["path"] for link in chains["linked-clone"]["chain"]] == [
        "D:\\VMs\\linked-clone\\Virtual Hard Disks\\linked-clone.vhdx", "D:\\Templates\\base.vhdx"]
    for name, disk in chains.items():
        links = disk["chain"]
        assert [link["kind"] for link in links[:-1]] == ["differencing"] * (len(links) - 1)
        assert [link["parent_path"] for link in links] == [*(link["path"] for link in links[1:]), *([None] if links else [])]
        assert disk["differencing"] is (name in ("tree", "long-chain", "orphan-chain"))
    assert "does not exist" in chains["missing-disk"]["chain_problem"]
    assert (chains["old-format"]["chain"][0]["format"], chains["old-format"]["chain"][0]["kind"]) == ("vhd", "fixed")


READINESS = [
    ("web01", "production_checkpoint", "application", {"policy_may_fall_back"}),
    ("web01", "vss_copy", "crash", {"no_writers"}),
    ("web01", "live_copy", "inconsistent", set()),
    ("vss-off", "recovery_checkpoint_application", None, {"guest_cannot_quiesce"}),
    ("vss-off", "production_checkpoint", "image", {"policy_falls_back"}),
    ("linux-vss", "export_application", "filesystem", {"linux_guest"}),
    ("two-volumes", "vss_copy", "inconsistent", {"several_volumes"}),
    ("two-volumes", "recovery_checkpoint_application", "application", set()),
    ("smb3", "vss_copy", None, {"smb_storage"}),
    ("smb3", "export_crash", "crash", set()),
    ("passthrough", "production_checkpoint", None, {"pass_through_disk"}),
    ("passthrough", "vss_copy", "crash", {"pass_through_disk"}),
    ("replica", "export_crash", None, {"replica_vm"}),
    ("shared-vhdx", "export_crash", None, {"shared_disk"}),
    ("off", "vss_copy", "image", set()),
    ("saved", "vss_copy", "crash", {"saved_memory_left_out"}),
    ("legacy", "recovery_checkpoint_crash", None, {"needs_version_6_2"}),
]


@pytest.mark.parametrize(("name", "method", "level", "reasons"), READINESS, ids=[f"{row[0]}-{row[1]}" for row in READINESS])
def test_readiness_says_what_each_method_reaches_and_why(played: Played, name: str, method: str, level: str | None,
                                                         reasons: set[str]) -> None:
    machine = next(machine for machine in played.of("all", "v2022")["vms"] if machine["name"] == name)
    verdict = next(verdict for verdict in machine["readiness"] if verdict["method"] == method)
    assert verdict["achievable"] == level
    assert reasons <= {reason["code"] for reason in verdict["reasons"]}
    assert all(reason["text"].endswith(".") for reason in verdict["reasons"])


def test_methods_that_a_release_does_not_have_are_blocked_there(played: Played) -> None:
    machine = played.machines("v2012R2")["web01", "running"]
    levels = {verdict["method"]: verdict["achievable"] for verdict in machine["readiness"]}
    assert (levels["production_checkpoint"], levels["recovery_checkpoint_application"]) == (None, None)
    assert (levels["vss_copy"], levels["vss_writer"], levels["standard_checkpoint"]) == ("crash", "application", "image")


@pytest.mark.parametrize("other", ["japan", "refuses"])
def test_language_time_zone_and_refused_filters_of_a_host_change_no_fact(played: Played, other: str) -> None:
    own = ("vm_id", "id", "parent_id", "path", "parent_path", "configuration_file", "disk_id", "uptime", "last_state_change",
           "last_backup", "created", "last_replicated", "last_applied", "name")

    def without_own(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without_own(item) for key, item in value.items() if key not in own}
        return [without_own(item) for item in value] if isinstance(value, list) else value

    here, there = played.machines("v2022"), played.machines(other)
    assert set(there) == set(here)
    for machine in (*here.values(), *there.values()):
        machine["disks"].sort(key=lambda disk: (disk["kind"], disk["volume"] or ""))  # the host orders them by identifiers of its own
    for key in here:
        assert without_own(there[key]) == without_own(here[key]), key
        assert abs(seconds(there[key]["created"]) - seconds(here[key]["created"])) < 3600
    assert abs(played.of("all", other)["host"]["clock_skew"]) < 300


def seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def test_cluster_role_and_its_owner(played: Played) -> None:
    assert played.of("all", "node1")["host"]["cluster"] == "CL1"
    mine = played.machines("node1")
    assert {key: mine["csv", "running"]["cluster"][key] for key in ("clustered", "owner_node", "state")} == {
        "clustered": True, "owner_node": "NODE1", "state": "online"}
    assert mine["web01", "running"]["cluster"]["clustered"] is False
    assert played.of("all", "node2")["host"]["cluster"] == "CL1"
    assert played.machines("v2022")["web01", "running"]["cluster"] is None
    (disk,) = mine["csv", "running"]["disks"]
    assert (disk["storage"], disk["volume"]) == ("csv", "C:\\ClusterStorage\\Volume1\\")


def test_clocks_that_differ_are_a_warning(played: Played) -> None:
    late = played.of("all", "late")
    assert -3700 < late["host"]["clock_skew"] < -3500
    assert any("behind the controller's" in warning for warning in late["warnings"])
