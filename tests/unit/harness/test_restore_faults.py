# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_restore`` through the fault harness: as another machine, in place of one, and as a drill.

The contract: whatever happens, the backup and every disk of others stay as they are, a success is a machine whose disks are those of the
backup, and what a run cannot remove is named. After the clean-up no planned machine, machine of a drill, copied file, intent, task, job or
lease of an interrupted restore is left; only a planned machine of which nobody can prove whose it is stays, with its intent, and is told.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_cleanup, hyperv_restore
from simulator.host import SimHost
from simulator.hyperv.spec import DiskSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec
from support.exported import export, walk
from support.fault_harness import FAULTS, Fault, NextRun, Operation, Recordings, Seen, check, validated
from support.leftovers import Others, left_on

MIB = 1024 * 1024
VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"
THEIRS = "0A1B2C3D-0000-4000-8000-00000000FFFF"
BACKUP, PLACE = "E:\\Backup", "D:\\Restored"
EVIDENCE, OLDER, ENDINGS = f"{BACKUP}\\restore_drills\\sql01_{VM[:8]}", "20200101T000000Z_drill-1", {"json", "xml", "html"}
CLEANED = NextRun(hyperv_cleanup.run, validated(hyperv_cleanup, remove=True, older_than="10m"), pause=3 * 3600)


def spec() -> HostSpec:
    volumes = tuple(VolumeSpec(letter) for letter in ("C:", "D:", "E:"))
    return HostSpec("HV01", volumes=volumes, vms=(
        VmSpec("sql01", vm_id=VM, folder="D:\\VMs\\sql01", disks=(DiskSpec(size=4 * MIB),), memory_mb=32, state="off"),
        VmSpec("theirs", vm_id=THEIRS, folder="D:\\x", disks=(), planned=True)))


@dataclass(frozen=True)
class Witness:
    """Files that must stay as they are: the backup, and the disks of the machines; and the digests of the disks in the backup."""

    files: Mapping[str, str]
    disks: frozenset[str]


def digest(host: SimHost, path: str) -> str:
    return hashlib.sha256(host.files.resolve(path).real.read_bytes()).hexdigest()


def prepare(host: SimHost) -> Witness:
    host.hyperv.disks.materialise_all()
    host.files.create_directory(BACKUP)
    folder = export(host, "sql01", BACKUP)
    disks = [f"{folder}\\{path}" for path in walk(host, folder) if path.endswith(".vhdx")]
    for place in (f"{BACKUP}\\restore_drills", EVIDENCE):
        host.files.create_directory(place)
    for ending in ENDINGS:
        host.files.write_file(f"{EVIDENCE}\\{OLDER}.{ending}", b"x")
    kept = [*(f"{BACKUP}\\{path}" for path in walk(host, BACKUP) if OLDER not in path), "D:\\VMs\\sql01\\Virtual Hard Disks\\sql01.vhdx"]
    return Witness({path: digest(host, path) for path in kept}, frozenset(digest(host, path) for path in disks))


class Contract:
    """See the head of this file. ``mode`` is that of the restore."""

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def clean(self, seen: Seen) -> Iterable[str]:
        yield from self.nothing_left(seen)
        if len(self.restored(seen)) != (self.mode != "drill"):
            yield f"restored machines: {self.restored(seen)}"
        if self.mode == "drill" and seen.ending.result and seen.ending.result.get("evidence_pruned") != [f"{EVIDENCE}\\{OLDER}"]:
            yield f"retention of evidence: {seen.ending.result.get('evidence_pruned')}"

    def after(self, seen: Seen) -> Iterable[str]:
        yield from self.always(seen)
        assert seen.case is not None
        if seen.case.fault.kill is None and not seen.case.fault.forever:
            yield from self.gone_or_named(seen)

    def always(self, seen: Seen) -> Iterator[str]:
        host = seen.host
        for path, known in seen.witness.files.items():
            if not host.files.exists(path) or digest(host, path) != known:
                yield f"{path} is gone or changed"
        if THEIRS not in host.hyperv.planned:
            yield "somebody else's planned machine is gone"
        for machine in host.hyperv.machines.values():
            if any(not host.files.exists(link.path) for disk in machine.disks if disk.leaf for link in disk.leaf.chain()):
                yield f"{machine.name} has lost a disk"
        for machine in self.restored(seen):
            if frozenset(digest(host, disk.leaf.path) for disk in machine.disks if disk.leaf) != seen.witness.disks:
                yield f"the disks of {machine.name} are not those of the backup"
        result = seen.ending.result or {}
        if seen.ending.succeeded and "backup" in result and self.mode != "drill" and not self.restored(seen):
            yield "a success without a machine"
        if self.mode == "drill" and seen.ending.succeeded and "backup" in result and result.get("drill", {}).get("outcome") != "passed":
            yield "a success of a drill that did not pass"
        if self.mode == "drill":
            yield from self.evidence(seen)
        if VM not in host.hyperv.machines and self.mode != "in_place":
            yield "the machine itself is gone"

    def evidence(self, seen: Seen) -> Iterator[str]:
        """The older one goes for a newer one that is whole, and for nothing else."""
        found: dict[str, set[str]] = {}
        for path in walk(seen.host, EVIDENCE):
            name, _dot, ending = path.partition(".")
            found.setdefault(name, set()).add(ending)
        if "json" not in found.get(OLDER, set()) and not any(found[name] >= ENDINGS for name in found if name != OLDER):
            yield f"evidence went before there was other: {found}"

    def restored(self, seen: Seen) -> list[Any]:
        """Real machines with a mark of a restore."""
        return [one for one in seen.host.hyperv.machines.values()
                if "[agentless.hyperv restored=" in one.notes and "mode=drill" not in one.notes]

    def left(self, seen: Seen) -> Iterator[tuple[str, str]]:
        host = seen.host
        yield from left_on(host, Others())
        for machine in host.hyperv.planned.values():
            if machine.id != THEIRS:
                yield "planned_vm", machine.id
        for machine in host.hyperv.machines.values():
            if "mode=drill" in machine.notes:
                yield "drill_vm", machine.id
        used = [disk.leaf.path for one in host.hyperv.machines.values() for disk in one.disks if disk.leaf]
        for place in (PLACE, "D:\\Drill"):
            for path in walk(host, place) if host.files.exists(place) else ():
                folder = "\\".join(f"{place}\\{path}".split("\\")[:5])
                if not any(one.lower().startswith(folder.lower() + "\\") for one in used):
                    yield "restored_files", folder

    def gone_or_named(self, seen: Seen) -> Iterator[str]:
        told = {item["id"] for item in seen.ending.leftovers} | {item["location"] for item in seen.ending.leftovers}
        for kind, item in dict.fromkeys(self.left(seen)):
            goes_on = kind in ("job", "program", "task") and any(name in item for name in told)
            if item not in told and not goes_on and kind != "lease":
                yield f"left over and not named: {kind} {item}"

    def nothing_left(self, seen: Seen) -> Iterable[str]:
        yield from self.always(seen)
        told = {item["id"]: item["status"] for item in (seen.ending.result or {}).get("found", ())}
        for kind, item in dict.fromkeys(self.left(seen)):
            if told.get(item) != "suspect":
                yield f"left over: {kind} {item}"


def operation(title: str, mode: str, **changes: Any) -> Operation:
    contract = Contract(mode)
    given = {"name": "sql01", "destination": BACKUP, "location": PLACE, "mode": mode, "run_id": "restore-1", "evidence": False, **changes}
    return Operation(title, spec, hyperv_restore.run, validated(hyperv_restore, **given), contract.clean, contract.after,
                     contract.nothing_left, prepare, next_run=CLEANED, always_next=True)


NEW = operation("another machine", "new", new_name="sql01-new")
IN_PLACE = operation("in place of a machine", "in_place", old_vm="unregister")
DRILL = operation("a drill", "drill", location="D:\\Drill", evidence=True, evidence_keep={"last": 1})
SEVERE = tuple(fault for fault in FAULTS if fault.thorough or fault.kill or fault.forever)
"""Those that most of the others come to."""
TRIED = [*((NEW, fault) for fault in FAULTS), *((made, fault) for made in (IN_PLACE, DRILL) for fault in SEVERE)]


@pytest.fixture(scope="module")
def recorded() -> Recordings:
    return Recordings({made.name: made for made in (NEW, IN_PLACE, DRILL)})


@pytest.mark.parametrize(("made", "fault"), TRIED, ids=lambda value: str(getattr(value, "name", value)).replace(" ", "_"))
def test_whatever_breaks_no_success_is_false_and_nothing_is_left(recorded: Recordings, made: Operation, fault: Fault) -> None:
    assert check(made, recorded[made.name], fault, most=1) >= 1
