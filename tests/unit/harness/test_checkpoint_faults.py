# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints through the fault harness: making, removing, going back, with every fault at requests of every kind.

The contract: checkpoints of others survive and chains stay whole, whatever happens; a success is true; nothing counts as ours that is not
marked; and after the next run the policy is the machine's own, nothing of ours is half done, and intents stay only because of suspects.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_checkpoint, hyperv_checkpoint_revert, hyperv_cleanup
from simulator.host import SimHost
from simulator.hyperv.spec import CheckpointSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec
from support.fault_harness import FAULTS, Fault, NextRun, Operation, Recordings, Seen, check, validated

VM = "0A1B2C3D-0000-4000-8000-00000000ABCD"
STATE = "C:\\ProgramData\\agentless.hyperv"
LATER = 3600.0


def guid(number: int) -> str:
    return f"0A1B2C3D-0000-4000-8000-{number:012d}"


def mark(number: int) -> str:
    return f"[agentless.hyperv checkpoint={guid(number)} run=old-1 kind=production_only achieved=application policy=standard]"


def spec() -> HostSpec:
    machine = VmSpec("web01", vm_id=VM, folder="D:\\VMs\\web01", policy="standard", checkpoints=(
        CheckpointSpec("backup", "theirs", kind="recovery", checkpoint_id=guid(1)),
        CheckpointSpec("user", "by hand", parent="backup", checkpoint_id=guid(2)),
        CheckpointSpec("ours", "old", parent="user", checkpoint_id=guid(3), notes=mark(3)),
        CheckpointSpec("side", "side", kind="standard", parent="user", checkpoint_id=guid(4))), current_parent="ours")
    return HostSpec("HV01", volumes=(VolumeSpec("C:"), VolumeSpec("D:")), vms=(machine,))


@dataclass(frozen=True)
class Witness:
    """What of others was there: their checkpoints with the files that they keep."""

    files: dict[str, tuple[str, ...]]


def prepare(host: SimHost) -> Witness:
    machine = host.hyperv.machines[VM]
    machine.disks  # noqa: B018 - the files of described checkpoints are known only after this
    return Witness({one.id: tuple(file.path for file in one.files.values()) for one in machine.checkpoints.values() if one.name != "old"})


def names(host: SimHost, part: str) -> list[str]:
    path = f"{STATE}\\{part}"
    return [place.parts[-1] for place in host.files.children(host.files.resolve(path))] if host.files.exists(path) else []


def ours(host: SimHost) -> list[str]:
    """Names of those whose notes hold a mark for them."""
    found = host.hyperv.machines[VM].checkpoints.values()
    return [one.name for one in found if f"[agentless.hyperv checkpoint={one.id} " in one.notes]


def unmarked(host: SimHost, witness: Witness) -> list[str]:
    return [one.id for one in host.hyperv.machines[VM].checkpoints.values()
            if one.id not in witness.files and f"checkpoint={one.id} " not in one.notes]


def untouched(seen: Seen) -> Iterator[str]:
    """Others' checkpoints are there, with names, notes and files; every chain is whole."""
    machine = seen.host.hyperv.machines[VM]
    for checkpoint_id, files in seen.witness.files.items():
        one = machine.checkpoints.get(checkpoint_id)
        if one is None:
            yield f"the foreign checkpoint {checkpoint_id} is gone"
        elif "agentless" in one.notes or one.name not in ("theirs", "by hand", "side"):
            yield f"the foreign checkpoint {checkpoint_id} is called {one.name!r} with the notes {one.notes!r}"
        elif tuple(file.path for file in one.files.values()) != files:
            yield f"the foreign checkpoint {checkpoint_id} keeps other files"
    leaves = [disk.leaf for disk in machine.disks] + [file for one in machine.checkpoints.values() for file in one.files.values()]
    for file in leaves:
        if file is not None and len(list(file.chain())) > 12:
            yield f"the chain of {file.path} is long"


def done(seen: Seen) -> Iterator[str]:
    """Everything is as if there never had been a fault, but for suspects that say so."""
    yield from untouched(seen)
    host = seen.host
    left = unmarked(host, seen.witness)
    if host.hyperv.machines[VM].policy != 5:
        yield f"the policy of the machine is {host.hyperv.machines[VM].policy}, not its own 5"
    intents = [name for name in names(host, "intents") if not name.endswith(".json.tmp")]  # half-written ones are for the clean-up
    if intents and not left:
        yield f"intents {intents} without any suspect"
    if len(left) > 1:
        yield f"{len(left)} checkpoints of nobody"


# -- present -------------------------------------------------------------------------------------------------------------


def made(seen: Seen) -> Iterator[str]:
    yield from done(seen)
    if ours(seen.host) != ["old", "new"]:
        yield f"ours are {ours(seen.host)}"


def made_or_told(seen: Seen) -> Iterator[str]:
    yield from untouched(seen)
    if seen.ending.succeeded and "new" not in ours(seen.host):
        yield "a success, and no checkpoint of ours"
    if seen.ending.succeeded and unmarked(seen.host, seen.witness):
        yield "a success, and a checkpoint of nobody"
    if ours(seen.host).count("new") > 1:
        yield "two checkpoints of one name"


MAKE = validated(hyperv_checkpoint, name="web01", checkpoint_name="new", run_id="patch-1")
PRESENT = Operation("making a checkpoint", spec, hyperv_checkpoint.run, MAKE, clean=made, after=made_or_told, healed=made, prepare=prepare,
                    next_run=NextRun(hyperv_checkpoint.run, MAKE, pause=LATER))


# -- cleaned up ----------------------------------------------------------------------------------------------------------


def tidy(seen: Seen) -> Iterator[str]:
    """Nothing of the run is left but what is proved to be ours, and a suspect with its intent."""
    yield from done(seen)
    if names(seen.host, "leases"):
        yield f"leases {names(seen.host, 'leases')}"
    if any(name.endswith(".tmp") for name in names(seen.host, "intents")):
        yield f"half-written intents {names(seen.host, 'intents')}"
    if len(ours(seen.host)) > 2:
        yield f"ours are {ours(seen.host)}"


CLEANED = Operation("making a checkpoint, and a clean-up", spec, hyperv_checkpoint.run, MAKE, clean=made, after=made_or_told, healed=tidy,
                    prepare=prepare, next_run=NextRun(hyperv_cleanup.run, validated(hyperv_cleanup, remove=True), pause=2 * LATER))


# -- begun, and adopted by the next run ----------------------------------------------------------------------------------


def begun(seen: Seen) -> Iterator[str]:
    """One more checkpoint at most, whether it has its name already or not."""
    yield from untouched(seen)
    if len(unmarked(seen.host, seen.witness)) + ours(seen.host).count("new") > 1:
        yield "two checkpoints"


BEGIN = validated(hyperv_checkpoint, name="web01", checkpoint_name="new", run_id="patch-1", wait=False)
BEGUN = Operation("beginning a checkpoint", spec, hyperv_checkpoint.run, BEGIN, clean=begun, after=begun, healed=made, prepare=prepare,
                  next_run=NextRun(hyperv_checkpoint.run, MAKE, pause=30.0))


# -- absent --------------------------------------------------------------------------------------------------------------


def removed(seen: Seen) -> Iterator[str]:
    yield from done(seen)
    if ours(seen.host):
        yield f"ours are {ours(seen.host)}"
    if seen.host.hyperv.machines[VM].busy is not None or len(list(seen.host.hyperv.machines[VM].disks[0].leaf.chain())) != 3:
        yield "the chain is not shorter"


def removed_or_told(seen: Seen) -> Iterator[str]:
    yield from untouched(seen)
    if seen.ending.succeeded:
        yield from removed(seen)


REMOVE = validated(hyperv_checkpoint, name="web01", state="absent", pattern="*", merge_timeout=1800)
ABSENT = Operation("removing checkpoints", spec, hyperv_checkpoint.run, REMOVE, clean=removed, after=removed_or_told, healed=removed,
                   prepare=prepare, next_run=NextRun(hyperv_checkpoint.run, REMOVE, pause=LATER))


# -- revert --------------------------------------------------------------------------------------------------------------


def went_back(seen: Seen) -> Iterator[str]:
    yield from done(seen)
    machine = seen.host.hyperv.machines[VM]
    if machine.current_parent is None or machine.current_parent.name != "old" or machine.state != "off":
        yield f"the machine is {machine.state} and grows from {machine.current_parent}"


def kept_or_told(seen: Seen) -> Iterator[str]:
    """Nobody goes back before the present state is kept."""
    yield from untouched(seen)
    machine = seen.host.hyperv.machines[VM]
    kept = [name for name in ours(seen.host) if name.startswith("before revert")]
    if machine.last_applied is not None and not kept:
        yield "it went back, and the present state is not kept"
    if seen.ending.succeeded:
        yield from went_back(seen)


BACK = validated(hyperv_checkpoint_revert, name="web01", checkpoint_name="old", force=True, run_id="patch-1")
REVERT = Operation("going back", spec, hyperv_checkpoint_revert.run, BACK, clean=went_back, after=kept_or_told, healed=went_back,
                   prepare=prepare, next_run=NextRun(hyperv_checkpoint_revert.run, BACK, pause=LATER))

OPERATIONS = {"present": PRESENT, "cleaned": CLEANED, "begun": BEGUN, "absent": ABSENT, "revert": REVERT}


@pytest.fixture(scope="module")
def recorded() -> Recordings:
    return Recordings(OPERATIONS)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_fault(recorded: Recordings, name: str, fault: Fault) -> None:
    assert check(OPERATIONS[name], recorded[name], fault, most=1) > 0


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_requests_of_the_runs(recorded: Recordings, name: str) -> None:
    assert len(recorded[name].requests) < 140
