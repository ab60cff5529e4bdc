# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_vss_copy`` through the fault harness, at a folder of the host and at a share.

The contract: whatever happens, no success is false and nothing of others is touched; what the run itself survives to remove is gone or
named in its result; and after the clean-up, or after the next run and the clean-up, no shadow copy, link, intent, task, job, lease or
partial copy of ours is left.
"""
from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_cleanup, hyperv_vss_copy
from simulator.fileserver import FileServerSpec
from simulator.host import SimHost
from simulator.hyperv.spec import CheckpointSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.fault_harness import FAULTS, Fault, NextRun, Operation, Recordings, Seen, check, validated
from support.leftovers import Others, false_successes, left_on, manifest_of, names, others_of, problems_on, touched

GIB = 1024**3
LOCAL, SHARE = "E:\\Backup", "\\\\NAS\\backup"
FOREIGN_FILE = "E:\\Backup\\other product.txt"
NAS = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")),
                     (ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV01$",)),), (), True)
CLEANED = NextRun(hyperv_cleanup.run, validated(hyperv_cleanup, remove=True, older_than="10m"), pause=3 * 3600)


def spec() -> HostSpec:
    volumes = tuple(VolumeSpec(letter, free=60 * GIB) for letter in ("C:", "D:", "E:", "F:"))
    return HostSpec("HV01", domain="example.test", volumes=volumes, vms=(
        VmSpec("sql01", folder="D:\\VMs\\sql01"), VmSpec("web01", folder="F:\\VMs\\web01", checkpoints=(CheckpointSpec("before"),)),
        VmSpec("off01", folder="D:\\VMs\\off01", state="off")))


@dataclass(frozen=True)
class Witness:
    """What was on the host before, and must be there afterwards: what is others', and the machines' disks."""

    others: Others
    disks: Mapping[str, str]


def prepare(host: SimHost) -> Witness:
    host.hyperv.disks.materialise_all()
    host.files.create_directory(LOCAL)
    host.files.write_file(FOREIGN_FILE, b"not ours")
    host.shadows.add_foreign("D:\\")
    return Witness(others_of(host, LOCAL), disks(host))


def disks(host: SimHost) -> dict[str, str]:
    """Every file of the machines, with its digest."""
    return {path: digest(host, path) for drive in ("D:\\VMs", "F:\\VMs") for path in tree(host, drive)}


def digest(host: SimHost, path: str) -> str:
    return hashlib.sha256(host.files.resolve(path).real.read_bytes()).hexdigest()


def tree(host: SimHost, path: str) -> Iterator[str]:
    """Paths of all files below a folder."""
    for name in names(host, path):
        child = f"{path}\\{name}"
        if host.files.resolve(child).is_directory:
            yield from tree(host, child)
        else:
            yield child


class Contract:
    """See the head of this file."""

    def __init__(self, destination: str, *machines: str) -> None:
        self.destination = destination
        self.machines = set(machines)

    def clean(self, seen: Seen) -> Iterable[str]:
        yield from self.nothing_left(seen)
        if self.protected(seen) != self.machines:
            yield f"complete copies: {self.protected(seen)}"

    def always(self, seen: Seen) -> Iterator[str]:
        yield from touched(seen.host, seen.witness.others)
        yield from false_successes(seen.host, seen.ending)
        yield from self.wrong_bytes(seen)
        if disks(seen.host) != seen.witness.disks:
            yield "a machine's disks were changed"
        told = (seen.ending.result or {}).get("results", [seen.ending.result or {}])
        if seen.ending.succeeded and not {entry["vm"]["name"] for entry in told if "vm" in entry} >= self.machines:
            yield "a success that does not tell of every machine"

    def after(self, seen: Seen) -> Iterable[str]:
        yield from self.always(seen)
        assert seen.case is not None
        if seen.case.fault.kill is None and not seen.case.fault.forever:
            yield from self.gone_or_named(seen)

    def nothing_left(self, seen: Seen) -> Iterable[str]:
        yield from problems_on(seen.host, seen.witness.others, destinations=[self.destination])
        yield from self.wrong_bytes(seen)

    def protected_now(self, seen: Seen) -> Iterable[str]:
        """After the same task again: every machine has a copy; what is left is for the clean-up."""
        yield from self.always(seen)
        if not self.machines <= self.protected(seen):
            yield f"complete copies: {self.protected(seen)}"

    def gone_or_named(self, seen: Seen) -> Iterator[str]:
        """What a run that came to its end could not remove, it says; a job that goes on keeps what it needs."""
        told = {item["id"] for item in seen.ending.leftovers} | {item["location"] for item in seen.ending.leftovers}
        if "unknown" in told:
            return
        for kind, item in left_on(seen.host, seen.witness.others, [self.destination]):
            goes_on = kind in ("job", "program", "task") and any(name in item for name in told)
            if item not in told and not goes_on and kind != "lease":  # a lease ends by itself
                yield f"left over and not named: {kind} {item}"

    def copies(self, seen: Seen) -> Iterator[tuple[str, dict[str, Any]]]:
        base = f"{self.destination}\\HV01"
        for machine in names(seen.host, base):
            for folder in names(seen.host, f"{base}\\{machine}"):
                found = manifest_of(seen.host, f"{base}\\{machine}\\{folder}")
                if found is not None:
                    yield f"{base}\\{machine}\\{folder}", found

    def protected(self, seen: Seen) -> set[str]:
        return {found["vm"]["name"] for _folder, found in self.copies(seen)}

    def wrong_bytes(self, seen: Seen) -> Iterator[str]:
        """A manifest promises files; each must be there, with the bytes of the machine's disk."""
        for folder, found in self.copies(seen):
            for file in found["files"]:
                path = f"{folder}\\{file['path']}"
                if not seen.host.files.exists(path):
                    yield f"{path} is missing beside its manifest"
                elif digest(seen.host, path) != seen.witness.disks[file["source"]]:
                    yield f"{path} differs from its source"


def operation(title: str, contract: Contract, *, again: bool = False, **changes: Any) -> Operation:
    """``again``: what follows a fault is the same task, not the clean-up."""
    params = validated(hyperv_vss_copy, destination=contract.destination, run_id="nightly-1", max_age="20h", **changes)
    healed, next_run = (contract.protected_now, NextRun(hyperv_vss_copy.run, params, 60.0)) if again else (contract.nothing_left, CLEANED)
    return Operation(title, spec, hyperv_vss_copy.run, params, contract.clean, contract.after, healed, prepare, next_run=next_run,
                     file_servers=(NAS,), always_next=not again)


TURNS = {"host_limit": 1, "volume_limit": 1, "target_limit": 1}
ONE = operation("one machine", Contract(LOCAL, "sql01"), name="sql01")
AGAIN = operation("one machine, and the same task again", Contract(LOCAL, "sql01"), again=True, name="sql01", **TURNS)
TWO = operation("two machines on two volumes", Contract(LOCAL, "sql01", "web01"), names=["sql01", "web01"], **TURNS)
AT_SHARE = operation("one machine, to a share", Contract(SHARE, "sql01"), name="sql01", keep={"last": 1}, verify="sha256")
LIVE = operation("a live copy", Contract(LOCAL, "off01"), name="off01", method="live", accept_inconsistent=True)
SESSION = operation("one machine in the session", Contract(LOCAL, "sql01"), name="sql01", run_as="session", timeout=600)


@pytest.fixture(scope="module")
def recorded() -> Recordings:
    return Recordings({made.name: made for made in (ONE, AGAIN, TWO, AT_SHARE, LIVE, SESSION)})


SEVERE = tuple(fault for fault in FAULTS if fault.thorough or fault.kill or fault.forever)
"""Those that most of the others come to."""
TRIED = [*((made, fault) for made in (ONE, AT_SHARE) for fault in FAULTS),
         *((made, fault) for made in (AGAIN, TWO, LIVE, SESSION) for fault in SEVERE)]


@pytest.mark.parametrize(("made", "fault"), TRIED, ids=lambda value: str(getattr(value, "name", value)).replace(" ", "_"))
def test_whatever_breaks_no_success_is_false_and_nothing_is_left(recorded: Recordings, made: Operation, fault: Fault) -> None:
    assert check(made, recorded[made.name], fault, most=1) >= 1
