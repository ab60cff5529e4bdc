# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""diskshadow with the Hyper-V writer: sets at one instant, what guests are left in, refusals, what is left behind."""
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from simulator.cim.model import Caller
from simulator.disks import proof
from simulator.host import SimHost
from simulator.hyperv.model import Machine
from simulator.hyperv.spec import MIB, ComponentSpec, DiskSpec, GuestSpec, IntegrationSpec, VmSpec
from simulator.hyperv.writer import WRITER_ID, auto_recovery_path
from simulator.windows import vss
from simulator.windows.processes import SimProcess
from simulator.windows.shadows import ShadowSettings
from simulator.windows.spec import VolumeSpec
from unit.simulator.windows.task_helpers import ACCOUNTS, CALLER, CLERK, FOLDER, call, info, make_host, register, task_xml

SCRIPT = "C:\\job\\script.txt"
HEAD = ("reset", "set context persistent", "set metadata C:\\job\\meta.cab", "set verbose on", "set option differential", "begin backup")
VERIFY = f"writer verify {WRITER_ID}"
VOLUMES = (VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:"), VolumeSpec("F:", filesystem="FAT32"))
TWO_DISKS = VmSpec("web", folder="D:\\VMs\\web", disks=(DiskSpec("D:\\VMs\\web\\one.vhdx", size=32 * MIB),
                                                        DiskSpec("E:\\VMs\\web\\two.vhdx", size=32 * MIB)))
OTHER = VmSpec("other", folder="D:\\VMs\\other", disks=(DiskSpec("D:\\VMs\\other\\disk.vhdx", size=32 * MIB),))
NO_ANSWER = IntegrationSpec(vss=ComponentSpec(status="no_contact"))


def host_with(root: Path, *machines: VmSpec, writes: float = 20.0, **values: object) -> SimHost:
    host = make_host(root, volumes=VOLUMES, vms=machines or (TWO_DISKS,), guest_writes={vm.name: writes for vm in machines or (TWO_DISKS,)
                                                                                        if vm.state == "running"}, **values)
    host.files.create_directory("C:\\job")
    return host


def start(host: SimHost, *lines: str, caller: Caller = CALLER) -> SimProcess:
    host.files.write_file(SCRIPT, "\r\n".join(lines).encode())
    return host.processes.start(caller, f"C:\\Windows\\System32\\diskshadow.exe /s {SCRIPT}", {}, "C:\\job", job="shell")


def finish(host: SimHost, process: SimProcess) -> tuple[int | None, str]:
    while process.exit_code is None and host.clock.jump_to_next():
        pass
    return process.exit_code, process.take_output()[0].decode()


def run(host: SimHost, *lines: str, caller: Caller = CALLER) -> tuple[int | None, str]:
    return finish(host, start(host, *lines, caller=caller))


def code_of(outcome: tuple[int | None, str]) -> int:
    """The HRESULT that a script ended with; 0 for success."""
    status, out = outcome
    assert (status == 0) is ("Returned HRESULT" not in out), out
    return int(out.partition("Returned HRESULT = ")[2].split()[0], 16) if status else 0


def machine(host: SimHost, name: str = "web") -> Machine:
    return host.hyperv.find(name)


# -- the whole way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("os_version", ["2016", "2022", "2025"])
def test_a_set_of_two_volumes_is_one_quiesced_instant(tmp_path: Path, os_version: str) -> None:
    host = host_with(tmp_path, os_version=os_version)
    host.files.create_directory("C:\\out")
    host.files.write_file("C:\\job\\copy.cmd", b"@echo off\r\n"
                          b"C:\\Windows\\System32\\robocopy.exe P:\\VMs\\web C:\\out one.vhdx /R:0 /W:0 /NP\r\n"
                          b"if errorlevel 2 exit /b 1\r\n"
                          b"C:\\Windows\\System32\\robocopy.exe C:\\job\\mount\\VMs\\web C:\\out two.vhdx /R:0 /W:0 /NP\r\n"
                          b"if errorlevel 2 exit /b 1\r\necho %V1% %VSS_SHADOW_SET%>C:\\out\\ids\r\nexit /b 0\r\n")
    host.files.create_directory("C:\\job\\mount")
    host.clock.advance(10)
    guest = host.guests[machine(host).id]
    before = guest.sequence
    out = run(host, *HEAD, VERIFY, "add volume D: alias V1", "add volume E:\\ alias V2", "create", "expose %V1% P:",
              "expose %V2% C:\\job\\mount",
              "exec C:\\job\\copy.cmd", "unexpose P:", "unexpose C:\\job\\mount", "delete shadows set %VSS_SHADOW_SET%", "end backup",
              "exit")
    assert out[0] == 0, out[1]
    assert host.shadows.copies == []
    assert host.files.exposed == {}
    assert guest.sequence > before + 20, "the guest wrote on while its disks were copied"
    assert not guest.frozen
    proofs = [proof.inspect(host.files.real_path(f"C:\\out\\{name}.vhdx")) for name in ("one", "two")]
    assert proof.together(proofs) == []
    assert [shown.quiesced for shown in proofs] == [True, True]
    assert host.files.read_file("C:\\out\\ids").decode().count("{") == 2
    assert host.files.read_file("C:\\job\\meta.cab").startswith(b"MSCF")
    assert (machine(host).busy, machine(host).last_backup is not None) == (None, True)


def test_on_2012_r2_the_consistent_state_is_in_the_auto_recovery_files(tmp_path: Path) -> None:
    host = host_with(tmp_path, os_version="2012R2")
    host.clock.advance(10.01)
    guest = host.guests[machine(host).id]
    assert guest.in_flight is not None
    seen: dict[str, list[Path]] = {}

    def copied() -> None:
        for copy in host.shadows.copies:
            for real in sorted((copy.frozen.root / "VMs" / "web").glob("*.*vhdx")):
                target = tmp_path / real.name
                target.write_bytes(real.read_bytes())
                seen.setdefault(real.name.split(".")[0].removesuffix("-AutoRecovery"), []).append(target)

    host.files.write_file("C:\\job\\wait.cmd", b"@ver>nul")
    host.shadows.settings = ShadowSettings(creation_seconds=1.0)
    process = start(host, *HEAD, VERIFY, "add volume D: alias V1", "add volume E: alias V2", "create", "exec C:\\job\\wait.cmd",
                    "end backup")
    code, out = finish(host, process)
    assert code == 0, out
    copied()
    assert {name: sorted(path.name for path in paths) for name, paths in seen.items()} == {
        "one": ["one-AutoRecovery.avhdx", "one.vhdx"], "two": ["two-AutoRecovery.avhdx", "two.vhdx"]}
    bases = [proof.inspect(tmp_path / f"{name}.vhdx") for name in ("one", "two")]
    assert proof.together(bases) == []
    assert [shown.quiesced for shown in bases] == [False, False]
    assert any(shown.in_flight for shown in bases)
    leaves = [proof.inspect(tmp_path / f"{name}-AutoRecovery.avhdx", [tmp_path / f"{name}.vhdx"]) for name in ("one", "two")]
    assert proof.together(leaves) == []
    assert [shown.quiesced for shown in leaves] == [True, True]
    assert max(shown.last for shown in leaves) == max(shown.last for shown in bases) + 1
    assert not host.files.exists("D:\\VMs\\web\\one-AutoRecovery.avhdx")


def quiesced(host: SimHost, *lines: str) -> bool:
    """Whether the first disk of web in a new copy of D: is quiesced; the copy is crash-consistent at least."""
    assert code_of(run(host, *HEAD, *lines, "add volume D: alias V1", "add volume E: alias V2", "create", "end backup")) == 0
    folder = next(copy for copy in host.shadows.copies if copy.volume.spec.letter == "D:").frozen.root / "VMs" / "web"
    child = folder / "one-AutoRecovery.avhdx"
    shown = proof.inspect(child, [folder / "one.vhdx"]) if child.exists() else proof.inspect(folder / "one.vhdx")
    assert shown.consistent, shown.summary()
    return shown.quiesced


LINUX = GuestSpec.linux()


@pytest.mark.parametrize(("os_version", "spec", "lines", "expected"), [
    ("2022", TWO_DISKS, (), True), ("2012R2", TWO_DISKS, (), True), ("2022", replace(TWO_DISKS, integration=NO_ANSWER), (), False),
    ("2012R2", replace(TWO_DISKS, integration=NO_ANSWER), (), False), ("2022", replace(TWO_DISKS, guest=LINUX), (), True),
    ("2012R2", replace(TWO_DISKS, guest=LINUX), (), False),
    ("2022", replace(TWO_DISKS, guest=LINUX, integration=IntegrationSpec.none()), (), False),
    ("2022", replace(TWO_DISKS, integration=IntegrationSpec(vss=ComponentSpec(enabled=False))), (), False),
    ("2022", TWO_DISKS, ("set context persistent nowriters",), False), ("2022", TWO_DISKS, ("set context clientaccessible",), False),
    ("2022", TWO_DISKS, (f"writer exclude {WRITER_ID}",), False), ("2022", TWO_DISKS,
                                                                   ("writer exclude Microsoft Hyper-V VSS Writer",), False),
    ("2012R2", TWO_DISKS, ("set option noautorecover",), False),
])
def test_when_guests_are_quiesced(tmp_path: Path, os_version: str, spec: VmSpec, lines: tuple[str, ...], expected: bool) -> None:
    host = host_with(tmp_path, spec, os_version=os_version)
    host.clock.advance(5)
    assert quiesced(host, *lines) is expected
    assert not host.guests[machine(host).id].frozen


# -- refusals --------------------------------------------------------------------------------------------------------

BOTH = ("add volume D: alias V1", "add volume E: alias V2")


@pytest.mark.parametrize(("lines", "code"), [
    (("add volume D:", "create"), vss.WRITER_INCONSISTENT), (("add volume E:", "create"), vss.WRITER_INCONSISTENT),
    (("add volume C:", "create"), 0), ((*BOTH, "create"), 0), (("set context persistent nowriters", "add volume D:", "create"), 0),
    ((f"writer exclude {WRITER_ID}", "add volume D:", "create"), 0), (("create",), vss.BAD_STATE),
    (("add volume Z:",), vss.OBJECT_NOT_FOUND),
    (("add volume D:\\VMs",), vss.OBJECT_NOT_FOUND), (("add volume F:",), vss.VOLUME_NOT_SUPPORTED),
    (("add volume D:", "add volume d:\\"), vss.OBJECT_ALREADY_EXISTS), ((VERIFY, "add volume C:", "create"), vss.BAD_STATE),
    ((VERIFY, *BOTH, "create"), 0), ((VERIFY, "set context persistent nowriters", *BOTH, "create"), vss.BAD_STATE),
    ((f"writer verify {{{'0' * 8}-0000-0000-0000-{'0' * 12}}}",), vss.OBJECT_NOT_FOUND),
    (("writer verify \"Microsoft Hyper-V VSS Writer\"", *BOTH, "create"), 0), ((*BOTH, "create", "create"), vss.BAD_STATE),
    (("end backup", "end backup"), vss.BAD_STATE), (("delete shadows id {x}",), vss.OBJECT_NOT_FOUND),
    (("unexpose P:",), vss.OBJECT_NOT_FOUND),
    ((*BOTH, "create", "expose %V1% D:"), 0x800700B7), ((*BOTH, "create", "expose %V1% C:\\none"), 0x80070003),
    ((*BOTH, "create", "expose %V1% C:\\Windows"), 0x80070091), ((*BOTH, "create", "expose %V1% P:", "expose %V1% Q:"), vss.BAD_STATE),
    (("set context volatile", *BOTH, "create", "expose %V1% P:"), vss.BAD_STATE),
    (("set context clientaccessible", *BOTH, "create", "expose %V1% P:"), vss.BAD_STATE),
    (("set metadata D:\\none\\x.cab", *BOTH, "create"), 0x80070003),
])
def test_codes_of_a_script_that_fails(tmp_path: Path, lines: tuple[str, ...], code: int) -> None:
    host = host_with(tmp_path)
    found = code_of(run(host, *HEAD, *lines, "exit", "never reached"))
    assert f"0x{found:08X}" == f"0x{code:08X}"


@pytest.mark.parametrize("line", ["set context none", "set context volatile writers", "add volume", "frobnicate", "writer verify",
                                  "delete shadows",
                                  "set verbose maybe", "set metadata", "expose x"])
def test_lines_that_are_no_commands_end_the_script(tmp_path: Path, line: str) -> None:
    host = host_with(tmp_path)
    code, out = run(host, "add volume C:", line, "create")
    assert code == 1
    assert "-> create" not in out
    assert host.shadows.copies == []


@pytest.mark.parametrize("line", ["list writers", "begin restore", "set option transportable", "add volume \\\\nas\\share", "revert {x}",
                                  "import", "add volume C: provider {x}"])
def test_what_is_not_imitated_is_said(tmp_path: Path, line: str) -> None:
    process = start(host_with(tmp_path), line)
    assert process.exit_code == 1
    assert b"simulator: " in process.take_output()[1]


def test_a_failing_machine_fails_the_set_unless_it_is_excluded(tmp_path: Path) -> None:
    host = host_with(tmp_path, TWO_DISKS, OTHER)
    other = machine(host, "other")
    script = (*HEAD, VERIFY, *BOTH, "create", "end backup")
    for code in (vss.WRITER_RETRYABLE, vss.WRITER_NON_RETRYABLE):
        host.writer.failures[other.id] = code
        assert code_of(run(host, *script)) == code
        assert (host.writer.state, host.writer.last_error) == (8, code)
        assert host.shadows.copies == []
        assert [found.busy for found in (machine(host), other)] == [None, None]
    out = finish(host, host.processes.start(CALLER, "vssadmin list writers", {}, None, job="x"))[1]
    assert "State: [8] Failed" in out
    for name in (f"{WRITER_ID}:\\{other.id}", f"{WRITER_ID}:\\Backup Using Child Partition Snapshot\\{other.id.lower()}",
                 f'"Microsoft Hyper-V VSS Writer":\\{other.id}'):
        assert code_of(run(host, f"writer exclude {name}", *script[1:])) == 0
        assert (host.writer.state, host.writer.last_error) == (1, 0)
        assert other.last_backup is None
    host.writer.failures.clear()
    assert code_of(run(host, *script)) == 0
    assert other.last_backup is not None


@pytest.mark.parametrize(("spec", "code"), [
    (replace(OTHER, busy="backup"), vss.WRITER_RETRYABLE), (replace(OTHER, busy="merging"), vss.WRITER_RETRYABLE),
    (replace(OTHER, health="configuration_offline"), vss.WRITER_NON_RETRYABLE), (replace(OTHER, state="off"), 0),
    (replace(OTHER, state="saved"), 0),
    (replace(OTHER, state="paused"), 0), (replace(OTHER, planned=True, state="off"), 0),
    (replace(OTHER, disks=(DiskSpec("\\\\nas\\vms\\x.vhdx"),)), 0), (replace(OTHER, disks=(DiskSpec(medium="passthrough"),)), 0),
])
def test_machines_that_are_not_simply_running(tmp_path: Path, spec: VmSpec, code: int) -> None:
    host = make_host(tmp_path, volumes=VOLUMES, vms=(TWO_DISKS, spec))
    host.files.create_directory("C:\\job")
    assert code_of(run(host, *HEAD, VERIFY, *BOTH, "create", "end backup")) == code


def test_a_leftover_of_an_earlier_backup_stops_the_next_on_2012_r2(tmp_path: Path) -> None:
    host = host_with(tmp_path, os_version="2012R2")
    host.files.write_file("E:\\VMs\\web\\two-AutoRecovery.avhdx", b"x")
    assert code_of(run(host, *HEAD, VERIFY, *BOTH, "create")) == vss.WRITER_AUTO_RECOVERY_FAILED


@pytest.mark.parametrize(("path", "expected"), [
    ("D:\\a\\x.vhdx", "D:\\a\\x-AutoRecovery.avhdx"), ("D:\\a\\x.y.vhd", "D:\\a\\x.y-AutoRecovery.avhd"),
    ("D:\\x_11111111-2222-3333-4444-555555555555.avhdx", "D:\\x-AutoRecovery.avhdx"), ("D:\\x_1.avhdx", "D:\\x_1-AutoRecovery.avhdx"),
])
def test_names_of_auto_recovery_files(path: str, expected: str) -> None:
    assert auto_recovery_path(path) == expected


def test_one_set_at_a_time_and_injected_codes(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    script = (*HEAD, *BOTH, "create", "end backup")
    host.shadows.occupy(30)
    assert code_of(run(host, *script)) == vss.SET_IN_PROGRESS
    host.clock.advance(30)
    first = start(host, *script)
    assert host.shadows.create("C:\\", None) == (9, None)
    assert code_of(run(host, *script)) == vss.SET_IN_PROGRESS
    assert code_of(finish(host, first)) == 0
    host.vss.set_errors += [vss.UNEXPECTED, vss.PROVIDER_VETO, None]
    assert [code_of(run(host, *script)) for _unused in range(3)] == [vss.UNEXPECTED, vss.PROVIDER_VETO, 0]


def test_the_number_of_copies_and_the_room_for_them_are_limited(tmp_path: Path) -> None:
    host = host_with(tmp_path / "a", shadow_settings=ShadowSettings(max_per_volume=1))
    assert code_of(run(host, *HEAD, *BOTH, "create", "end backup")) == 0
    assert code_of(run(host, *HEAD, *BOTH, "create", "end backup")) == vss.TOO_MANY_SNAPSHOTS
    small = make_host(tmp_path / "b", volumes=(VolumeSpec("C:"), VolumeSpec("D:", 200 * MIB)))
    small.files.create_directory("C:\\job")
    assert code_of(run(small, "add volume D:", "create")) == vss.INSUFFICIENT_STORAGE


def test_who_may_run_it_and_where_it_exists(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    code, out = run(host, "add volume C:", "create", caller=CLERK)
    assert (code, out.rstrip().endswith("Access is denied.")) == (1, True)
    assert finish(host, host.processes.start(CALLER, "diskshadow /s C:\\job\\none", {}, None, job="x"))[0] == 1
    host.processes.facts = replace(host.facts, client_edition=True)
    assert run(host, "exit")[0] == 9009


# -- life and death --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("context", "left"), [("volatile", 0), ("persistent", 2), ("clientaccessible", 2), ("volatile nowriters", 0)])
def test_what_is_left_when_the_script_ends(tmp_path: Path, context: str, left: int) -> None:
    host = host_with(tmp_path)
    assert code_of(run(host, f"set context {context}", *BOTH, "create")) == 0
    assert len(host.shadows.copies) == left
    assert len({copy.set_id for copy in host.shadows.copies}) == min(left, 1)
    host.restart()
    assert len(host.shadows.copies) == left


def test_machines_stay_marked_until_the_backup_is_complete(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    host.files.write_file("C:\\job\\wait.cmd", b"@certutil -hashfile C:\\job\\big SHA1>nul")
    host.files.write_file("C:\\job\\big", b"x")
    with host.files.real_path("C:\\job\\big").open("r+b") as stream:
        stream.truncate(10 * MIB)
    host.processes.speeds = replace(host.processes.speeds, hash_bytes_per_second=MIB)
    process = start(host, *HEAD, *BOTH, "create", "exec C:\\job\\wait.cmd", "end backup")
    host.clock.advance(8)
    assert (machine(host).busy, host.writer.state) == ("backup", 5)
    assert code_of(finish(host, process)) == 0
    assert (machine(host).busy, host.writer.state) == (None, 1)
    first = machine(host).last_backup

    process = start(host, *HEAD, *BOTH, "create", "exec C:\\job\\wait.cmd", "end backup")
    host.clock.advance(8)
    process.terminate()
    assert (machine(host).busy, len(host.shadows.copies)) == ("backup", 4), "persistent copies outlive a requester that was killed"
    host.clock.advance(600)
    assert (machine(host).busy, machine(host).last_backup) == (None, first)


def test_a_requester_that_is_killed_while_it_creates_leaves_nothing(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    process = start(host, *HEAD, *BOTH, "create", "end backup")
    host.clock.advance(1)
    assert host.shadows.busy
    process.terminate()
    assert (host.shadows.busy, host.shadows.copies, machine(host).busy) == (False, [], None)
    host.clock.advance(60)
    assert host.shadows.copies == []


@pytest.mark.parametrize(("script", "ends", "code"), [(b"@exit /b 3", True, 1), (b"@exit /b 3", False, 0), (b"@exit /b 0", True, 0)])
def test_a_script_of_exec_that_fails(tmp_path: Path, script: bytes, ends: bool, code: int) -> None:
    host = host_with(tmp_path, shadow_settings=ShadowSettings(exec_failure_ends=ends))
    host.files.write_file("C:\\job\\x.cmd", script)
    status, out = run(host, "exec C:\\job\\x.cmd", "add alias A b")
    assert status == code
    assert ("-> add alias" in out) is (code == 0)


def test_volatile_copies_are_exposed_where_the_host_does_it(tmp_path: Path) -> None:
    host = host_with(tmp_path, shadow_settings=ShadowSettings(expose_volatile=True))
    host.files.write_file("C:\\job\\x.cmd", b"@dir /b P:\\VMs > C:\\job\\listing")
    assert code_of(run(host, "set context volatile", *BOTH, "create", "expose %V1% P:", "exec C:\\job\\x.cmd")) == 0
    assert host.files.read_file("C:\\job\\listing") == b"web\r\n"
    assert (host.files.exposed, host.shadows.copies) == ({}, [])


def test_foreign_copies_are_only_deleted_when_they_are_named(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    foreign = host.shadows.add_foreign("D:\\")
    assert code_of(run(host, *HEAD, *BOTH, "create", "delete shadows set %VSS_SHADOW_SET%", "end backup")) == 0
    assert host.shadows.copies == [foreign]
    assert code_of(run(host, f"delete shadows id {foreign.shadow_id.lower()}")) == 0
    assert host.shadows.copies == []


def test_a_task_runs_it_and_vssadmin_shows_the_set(tmp_path: Path) -> None:
    host = host_with(tmp_path)
    host.files.write_file(SCRIPT, "\r\n".join((*HEAD, VERIFY, *BOTH, "create", "end backup")).encode())
    register(host, task_xml(f"/s {SCRIPT}", command="C:\\Windows\\System32\\diskshadow.exe", directory="C:\\job"))
    call(host, "StartByPath", TaskName="copy", TaskPath=FOLDER)
    host.clock.advance(30)
    assert info(host)["LastTaskResult"] == 0
    shown = finish(host, host.processes.start(Caller(ACCOUNTS[0], "ntlm", True), "vssadmin list shadows", {}, None, job="x"))[1]
    assert "Contained 2 shadow copies" in shown
    for copy in host.shadows.copies:
        assert f"Shadow Copy ID: {copy.shadow_id.lower()}" in shown
