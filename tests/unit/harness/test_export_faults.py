# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_export`` through the fault harness, at a folder of the host and, with few faults, at a share.

The contract: whatever happens, no success is false and nothing of others is touched; a manifest stands only beside whole files;
and after the clean-up, or after the same task again, no checkpoint, intent, task, job, lease or partial export of ours is left.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_cleanup, hyperv_export
from simulator.fileserver import FileServerSpec
from simulator.host import SimHost
from simulator.hyperv.spec import MIB, DiskSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.fault_harness import FAULTS, Fault, NextRun, Operation, Recordings, Seen, check, validated
from support.leftovers import Others, false_successes, manifest_of, names, others_of, problems_on, touched

LOCAL, SHARE = "E:\\Exports", "\\\\NAS\\backup"
NAS = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV01$",)),))
CLEANED = NextRun(hyperv_cleanup.run, validated(hyperv_cleanup, remove=True, older_than="10m"), pause=3 * 3600)


def spec() -> HostSpec:
    disk = DiskSpec("D:\\VMs\\sql01\\a.vhdx", size=4 * MIB)
    return HostSpec("HV01", domain="example.test", volumes=tuple(VolumeSpec(letter) for letter in ("C:", "D:", "E:")), vms=(
        VmSpec("sql01", disks=(disk,), policy="production"),))


def prepare(host: SimHost) -> Others:
    host.hyperv.disks.materialise_all()
    host.files.create_directory(LOCAL)
    for place in (LOCAL, SHARE):
        host.files.write_file(f"{place}\\other product.txt", b"not ours")
    return others_of(host, LOCAL, SHARE)


def exports(host: SimHost) -> Iterator[tuple[str, dict[str, Any]]]:
    for base in (f"{LOCAL}\\HV01", f"{SHARE}\\HV01"):
        for machine in names(host, base):
            for folder in names(host, f"{base}\\{machine}"):
                found = manifest_of(host, f"{base}\\{machine}\\{folder}")
                if found is not None:
                    yield f"{base}\\{machine}\\{folder}", found


def always(seen: Seen) -> Iterator[str]:
    yield from touched(seen.host, seen.witness)
    yield from false_successes(seen.host, seen.ending)
    for folder, found in exports(seen.host):
        for file in found["files"]:
            path = f"{folder}\\{file['path']}"
            if not seen.host.files.exists(path) or seen.host.files.resolve(path).real.stat().st_size != file["size"]:
                yield f"{path} is not what its manifest says"


def nothing_left(seen: Seen) -> Iterable[str]:
    yield from problems_on(seen.host, seen.witness, destinations=[LOCAL, SHARE])
    yield from always(seen)
    for machine in seen.host.hyperv.machines.values():
        yield from (f"the checkpoint {one.name}" for one in machine.checkpoints.values())
        if machine.busy == "exporting":
            yield "an export goes on"


def clean(seen: Seen) -> Iterable[str]:
    yield from nothing_left(seen)
    if len(list(exports(seen.host))) != 1:
        yield "not one export"


def protected(seen: Seen) -> Iterable[str]:
    """After the same task again, an hour later."""
    yield from always(seen)
    if not list(exports(seen.host)):
        yield "no export"


def operation(title: str, *, again: bool = False, **changes: Any) -> Operation:
    given = {"name": "sql01", "destination": LOCAL, "run_id": "nightly-1", "max_age": "20h", **changes}
    params = validated(hyperv_export, **given)
    healed, next_run = (protected, NextRun(hyperv_export.run, params, 3600.0)) if again else (nothing_left, CLEANED)
    return Operation(title, spec, hyperv_export.run, params, clean, always, healed, prepare, file_servers=(NAS,),
                     next_run=next_run, always_next=not again)


CRASH = operation("a live export", consistency="crash")
APPLICATION = operation("a quiesced export")
AGAIN = operation("a quiesced export, and the same task again", again=True, host_limit=1, volume_limit=1)
AT_SHARE = operation("a quiesced export at a share", destination=SHARE)


@pytest.fixture(scope="module")
def recorded() -> Recordings:
    return Recordings({made.name: made for made in (CRASH, APPLICATION, AGAIN, AT_SHARE)})


SEVERE = tuple(fault for fault in FAULTS if fault.thorough or fault.kill or fault.forever)
TRIED = [*((CRASH, fault) for fault in FAULTS if fault not in SEVERE),
         *((made, fault) for made in (APPLICATION, AGAIN) for fault in SEVERE),
         *((AT_SHARE, fault) for fault in FAULTS if fault.name in ("controller killed before the answer arrives", "host restarts"))]


@pytest.mark.parametrize(("made", "fault"), TRIED, ids=lambda value: str(getattr(value, "name", value)).replace(" ", "_"))
def test_whatever_breaks_no_success_is_false_and_nothing_is_left(recorded: Recordings, made: Operation, fault: Fault) -> None:
    assert check(made, recorded[made.name], fault, most=1) >= 1
