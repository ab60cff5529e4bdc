# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup a restore means."""
from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Export, Manifest, ManifestFile
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_choice import Wanted, choose

A, B = "0A1B2C3D-0000-4000-8000-00000000000A", "0A1B2C3D-0000-4000-8000-00000000000B"
START = datetime(2026, 11, 1, tzinfo=UTC)
EXPORT = Export(20348, 2, "10.0", False, False, 1 << 30, 2, (), ())
BASE = Manifest(A, "sql01", "HV01", "run-0", START, START, None, "crash", "crash", "made for a test", (), (), "sha256",
                (ManifestFile("Virtual Machines\\a.vmcx", "", 1, role="configuration"),), "offline", EXPORT)


def copy(day: int, *, missing: tuple[str, ...] = (), **changes: Any) -> FoundCopy:
    manifest = replace(BASE, **{"taken": START + timedelta(days=day), "run_id": f"run-{day}", **changes})
    return FoundCopy(f"E:\\Backup\\{manifest.host}\\{manifest.vm_name}\\{day}", manifest, missing)


FOUND = (copy(1), copy(3), copy(2), copy(5, vm_id=B, vm_name="web01"), copy(4, export=None, method="vss"))


@pytest.mark.parametrize(("wanted", "run"), [
    (Wanted(name="SQL01"), "run-3"), (Wanted(vm_id=A.lower()), "run-3"), (Wanted(name="sql01", backup_id="run-1"), "run-1"),
    (Wanted(name="sql01", not_after=START + timedelta(days=2)), "run-2"), (Wanted(backup_id="run-5"), "run-5"),
    (Wanted(name="sql01", not_after=START + timedelta(days=2, hours=23)), "run-2"), (Wanted(name="sql01", host="hv01"), "run-3"),
])
def test_the_one_that_is_meant(wanted: Wanted, run: str) -> None:
    assert choose(FOUND, wanted).manifest.run_id == run


@pytest.mark.parametrize(("wanted", "code"), [
    (Wanted(name="other"), "backup_not_found"), (Wanted(name="sql01", not_after=START), "backup_not_found"),
    (Wanted(name="sql01", backup_id="run-9"), "backup_not_found"), (Wanted(name="sql01", backup_id="run-4"), "no_configuration"),
    (Wanted(), "backup_not_found"), (Wanted(name="sql01", host="HV09"), "backup_not_found"),
])
def test_none(wanted: Wanted, code: str) -> None:
    with pytest.raises(HypervError) as error:
        choose(FOUND, wanted)
    assert (error.value.error_code, bool(error.value.hint)) == (code, True)


def test_one_name_of_several_machines() -> None:
    with pytest.raises(HypervError) as error:
        choose((*FOUND, copy(6, vm_id=B)), Wanted(name="sql01"))
    assert error.value.details["candidates"] == [{"vm_id": A, "host": "hv01"}, {"vm_id": B, "host": "hv01"}]
    assert choose((*FOUND, copy(6, host="HV02")), Wanted(name="sql01", host="hv02")).manifest.run_id == "run-6"


def test_the_newest_is_meant_even_when_it_is_damaged() -> None:
    with pytest.raises(HypervError) as error:
        choose((*FOUND, copy(7, missing=("Virtual Hard Disks\\a.vhdx",))), Wanted(name="sql01"))
    assert (error.value.error_code, error.value.details["damaged"]) == ("backup_incomplete", ["Virtual Hard Disks\\a.vhdx"])
    assert "run-3" in (error.value.hint or "")
