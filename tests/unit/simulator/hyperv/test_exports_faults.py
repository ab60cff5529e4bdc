# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports that are refused, fail, are cancelled or die: what is told, and what is left on disk."""
from __future__ import annotations

from pathlib import Path

import pytest
from simulator.cim.model import Ref
from simulator.clock import SimClock
from simulator.fileserver import FileServer, FileServerSpec
from simulator.hyperv.spec import DiskSpec
from simulator.windows.spec import ShareSpec, VolumeSpec
from unit.simulator.hyperv.bench import MakeBench
from unit.simulator.hyperv.checkpoint_bench import GUID, MakePatient, Patient, spec
from unit.simulator.hyperv.export_bench import SERVICE, Exported

MIB = 1024 * 1024


def test_a_target_that_is_taken(patient: MakePatient) -> None:
    vm = Exported(patient())
    vm.host.files.create_directory("E:\\Exports\\web01")
    code, text = vm.patient.failed(vm.export(CreateVmExportSubdirectory=True))
    assert (code, "0x800700B7" in text, vm.folders()) == (32768, True, ["web01"])
    vm.done("E:\\Exports\\web01")  # a folder of one's own may be there, and hold other things
    vm.host.files.write_file("E:\\Exports\\web01\\notes.txt", b"x")
    before = vm.files()
    code, text = vm.patient.failed(vm.export("E:\\Exports\\web01"))
    assert ("0x800700B7" in text, vm.files()) == (True, before)


def test_the_directory(patient: MakePatient) -> None:
    vm = Exported(patient())
    vm.done("E:\\Exports\\new")
    assert vm.host.files.exists(f"E:\\Exports\\new\\Virtual Machines\\{GUID}.vmcx")
    for directory, options in (("E:\\Exports\\other", {"CreateVmExportSubdirectory": True}), ("E:\\no\\where", {}), ("Q:\\x", {})):
        assert "0x80070003" in vm.patient.failed(vm.export(directory, **options))[1]
    vm.host.files.write_file("E:\\file", b"x")
    assert "0x800700B7" in vm.patient.failed(vm.export("E:\\file"))[1]


@pytest.mark.parametrize(("leaves", "left"), [("nothing", []), ("files", ["Virtual Hard Disks", "Virtual Machines"])])
def test_a_full_disk(patient: MakePatient, leaves: str, left: list[str]) -> None:
    volumes = [VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:", size=64 * MIB, free=12 * MIB)]
    vm = Exported(patient(volumes=volumes, disks=(DiskSpec(kind="fixed", size=16 * MIB),)))
    vm.role.knobs.failed_export_leaves = leaves  # type: ignore[assignment]
    answer = vm.export()
    code, text = vm.patient.failed(answer)
    assert (code, "0x80070070" in text) == (32768, True)
    assert 40 <= int(str(vm.patient.job(answer)["PercentComplete"])) < 60
    assert sorted({name.split("\\")[0] for name in vm.files()}) == left
    assert vm.patient.status() == [2]
    assert vm.host.files.resolve("E:\\").volume.free_bytes == (12 * MIB if not left else 0)


@pytest.mark.parametrize("leaves", ["nothing", "files"])
def test_cancelled(patient: MakePatient, leaves: str) -> None:
    vm = Exported(patient())
    vm.role.knobs.failed_export_leaves = leaves  # type: ignore[assignment]
    answer = vm.export()
    vm.host.clock.advance(5)
    half = vm.files()
    selectors = {"InstanceID": str(vm.patient.job(answer)["InstanceID"])}
    assert vm.host.call("Msvm_ConcreteJob", "RequestStateChange", {"RequestedState": 4}, selectors=selectors)["ReturnValue"] == 4096
    vm.host.clock.advance(2)
    assert vm.patient.job(answer)["JobState"] == 8
    assert vm.files() == (half if leaves == "files" else [])
    assert half
    assert vm.patient.status() == [2]
    vm.done("E:\\Again")


def test_files_that_are_being_written_are_open(patient: MakePatient) -> None:
    vm = Exported(patient())
    answer = vm.export()
    vm.host.clock.advance(5)
    place = vm.host.files.resolve(f"E:\\Exports\\Virtual Machines\\{GUID}.vmcx")
    assert [handle.owner for handle in place.volume.backing.handles[tuple(part.upper() for part in place.parts)]] == ["vmms"]
    vm.patient.finished(answer)
    assert place.volume.backing.handles == {}


@pytest.mark.parametrize("keeps", [0.0, 300.0])
@pytest.mark.parametrize("fails", [True, False])
def test_jobs_that_are_gone(patient: MakePatient, keeps: float, fails: bool) -> None:
    vm = Exported(patient())
    vm.role.jobs.keep_seconds = keeps
    if fails:
        vm.role.knobs.export_error[GUID] = 0x80004005
    vm.export()
    vm.host.clock.advance(11)
    assert [row["JobState"] for row in vm.host.rows("Msvm_ConcreteJob")] == ([] if not keeps else [10] if fails else [7])
    assert bool(vm.files()) is not fails


def test_somebody_else_has_a_disk(patient: MakePatient) -> None:
    vm = Exported(patient(state="off"))
    path = "D:\\VMs\\web01\\Virtual Hard Disks\\web01.vhdx"
    place = vm.host.files.resolve(path)
    handle = vm.host.files.hold(place, "antivirus", share_read=False)
    code, text = vm.patient.failed(vm.export())
    assert (code, "0x80070020" in text) == (32774, True)
    vm.host.files.release(place, handle)
    vm.done()


@pytest.mark.parametrize("moves", [True, False])
def test_the_machine_goes(patient: MakePatient, bench: MakeBench, moves: bool) -> None:
    vm = Exported(patient(state="off"))
    answer = vm.export()
    vm.host.clock.advance(5)
    if moves:
        vm.role.move_vm(GUID, bench(name="other", network=vm.host.files.network).role)
    else:
        vm.role.remove_vm(GUID)
    assert (vm.patient.failed(answer)[0], vm.machine.busy, vm.files()) == (32777, None, [])


def test_the_service_restarts(patient: MakePatient) -> None:
    vm = Exported(patient())
    vm.export()
    vm.host.clock.advance(5)
    vm.role.restart_vmms()
    left = vm.files()
    vm.host.clock.advance(600)
    assert (vm.host.rows("Msvm_ConcreteJob"), vm.files(), vm.patient.status()) == ([], left, [2])
    assert f"Virtual Machines\\{GUID}.vmcx" in left
    assert "0x800700B7" in vm.patient.failed(vm.export())[1]


def test_a_rule_lets_the_job_fail(patient: MakePatient) -> None:
    from simulator.hyperv.jobs import JobFailure

    vm = Exported(patient())
    vm.role.jobs.next_failures.append((62, JobFailure(32768, "because", hresult=0x8007054F)))
    assert "0x8007054F" in vm.patient.failed(vm.export())[1]
    vm.done()


# -- shares ----------------------------------------------------------------------------------------------------------------


def _shared(tmp_path: Path, make: MakeBench, *shares: ShareSpec, domain: str | None = "example.test") -> tuple[Exported, FileServer]:
    """A machine whose host is in a domain, and a file server."""
    host = make(spec(), domain=domain)
    server = FileServer(FileServerSpec("fs1", domain, (VolumeSpec("C:"), VolumeSpec("S:")), shares), tmp_path / "fs1", SimClock(),
                        host.files.network)
    return Exported(Patient(host)), server


ACCOUNT = "example\\HV1$"


def test_a_share_is_reached_as_the_computer(tmp_path: Path, bench: MakeBench) -> None:
    vm, _server = _shared(tmp_path, bench, ShareSpec("backup", "S:\\Backup", (ACCOUNT,)))
    guest = vm.guest()
    guest.write_some(7)
    vm.done("\\\\fs1\\backup\\web01")
    assert f"Virtual Machines\\{GUID}.vmcx" in vm.files("\\\\fs1\\backup\\web01")
    assert vm.proof("web01.vhdx", "\\\\fs1\\backup\\web01").holds_until(7)


@pytest.mark.parametrize("share", [
    ShareSpec("backup", "S:\\Backup", ("example\\somebody",)),  # not admitted
    ShareSpec("backup", "S:\\Backup", ("example\\somebody",), admitted=(ACCOUNT,)),  # the folder says no
    ShareSpec("backup", "S:\\Backup", ("example\\somebody",), readers=(ACCOUNT,))])
def test_rights_that_are_missing(tmp_path: Path, bench: MakeBench, share: ShareSpec) -> None:
    vm, _server = _shared(tmp_path, bench, share)
    code, text = vm.patient.failed(vm.export("\\\\fs1\\backup\\web01"))
    assert (code, "0x80070005" in text, "General access denied error" in text) == (32768, True, True)


def test_a_host_without_a_domain_has_no_account_elsewhere(tmp_path: Path, bench: MakeBench) -> None:
    vm, _server = _shared(tmp_path, bench, ShareSpec("backup", "S:\\Backup"), domain=None)
    assert "0x80070005" in vm.patient.failed(vm.export("\\\\fs1\\backup\\web01"))[1]


def test_a_server_that_goes_away(tmp_path: Path, bench: MakeBench) -> None:
    vm, server = _shared(tmp_path, bench, ShareSpec("backup", "S:\\Backup", (ACCOUNT,)))
    answer = vm.export("\\\\fs1\\backup\\web01")
    vm.host.clock.advance(5)
    server.take_down()
    code, text = vm.patient.failed(answer)
    assert (code, "0x80070040" in text) == (32768, True)
    server.bring_up()
    assert server.files.exists("S:\\Backup\\web01\\Virtual Machines")  # nobody could take it away
    server.remove_share("backup")
    assert "0x80070043" in vm.patient.failed(vm.export("\\\\fs1\\backup\\other"))[1]


def test_a_leftover_can_be_taken_away_afterwards(patient: MakePatient) -> None:
    vm = Exported(patient())
    vm.role.knobs.failed_export_leaves = "files"
    vm.role.knobs.export_error[GUID] = 0x80004005
    vm.patient.failed(vm.export())
    for name in vm.files():
        vm.host.files.remove_file(vm.host.files.resolve(f"E:\\Exports\\{name}"))
    for name in reversed(vm.folders()):
        vm.host.files.remove_directory(vm.host.files.resolve(f"E:\\Exports\\{name}"))
    vm.role.knobs.export_error.clear()
    assert vm.done()["JobState"] == 7
    assert isinstance(vm.job_of(vm.export("E:\\Again")), Ref)


def test_the_image_service_reaches_shares_as_the_computer(tmp_path: Path, bench: MakeBench) -> None:
    vm, server = _shared(tmp_path, bench, ShareSpec("backup", "S:\\Backup", (ACCOUNT,)))
    vm.done("\\\\fs1\\backup\\web01")
    path = "\\\\fs1\\backup\\web01\\Virtual Hard Disks\\web01.vhdx"
    service = "Msvm_ImageManagementService"
    assert vm.host.call(service, "GetVirtualHardDiskSettingData", {"Path": path})["ReturnValue"] == 0
    server.files.shares["backup"] = ShareSpec("backup", "S:\\Backup", ("example\\somebody",))
    assert vm.host.call(service, "GetVirtualHardDiskSettingData", {"Path": path})["ReturnValue"] == 32769
    answer = vm.host.call(service, "ValidateVirtualHardDisk", {"Path": path})
    vm.patient.until(lambda: vm.patient.job(answer)["JobState"] == 10, 10)
    assert vm.patient.job(answer)["JobCompletionStatusCode"] == 0x80070005
    definition = f"\\\\fs1\\backup\\web01\\Virtual Machines\\{GUID}.vmcx"
    assert vm.host.call(SERVICE, "GetDefinitionFileSummaryInformation", {"DefinitionFiles": [definition]})["ReturnValue"] == 32768
