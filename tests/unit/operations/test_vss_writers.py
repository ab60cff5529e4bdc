# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies with the Hyper-V writer: what their bytes prove, what is claimed of them, and that nothing of ours stays."""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import vss_writers
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import StillRunning
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import SYSTEM_IDENTITY, Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import RunAs
from simulator.disks import proof
from simulator.fileserver import FileServerSpec
from simulator.hyperv.spec import MIB, ComponentSpec, DiskSpec, GuestSpec, IntegrationSpec, VmSpec
from simulator.windows import vss
from simulator.windows.programs import diskshadow
from simulator.windows.shadows import ShadowSettings
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.windows_host import PASSWORD
from unit.operations.writer_site import BACKUP, ONE_DISK, OTHER, SLOW, STATE, TWO_DISKS, VOLUMES, Site, site

Start = Callable[..., Site]
NO_ANSWER = IntegrationSpec(vss=ComponentSpec(status="no_contact"))
SILENT = ComponentSpec(status="no_contact")
NAMES = ["%TEMP%", "a%b", "!x!", "x & del", "'x' ^(y)", "\u540d\u524d \u00e9", "100% {{ x }}", "n" * 60]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda *vms, **spec: stack.enter_context(site(tmp_path / "host", vms or (TWO_DISKS,), **spec))


def refused(here: Site, **options: Any) -> HypervError:
    """The error of a copy that must not come about."""
    with pytest.raises(HypervError) as error:
        here.copy(**options)
    return error.value


def sets_made(here: Site) -> int:
    """How many sets the host has made, of those that it remembers."""
    with here.hv.fleet.locked():
        return sum(1 for change in here.host.recent_changes if change.startswith("create shadow copy set"))


# -- what a copy is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("os_version", "locale"), [("2012R2", "en-US"), ("2016", "en-US"), ("2019", "ja-JP")])
def test_a_set_of_two_volumes_is_one_quiesced_instant(start: Start, os_version: str, locale: str) -> None:
    here = start(os_version=os_version, locale=locale)
    copy = here.copy(verify="sha256")
    proofs = here.proofs(copy)
    assert proof.together(proofs) == []
    assert [shown.quiesced for shown in proofs] == [True, True]
    manifest = here.manifest(copy)
    assert manifest.files == copy.manifest.files
    assert (manifest.achieved, manifest.requested, manifest.method) == ("application", "application", "writers")
    assert manifest.verified == "sha256"
    assert manifest.shadow_id == copy.shadow_ids[0]
    levels = {file.path: file.level for file in manifest.files}
    plain = {"disks\\one.vhdx": 0, "disks\\two.vhdx": 0}
    recovered = {"disks\\one-AutoRecovery.avhdx": 0, "disks\\two-AutoRecovery.avhdx": 0, "disks\\one.vhdx": 1, "disks\\two.vhdx": 1}
    assert levels == (recovered if os_version == "2012R2" else plain)
    assert ("AutoRecovery" in manifest.evidence) is (os_version == "2012R2")
    assert (here.left(), copy.leftovers, len(copy.shadow_ids), sets_made(here)) == ([], (), 2, 1)


def test_a_copy_backup_does_not_count_as_a_backup(start: Start) -> None:
    """What counts is what guests cut off their logs after."""
    here = start()
    here.copy()
    assert here.machine().last_backup is None


@pytest.mark.parametrize("os_version", ["2012R2", "2022"])
def test_other_machines_on_the_volumes_are_left_alone(start: Start, os_version: str) -> None:
    here = start(TWO_DISKS, OTHER, os_version=os_version)
    frozen: list[str] = []
    with here.hv.fleet.locked():
        other = here.machine("other")
        here.host.guests[other.id].freeze = lambda: frozen.append("other")  # type: ignore[method-assign]  # only to listen
        here.host.writer.failures[other.id] = vss.WRITER_NON_RETRYABLE
    copy = here.copy()
    assert copy.manifest.achieved == "application"
    assert (frozen, other.busy, here.machine().busy) == ([], None, "backup")
    assert not any("other" in file.path for file in copy.manifest.files)


@pytest.mark.parametrize("os_version", ["2012R2", "2022"])
def test_a_guest_that_does_not_answer_gives_a_crash_consistent_copy_when_that_is_accepted(start: Start, os_version: str) -> None:
    here = start(replace(TWO_DISKS, integration=NO_ANSWER), os_version=os_version)
    error = refused(here)
    assert (error.error_code, sets_made(here), here.left()) == ("consistency_not_reachable", 0, [])
    copy = here.copy(fallback="crash")
    proofs = here.proofs(copy)
    assert proof.together(proofs) == []
    assert [shown.quiesced for shown in proofs] == [False, False]
    assert (copy.manifest.achieved, copy.manifest.requested) == ("crash", "application")


@pytest.mark.parametrize(("os_version", "achieved"), [("2012R2", "crash"), ("2022", "filesystem")])
def test_a_linux_guest(start: Start, os_version: str, achieved: str) -> None:
    here = start(replace(ONE_DISK, guest=GuestSpec.linux()), os_version=os_version)
    copy = here.copy(fallback="crash")
    assert copy.manifest.achieved == achieved
    assert [shown.quiesced for shown in here.proofs(copy)] == [achieved == "filesystem"]
    assert here.left() == []


@pytest.mark.parametrize(("state", "achieved"), [("off", "image"), ("saved", "crash"), ("paused", "crash")])
@pytest.mark.parametrize("os_version", ["2012R2", "2022"])
def test_machines_that_do_not_run(start: Start, state: str, achieved: str, os_version: str) -> None:
    here = start(replace(ONE_DISK, state=state), os_version=os_version)
    assert here.copy(consistency="crash").manifest.achieved == achieved
    assert here.left() == []


@pytest.mark.parametrize("os_version", ["2012R2", "2022"])
def test_application_consistency_needs_evidence_after_the_session(start: Start, os_version: str) -> None:
    """The guest stopped answering after the plan: on 2012 R2 nothing is copied, later nothing is claimed."""
    here = start(os_version=os_version)

    def fall_silent() -> None:
        with here.hv.fleet.locked():
            here.machine().components["vss"] = SILENT

    error = refused(here, between=fall_silent)
    assert error.error_code == "consistency_not_reached"
    assert here.our_copies == []
    left = {leftover.kind for leftover in error.leftovers}
    if os_version == "2012R2":
        assert (left, here.left(), here.hv.names(BACKUP + "\\HV01\\web_" + here.machine().id[:8])) == (set(), [], [])
    else:
        assert left == {"incomplete_copy", "intent"}
        assert {item.partition(":")[0] for item in here.left()} == {"intents"}


@pytest.mark.parametrize("os_version", ["2012R2", "2022"])
def test_less_is_told_when_less_was_reached(start: Start, os_version: str) -> None:
    here = start(os_version=os_version)

    def fall_silent() -> None:
        with here.hv.fleet.locked():
            here.machine().components["vss"] = SILENT

    copy = here.copy(fallback="crash", between=fall_silent)
    assert (copy.manifest.achieved, here.manifest(copy).achieved) == ("crash", "crash")
    assert "without evidence" in copy.manifest.evidence
    assert here.left() == []


def test_a_chain_and_a_configuration_on_another_volume(start: Start) -> None:
    """The set covers the volume of the configuration too, of which nothing is copied."""
    vm = VmSpec("web", folder="E:\\Config\\web", disks=(DiskSpec("D:\\VMs\\web\\one.vhdx", size=32 * MIB, orphans=1),))
    here = start(vm, os_version="2012R2")
    copy = here.copy()
    assert len(copy.shadow_ids) == 2
    assert sorted((file.level, file.path.rpartition("\\")[2].rpartition(".")[2]) for file in copy.manifest.files) == [
        (0, "avhdx"), (1, "avhdx"), (2, "vhdx")]
    assert proof.together(here.proofs(copy)) == []


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_hostile_names_stay_names(start: Start, name: str) -> None:
    here = start(VmSpec(name, folder="D:\\VMs\\v", disks=(DiskSpec(f"D:\\VMs\\{name}\\{name}.vhdx", size=32 * MIB),)), os_version="2012R2")
    copy = here.copy(name)
    assert [file.path for file in copy.manifest.files] == [f"disks\\{name}.vhdx", f"disks\\{name}-AutoRecovery.avhdx"]
    assert [shown.quiesced for shown in here.proofs(copy)] == [True]
    assert here.left() == []


@pytest.mark.parametrize("account", [False, True])
def test_a_share_is_reached_by_the_same_task(start: Start, account: bool) -> None:
    share = ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV01$", "EXAMPLE\\backup"))
    nas = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), shares=(share,))
    here = start(file_servers=(nas,), os_version="2012R2")
    here.destination = "\\\\NAS\\backup"
    copy = here.copy(identity=Identity(RunAs("EXAMPLE\\backup", PASSWORD)) if account else SYSTEM_IDENTITY)
    assert copy.record.folder.startswith("\\\\NAS\\backup\\HV01\\web_")
    assert proof.together(here.proofs(copy)) == []
    assert (copy.manifest.achieved, here.left()) == ("application", [])


@pytest.mark.parametrize("settings", [ShadowSettings(expose_volatile=True), ShadowSettings(exec_failure_ends=False)])
def test_either_reading_of_what_diskshadow_does(start: Start, settings: ShadowSettings) -> None:
    here = start(ONE_DISK, shadow_settings=settings)
    assert here.copy().manifest.achieved == "application"
    assert here.left() == []


# -- refusals ------------------------------------------------------------------------------------------------------------


def test_what_no_set_can_be_made_of(start: Start) -> None:
    here = start()
    facts = here.facts()
    request = Request(BACKUP, "night", True, None, "application", None, method="writers")
    job = here.plan(facts, request)
    client = replace(facts, system=replace(facts.system, server=False))
    machine = job.machine
    assert machine.settings is not None
    share = replace(machine, settings=replace(machine.settings, snapshot_root="\\\\nas\\vms"))
    elsewhere = replace(machine, settings=replace(machine.settings, configuration_root="Z:\\vms"))
    beside = replace(machine, settings=replace(machine.settings, snapshot_root="F:\\vms"))
    for case, given, identity, code in (
            (job, client, Identity(None), "diskshadow_missing"), (job, facts, Identity(None), "writers_need_task"),
            (replace(job, machine=share), facts, None, "smb_storage"), (replace(job, machine=elsewhere), facts, None, "unknown_place"),
            (replace(job, machine=beside), facts, None, "destination_on_source_volume")):
        with here.tools(facts, **({} if identity is None else {"identity": identity})) as tools, pytest.raises(HypervError) as error:
            vss_writers.copy_machine(tools, given, case, request)
        assert error.value.error_code == code
    assert (sets_made(here), here.left()) == (0, [])


def test_a_server_without_the_program(start: Start) -> None:
    here = start()
    with here.hv.fleet.locked():
        here.host.processes.facts = replace(here.host.facts, client_edition=True)
    error = refused(here)
    assert (error.error_code, error.leftovers, here.left()) == ("diskshadow_missing", (), [])


@pytest.mark.parametrize(("code", "error_code"), [
    (vss.WRITER_NON_RETRYABLE, "writer_failed"), (0x800423F1, "writer_failed"), (0x800423F2, "writer_failed"),
    (vss.WRITER_INCONSISTENT, "writer_inconsistent_set"), (vss.WRITER_RETRYABLE, "writer_retryable"), (0x8004231D, "vss_volume_in_use"),
    (0x80042399, "diskshadow_failed"),
])
def test_a_writer_that_fails(start: Start, code: int, error_code: str) -> None:
    here = start(ONE_DISK)
    with here.hv.fleet.locked():
        here.host.writer.failures[here.machine().id] = code
    error = refused(here)
    assert (error.error_code, error.hresult, error.leftovers) == (error_code, code, ())
    assert (here.left(), sets_made(here), here.hv.names(f"{BACKUP}\\HV01\\web_{here.machine().id[:8]}")) == ([], 0, [])


@pytest.mark.parametrize("code", [vss.WRITER_RETRYABLE, 0x800423F2])
def test_a_writer_that_fails_for_the_moment_is_asked_again_after_five_minutes(start: Start, code: int) -> None:
    here = start(ONE_DISK)
    with here.hv.fleet.locked():
        here.host.writer.failures[here.machine().id] = code
        here.host.clock.call_later(200, here.host.writer.failures.clear)
    assert here.copy().manifest.achieved == "application"
    assert [line for line in here.said if "300 s" in line]
    assert here.left() == []


def test_a_veto_is_tried_again_once(start: Start) -> None:
    here = start(ONE_DISK)
    here.host.vss.set_errors += [vss.PROVIDER_VETO]
    assert here.copy().manifest.achieved == "application"
    here.host.vss.set_errors += [vss.PROVIDER_VETO, vss.PROVIDER_VETO]
    with here.hv.fleet.locked():
        here.host.clock.advance(900)  # the machine stays marked for a while after a copy backup
    error = refused(here, run_id="second")
    assert (error.error_code, error.hresult, here.left()) == ("vss_provider_veto", vss.PROVIDER_VETO, [])


def test_a_creation_elsewhere_is_waited_out_or_not(start: Start) -> None:
    here = start(ONE_DISK)
    with here.hv.fleet.locked():
        here.host.shadows.occupy(3600)
    error = refused(here, busy_wait=60)
    assert (error.error_code, here.left()) == ("vss_busy", [])
    with here.hv.fleet.locked():
        here.host.shadows.occupy(120)
    assert here.copy(run_id="second").manifest.achieved == "application"
    assert here.left() == []


def test_the_number_of_shadow_copies_is_limited_and_foreign_ones_stay(start: Start) -> None:
    here = start(shadow_settings=ShadowSettings(max_per_volume=1))
    with here.hv.fleet.locked():
        foreign = here.host.shadows.add_foreign("E:\\")
    error = refused(here)
    assert (error.error_code, here.left()) == ("vss_too_many", [])
    assert here.host.shadows.copies == [foreign]


def test_a_leftover_of_an_earlier_backup_is_found_before_anything_is_frozen(start: Start) -> None:
    here = start(os_version="2012R2")
    here.hv.put("E:\\VMs\\web\\two-AutoRecovery.avhdx", b"x")
    error = refused(here)
    assert (error.error_code, "two-AutoRecovery.avhdx" in error.message) == ("auto_recovery_left", True)
    assert (sets_made(here), here.left(), here.hv.read("E:\\VMs\\web\\two-AutoRecovery.avhdx")) == (0, [], b"x")


def test_a_destination_that_cannot_be_written_freezes_nobody(start: Start) -> None:
    here = start(ONE_DISK)
    with here.hv.fleet.locked():
        here.host.files.volume_of("F:\\").write_protected = True  # type: ignore[union-attr]  # it is there
    error = refused(here)
    assert (error.error_code, sets_made(here), here.left()) == ("folder_not_made", 0, [])


def test_a_full_destination_is_told_and_what_stays_can_be_found(start: Start) -> None:
    volumes = (*VOLUMES[:3], replace(VOLUMES[3], free=2 * MIB))
    here = start(TWO_DISKS, volumes=volumes)
    with here.hv.fleet.locked():
        size = here.host.files.volume_of("F:\\").free_bytes  # type: ignore[union-attr]  # it is there
    assert size < 32 * MIB
    facts = here.facts()
    request = Request(BACKUP, "night", True, None, "application", None, method="writers")
    job = replace(here.plan(replace(facts, volumes=tuple(replace(volume, free=None) for volume in facts.volumes or ())), request))
    with here.tools(facts) as tools, pytest.raises(HypervError) as error:
        vss_writers.copy_machine(tools, facts, job, request)
    assert error.value.error_code == "destination_full"
    assert {leftover.kind for leftover in error.value.leftovers} == {"incomplete_copy", "intent"}
    assert {item.partition(":")[0] for item in here.left()} == {"intents"}


def test_a_checkpoint_between_the_plan_and_the_set(start: Start) -> None:
    here = start(ONE_DISK)
    with here.hv.fleet.locked():
        disk = here.machine().disks[0]
        leaf = disk.leaf

    def other_disk() -> None:
        with here.hv.fleet.locked():
            assert leaf is not None
            leaf.path = "D:\\VMs\\web\\one_0A1B2C3D-0000-4000-8000-00000000000F.avhdx"

    error = refused(here, between=other_disk)
    assert (error.error_code, sets_made(here)) == ("chain_changed", 0)


# -- life and death ------------------------------------------------------------------------------------------------------


def test_a_script_that_must_not_run_leaves_no_shadow_copy(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host itself deletes what is exposed in the folders of the job."""
    here = start()

    def forbidden(_session: Any, _text: str) -> Iterator[float]:
        yield 0.0
        raise diskshadow.ScriptError("forbidden by policy")

    monkeypatch.setattr(diskshadow._Session, "_exec", forbidden)  # a program that policy forbids
    error = refused(here)
    assert (error.error_code, error.leftovers, here.left()) == ("diskshadow_failed", (), [])


def test_a_copy_is_complete_although_diskshadow_fails_after_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    here = start()

    def open_handle(_session: Any, _rest: list[str], _text: str) -> None:
        raise vss.VssError(vss.UNEXPECTED, "something has a file open")

    monkeypatch.setattr(diskshadow._Session, "_unexpose", open_handle)  # as if an antivirus looked
    copy = here.copy()
    assert copy.manifest.achieved == "application"
    assert (here.left(), copy.leftovers) == ([], ())


def test_a_copy_goes_on_when_nobody_waits_and_cleans_up_after_itself(start: Start) -> None:
    here = start(speeds=SLOW)
    error = refused(here, timeout=60)
    assert isinstance(error, StillRunning)
    assert len(here.our_copies) == 2
    with here.hv.fleet.locked():
        assert {copy.exposed for copy in here.host.shadows.copies} == {f"{here.job()}\\v00", f"{here.job()}\\v01"}
        here.host.clock.advance(3600)
    assert here.our_copies == []
    facts = here.facts()
    record = here.record()
    with here.tools(facts) as tools:
        copy = vss_writers.adopt(tools, facts, record, "application")
    assert copy is not None
    assert (copy.manifest.achieved, here.manifest(copy).files) == ("application", copy.manifest.files)
    assert proof.together(here.proofs(copy)) == []
    assert here.left() == []


def test_a_copy_that_still_runs_is_followed_to_its_end(start: Start) -> None:
    here = start(speeds=SLOW, os_version="2012R2")
    assert isinstance(refused(here, timeout=60), StillRunning)
    facts = here.facts()
    with here.tools(facts) as tools:
        copy = vss_writers.adopt(tools, facts, here.record(), "application")
    assert copy is not None
    assert [shown.quiesced for shown in here.proofs(copy)] == [True, True]
    assert (here.left(), copy.leftovers) == ([], ())


def test_while_it_runs_each_shadow_copy_is_provably_ours_by_name_and_by_place(start: Start) -> None:
    here = start(speeds=SLOW)
    refused(here, timeout=60)
    verdicts = here.judge()
    assert [(verdict.owner, verdict.reason, verdict.run_id, verdict.linked) for verdict in verdicts] == [
        ("ours", "named", "night", False)] * 2
    assert all(len(verdict.intents) == 1 for verdict in verdicts)
    with here.hv.fleet.locked():
        for intent in list(here.host.files.children(here.host.files.resolve(f"{STATE}\\intents"))):
            here.host.files.remove_file(intent)
    assert [(verdict.owner, verdict.reason, verdict.run_id) for verdict in here.judge()] == [("ours", "exposed", "night")] * 2


def test_a_host_that_restarts_keeps_the_set_and_the_run_removes_it(start: Start) -> None:
    here = start(speeds=SLOW)

    def restart() -> None:
        with here.hv.fleet.locked():
            here.host.clock.call_later(30, here.host.restart)

    error = refused(here, between=restart)
    assert error.error_code == "host_restarted"
    assert {leftover.kind for leftover in error.leftovers} == {"incomplete_copy", "intent"}
    assert {item.partition(":")[0] for item in here.left()} == {"intents"}


@pytest.fixture
def slow_creation(monkeypatch: pytest.MonkeyPatch) -> ShadowSettings:
    """diskshadow takes five seconds from the creation of a set to the next line."""
    create = diskshadow._Session._create  # there is no other way to be between two lines

    def slowly(session: Any) -> Any:
        yield from create(session)
        yield 5.0

    monkeypatch.setattr(diskshadow._Session, "_create", slowly)
    return ShadowSettings(creation_seconds=30)


def test_a_set_that_nobody_exposed_is_claimed_by_its_intents_alone(start: Start, slow_creation: ShadowSettings) -> None:
    """Killed between the creation and the exposing, together with the controller."""
    here = start(shadow_settings=slow_creation)
    here.killed_after_creation()
    assert [(verdict.owner, verdict.reason, verdict.run_id) for verdict in here.judge()] == [("ours", "announced", "night")] * 2
    facts = here.facts()
    with here.tools(facts) as tools, pytest.raises(HypervError) as error:
        vss_writers.adopt(tools, facts, here.record(), "application")
    assert "suspect_shadow_copy" not in {leftover.kind for leftover in error.value.leftovers}
    assert {item.partition(":")[0] for item in here.left()} == {"intents"}, "they tell of the folder, which is incomplete"


@pytest.mark.parametrize("volume", ["D:\\", "E:\\"])
def test_a_foreign_set_of_the_same_moment_survives(start: Start, slow_creation: ShadowSettings, volume: str) -> None:
    """Two candidates on a volume: neither is removed there, and ours on the other volume still is."""
    here = start(shadow_settings=slow_creation)
    foreign = here.killed_after_creation(volume)
    assert sorted(verdict.owner for verdict in here.judge()) == ["ours", "suspect", "suspect"]
    facts = here.facts()
    with here.tools(facts) as tools, pytest.raises(HypervError) as error:
        vss_writers.adopt(tools, facts, here.record(), "application")
    with here.hv.fleet.locked():
        left = here.host.shadows.copies
        assert foreign in left
        assert {copy.volume.mount_path for copy in left} == {volume}
    suspects = {leftover.id for leftover in error.value.leftovers if leftover.kind == "suspect_shadow_copy"}
    assert suspects == {copy.shadow_id for copy in left}


def test_an_incomplete_copy_is_told_of_by_an_intent_that_claims_no_shadow_copy(start: Start) -> None:
    """Killed before the set was made: whatever another product makes in the next minutes is nobody's but its own."""
    here = start(shadow_settings=ShadowSettings(creation_seconds=30))

    def kill() -> None:
        here.host.tasks.stop(next(task for task in here.host.tasks.tasks() if task.path == "\\agentless.hyperv\\"))

    def soon() -> None:
        with here.hv.fleet.locked():
            here.host.clock.call_later(8, kill)

    error = refused(here, between=soon)
    assert {leftover.kind for leftover in error.leftovers} == {"incomplete_copy", "intent"}
    with here.hv.fleet.locked():
        here.host.shadows.add_foreign("D:\\")
        here.host.shadows.add_foreign("E:\\")
    assert [verdict.owner for verdict in here.judge()] == ["foreign", "foreign"]
    (intent,) = here.hv.names(f"{STATE}\\intents")
    told = json.loads(here.hv.read(f"{STATE}\\intents\\{intent}") or b"")
    assert (told["volume"], told["folders"]) == ("none", [f"{BACKUP}\\HV01\\web_{here.machine().id[:8]}"])


def test_another_products_sets_are_never_touched(start: Start) -> None:
    here = start(foreign_shadow_copies=("D:\\", "E:\\"))
    with here.hv.fleet.locked():
        before = list(here.host.shadows.copies)
    here.copy()
    with here.hv.fleet.locked():
        assert here.host.shadows.copies == before
