# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the report reads and writes, through the fault harness: no fault makes a copy look absent, and a report is stored whole or not."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_cleanup, hyperv_protection_info, hyperv_report
from simulator.host import SimHost
from simulator.hyperv.spec import CheckpointSpec, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec
from support.exported import export
from support.fault_harness import FAULTS, Fault, NextRun, Operation, Recorded, Seen, check, record, validated
from support.leftovers import Others, others_of, problems_on

BACKUP = "E:\\Backup"


def spec() -> HostSpec:
    return HostSpec("HV01", volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:")), vms=(
        VmSpec("sql01", folder="D:\\VMs\\sql01"), VmSpec("web01", folder="D:\\VMs\\web01", checkpoints=(CheckpointSpec("a"),))))


def prepare(host: SimHost) -> None:
    export(host, "sql01", BACKUP)


# -- reading -------------------------------------------------------------------------------------------------------------


def untouched(seen: Seen) -> Iterable[str]:
    if seen.host.counters.writing:
        yield f"something was changed: {list(seen.host.recent_changes)}"


def everything(seen: Seen) -> Iterable[str]:
    result = seen.ending.result or {}
    if [copy["vm_name"] for copy in result["copies"]] != ["sql01"] or len(result["vms"]) != 2 or result["shadow_copies"] != []:
        yield f"it told of {result['copies']}"
    yield from untouched(seen)


def nothing_looks_absent(seen: Seen) -> Iterable[str]:
    result = seen.ending.result
    if result is not None:
        (place,) = result["destinations"]
        if not result["copies"] and (place["read"] or not place["error_code"]):
            yield "a destination with a copy was told as empty"
        if len(result["vms"]) != 2:
            yield "a machine was told as absent"
        if result["shadow_copies"] is None and not seen.ending.warnings:
            yield "shadow copies are not known, and nothing says so"
    yield from untouched(seen)


READING = Operation("hyperv_protection_info", spec, hyperv_protection_info.run,
                    validated(hyperv_protection_info, destinations=[{"path": BACKUP}]), everything, nothing_looks_absent, prepare=prepare)


@pytest.fixture(scope="module")
def reading() -> Recorded:
    return record(READING)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_reading(reading: Recorded, fault: Fault) -> None:
    assert check(READING, reading, fault, most=1) >= 1


# -- storing -------------------------------------------------------------------------------------------------------------


def reports(host: SimHost) -> dict[str, set[str]]:
    """Folder to the names of the files in it."""
    root = f"{BACKUP}\\_reports"
    if not host.files.exists(root):
        return {}
    folders = list(host.files.children(host.files.resolve(root)))
    return {folder.parts[-1]: {file.parts[-1] for file in host.files.children(folder)} for folder in folders}


def stored(seen: Seen) -> Iterable[str]:
    result: dict[str, Any] = seen.ending.result or {}
    kept = reports(seen.host).get(str(result.get("stored")).rpartition("\\")[2], set())
    if kept != {"report.html", "report.json"}:
        yield f"the report is not there: {kept}"


def no_false_success(seen: Seen) -> Iterable[str]:
    if seen.ending.succeeded:
        yield from stored(seen)
    if len([names for names in reports(seen.host).values() if {"report.html", "report.json"} <= names]) < KEPT:
        yield f"an older report went before the new one was there: {reports(seen.host)}"


def nothing_left(seen: Seen) -> Iterable[str]:
    return problems_on(seen.host, seen.witness, ending=seen.ending)


KEPT = 2


def with_older_reports(host: SimHost) -> Others:
    for above in (BACKUP, f"{BACKUP}\\_reports"):
        host.files.create_directory(above)
    for number in range(KEPT):
        folder = f"{BACKUP}\\_reports\\2020010{number + 1}T000000Z_0123456789ab"
        host.files.create_directory(folder)
        for name in ("report.html", "report.json"):
            host.files.write_file(f"{folder}\\{name}", b"x")
    return others_of(host)


def stored_in_place_of_the_oldest(seen: Seen) -> Iterable[str]:
    yield from stored(seen)
    if len(reports(seen.host)) != KEPT:
        yield f"retention left {sorted(reports(seen.host))}"


CLEANED = NextRun(hyperv_cleanup.run, validated(hyperv_cleanup, remove=True, older_than="10m"), pause=3 * 3600)
STORING = Operation("hyperv_report", spec, hyperv_report.run, validated(hyperv_report, hosts=[], destination=BACKUP, keep={"last": KEPT}),
                    stored_in_place_of_the_oldest, no_false_success, nothing_left, with_older_reports, next_run=CLEANED)


@pytest.fixture(scope="module")
def storing() -> Recorded:
    return record(STORING)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_storing(storing: Recorded, fault: Fault) -> None:
    assert check(STORING, storing, fault, most=1) >= 1
