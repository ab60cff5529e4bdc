# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_vm_info`` against simulated hosts of every release."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import NOTHING_VISIBLE
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vm_info
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, GuestSpec, IntegrationSpec, VmSpec
from simulator.soap.rules import vanish
from simulator.spec import ClusterSpec
from simulator.windows.spec import VolumeSpec

Start = Callable[..., Any]
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:", free=10 * 1024**3))


def readiness(vm: dict[str, Any]) -> dict[str, str | None]:
    return {entry["method"]: entry["achievable"] for entry in vm["readiness"]}


def codes(vm: dict[str, Any], method: str) -> set[str]:
    return {reason["code"] for entry in vm["readiness"] if entry["method"] == method for reason in entry["reasons"]}


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {vm["name"]: vm for vm in result["vms"]}


@pytest.mark.parametrize(
    ("release", "application", "policy"),
    [
        ("2012R2", {"vss_writer"}, None),
        *[
            (release, {"vss_writer", "production_checkpoint", "recovery_checkpoint_application", "export_application"}, "production_only")
            for release in ("2016", "2019", "2022", "2025")
        ],
    ],
)
def test_every_release(start: Start, release: str, application: set[str], policy: str | None) -> None:
    result = start(os_version=release, volumes=VOLUMES, vms=(VmSpec("a", policy="production_only"),)).run(hyperv_vm_info)
    vm = result["vms"][0]
    assert result["host"]["release"] == release
    assert {method for method, level in readiness(vm).items() if level == "application"} == application
    assert vm["checkpoint_policy"] == policy
    assert (vm["automatic_checkpoints"] is None) == (release in ("2012R2", "2016"))
    assert (vm["security"] is None) == (release == "2012R2")


def test_requests_do_not_grow_with_the_number_of_machines(start: Start) -> None:
    counts = []
    for number in (1, 100):
        runner = start(volumes=VOLUMES, vms=tuple(VmSpec(f"vm{n}", checkpoints=(CheckpointSpec("c"),)) for n in range(number)))
        before = runner.running.host.counters.snapshot()
        result = runner.run(hyperv_vm_info)
        used = runner.running.host.counters.since(before)
        assert len(result["vms"]) == number
        assert used.writing == 0
        counts.append(used.requests - used.by_operation.get("Pull", 0))
    assert counts[0] == counts[1] <= 20


def test_a_clustered_host_needs_at_most_twenty_requests(start: Start) -> None:
    cluster = ClusterSpec("HVCLUSTER", ("HV01", "HV02"))
    csv = tuple(VolumeSpec(f"C:\\ClusterStorage\\Volume{n}", filesystem="CSVFS", owned=n == 1) for n in (1, 2))
    runner = start(
        volumes=(*VOLUMES, *csv),
        cluster=cluster,
        vms=tuple(VmSpec(f"on{n}", clustered=True, disks=(DiskSpec(f"C:\\ClusterStorage\\Volume{n}\\on{n}\\a.vhdx"),)) for n in (1, 2)),
    )
    before = runner.running.host.counters.snapshot()
    result = runner.run(hyperv_vm_info)
    used = runner.running.host.counters.since(before)
    assert used.requests - used.by_operation.get("Pull", 0) <= 20
    vms = by_name(result)
    assert result["host"]["cluster"] == "HVCLUSTER"
    assert {name: (vm["cluster"]["clustered"], vm["cluster"]["owner_node"]) for name, vm in vms.items()} == {
        "on1": (True, "HV01"),
        "on2": (True, "HV01"),
    }
    assert (readiness(vms["on1"])["vss_copy"], readiness(vms["on2"])["vss_copy"]) == ("crash", None)
    assert "csv_not_owned" in codes(vms["on2"], "vss_copy")


def test_facts_of_one_machine(start: Start) -> None:
    runner = start(
        volumes=VOLUMES,
        vms=(
            VmSpec(
                "sql",
                folder="D:\\VMs\\sql",
                disks=(DiskSpec("D:\\VMs\\sql\\a.vhdx"),),
                checkpoints=(CheckpointSpec("c", kind="standard"),),
                tpm=True,
                notes="line 1\nline <2>",
            ),
        ),
    )
    vm = runner.run(hyperv_vm_info, name="SQL", gather=["disks", "chains", "checkpoints", "security"])["vm"]
    assert (vm["state"], vm["notes"], vm["security"]["tpm"]) == ("running", "line 1\nline <2>", True)
    assert [(item["kind"], item["saved_state"]) for item in vm["checkpoints"]] == [("user", True)]
    disk = vm["disks"][0]
    assert (disk["differencing"], disk["volume"], disk["storage"], disk["chain_problem"]) == (True, "D:\\", "local", None)
    assert [link["kind"] for link in disk["chain"]] == ["differencing", "dynamic"]
    assert disk["chain"][0]["parent_path"] == disk["chain"][1]["path"] == "D:\\VMs\\sql\\a.vhdx"
    assert "readiness" not in vm
    assert "integration" not in vm


def test_states_guests_and_places(start: Start) -> None:
    vms = by_name(
        start(
            volumes=VOLUMES,
            vms=(
                VmSpec("off", state="off"),
                VmSpec("saved", state="saved"),
                VmSpec("paused", state="paused"),
                VmSpec("linux", guest=GuestSpec.linux()),
                VmSpec("silent", integration=IntegrationSpec.none(), guest=None),
                VmSpec("smb", disks=(DiskSpec("\\\\fs\\vms\\a.vhdx"),)),
                VmSpec("two", disks=(DiskSpec("C:\\v\\a.vhdx"), DiskSpec("D:\\v\\b.vhdx"))),
                VmSpec("raw", disks=(DiskSpec(medium="passthrough"),)),
                VmSpec("full", disks=(DiskSpec("E:\\v\\a.vhdx"),)),
                VmSpec("shared", disks=(DiskSpec("D:\\v\\s.vhdx", shared=True),)),
                VmSpec("replica", replication_mode=2),
                VmSpec("primary", replication_mode=1),
                VmSpec("merging", busy="merging"),
            ),
        ).run(hyperv_vm_info)
    )
    assert {name: vm["state"] for name, vm in vms.items() if vm["state"] != "running" and name != "replica"} == {
        "off": "off",
        "saved": "saved",
        "paused": "paused",
    }
    assert {name: readiness(vm)["vss_copy"] for name, vm in vms.items()} == {
        "off": "image",
        "saved": "crash",
        "paused": "crash",
        "linux": "crash",
        "silent": "crash",
        "smb": None,
        "two": "inconsistent",
        "raw": None,
        "full": None,
        "shared": None,
        "replica": None,
        "primary": "crash",
        "merging": "crash",
    }
    assert readiness(vms["linux"])["export_application"] == "filesystem"
    assert readiness(vms["silent"])["export_application"] is None
    assert "little_free_space" in codes(vms["full"], "vss_copy")
    assert "pass_through_disk" in codes(vms["raw"], "export_crash")
    assert vms["replica"]["replication"]["mode"] == "replica"
    assert vms["primary"]["replication"]["relations"][0]["state"] == "replicating"
    assert vms["merging"]["busy"] == "merging_disks"


HOSTILE = ["a\"b'c", "50%PATH%", "a&b", "<x>", "a\nb", "{{ 1 + 1 }}", "\u202eevil", "\U0001f4be", "日本語", "]]>", "a\\b"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_arrive_as_they_are(start: Start, name: str) -> None:
    runner = start(volumes=VOLUMES, vms=(VmSpec(name, disks=(DiskSpec("D:\\v\\a.vhdx"),)),))
    assert [vm["name"] for vm in runner.run(hyperv_vm_info, gather=["state"])["vms"]] == [name]
    assert runner.run(hyperv_vm_info, name=name, gather=["state"])["vm"]["name"] == name


def test_names_duplicates_and_missing(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(VmSpec("a"), VmSpec("A"), VmSpec("b")))
    result = runner.run(hyperv_vm_info, names=["a", "c", "c"], gather=["state"])
    assert [vm["name"].lower() for vm in result["vms"]] == ["a", "a"]
    assert result["missing"] == ["c"]
    assert [len(guids) for guids in result["duplicates"].values()] == [2]
    with pytest.raises(HypervError) as several:
        runner.run(hyperv_vm_info, name="a")
    assert several.value.error_code == "vm_not_unique"
    one = result["vms"][0]["vm_id"]
    assert runner.run(hyperv_vm_info, vm_id=one.lower(), gather=["state"])["vm"]["vm_id"] == one


def test_a_refused_account_is_never_an_empty_host(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(VmSpec("a"),))
    with pytest.raises(HypervError) as refused:
        runner.run(hyperv_vm_info, user="nobody")
    assert refused.value.error_code == "access_denied"


def test_an_empty_host_is_said(start: Start) -> None:
    runner = start(volumes=VOLUMES)
    assert runner.run(hyperv_vm_info)["vms"] == []
    assert runner.told.warnings == [NOTHING_VISIBLE]


@pytest.mark.parametrize(("skew", "warned"), [(timedelta(minutes=4), False), (timedelta(minutes=6), True), (timedelta(minutes=-6), True)])
def test_clocks_apart_are_said(start: Start, skew: timedelta, warned: bool) -> None:
    runner = start(skew=skew, volumes=VOLUMES, vms=(VmSpec("a"),))
    result = runner.run(hyperv_vm_info, gather=["state"])
    assert bool(runner.told.warnings) is warned
    assert abs(result["host"]["clock_skew"] - skew.total_seconds()) < 5


@pytest.mark.parametrize("locale", ["de-DE", "ja-JP"])
def test_the_language_of_the_host_does_not_matter(start: Start, locale: str) -> None:
    runner = start(locale=locale, volumes=VOLUMES, vms=(VmSpec("a"), VmSpec("b", state="off")))
    assert {name: vm["state"] for name, vm in by_name(runner.run(hyperv_vm_info)).items()} == {"a": "running", "b": "off"}


def test_a_machine_that_goes_away_between_two_requests_is_reported(start: Start) -> None:
    runner = start(volumes=VOLUMES, vms=(VmSpec("stays"), VmSpec("leaves")))
    with runner.fleet.locked():
        host = runner.running.host
        gone = host.hyperv.find("leaves").id
        host.rules.add(
            vanish(lambda: host.hyperv.remove_vm(gone)),
            operation="Enumerate",
            when=lambda view: "Msvm_VirtualSystemSettingData" in view.document,
        )
    result = runner.run(hyperv_vm_info)
    assert [vm["name"] for vm in result["vms"]] == ["stays"]
    assert result["vanished"] == [{"vm_id": gone.upper(), "name": "leaves"}]
    assert len(runner.told.warnings) == 1
