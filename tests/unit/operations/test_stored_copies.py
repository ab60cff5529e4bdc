# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a destination holds is sorted: finished, begun removals, incomplete, damaged, foreign."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.stored_copies import Found, found_copies, run_of
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Export, Manifest, ManifestFile, dump
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import Key, Stored

VM_ID = "0A1B2C3D-1111-2222-3333-444455556666"
VM = "web_0A1B2C3D"
TAKEN = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
DISK, DEFINITION = ManifestFile("disks\\a", "D:\\a", 5), ManifestFile("a.vmcx", "", 3, role="configuration")
COPY = Manifest(VM_ID, "web", "HV01", "r1", TAKEN, TAKEN, None, "crash", "crash", "e", (), (), "size", (DISK,))
EXPORTED = replace(COPY, run_id="r2", method="offline", export=Export(1, 2, "9.0", False, False, 1, 1, (), ()), files=(DEFINITION,))
FIRST, SECOND = "20260131T120000Z_r1", "20260131T120000Z_r2"


def stored(
    manifests: dict[Key, Manifest | str],
    files: dict[Key, dict[str, int]],
    pruning: dict[Key, Manifest] | None = None,
    folders: tuple[Key, ...] = (),
) -> Stored:
    texts = {key: text if isinstance(text, str) else dump(text).decode() for key, text in manifests.items()}
    return Stored(texts, {key: dump(one).decode() for key, one in (pruning or {}).items()}, files, folders)


def test_each_folder_is_what_it_is() -> None:
    found = found_copies(
        stored(
            {(VM, FIRST): COPY, (VM, SECOND): EXPORTED, (VM, "moved"): COPY, (VM, "x"): "{}"},
            {
                (VM, FIRST): {"DISKS\\a": 5, "manifest.json": 9, "odd": 1},
                (VM, SECOND): {"a.vmcx": 2},
                (VM, "20260131T120000Z_r5"): {"b": 1},
            },
            {(VM, "20260131T120000Z_r3"): replace(COPY, run_id="r3")},
            ((VM, FIRST), (VM, "20260131T120000Z_r4"), ("other", "20260131T120000Z_r4"), (VM, "notes")),
        ),
        "E:\\B\\HV01",
    )
    assert [(copy.folder, copy.missing, copy.others) for copy in found.copies] == [
        (f"E:\\B\\HV01\\{VM}\\{FIRST}", (), ("odd",)),
        (f"E:\\B\\HV01\\{VM}\\{SECOND}", ("a.vmcx",), ()),
    ]
    assert [copy.manifest.run_id for copy in found.begun] == ["r3"]
    assert found.damaged == (f"E:\\B\\HV01\\{VM}\\moved", f"E:\\B\\HV01\\{VM}\\x")
    assert found.incomplete == (f"E:\\B\\HV01\\{VM}\\20260131T120000Z_r4", f"E:\\B\\HV01\\{VM}\\20260131T120000Z_r5")
    assert found.foreign == ("E:\\B\\HV01\\other\\20260131T120000Z_r4", f"E:\\B\\HV01\\{VM}\\notes")
    assert [copy.manifest.run_id for copy in found.of_kind("export").copies] == ["r2"]


@pytest.mark.parametrize(("host", "counts"), [("HV01", True), ("hv01", True), ("HV02", False)])
def test_of_all_hosts_a_copy_must_lie_below_its_own(host: str, counts: bool) -> None:
    found = found_copies(stored({(host, VM, FIRST): COPY}, {(host, VM, FIRST): {"disks\\a": 5}}), "E:\\B")
    assert (len(found.copies), len(found.damaged)) == (int(counts), int(not counts))


def test_nothing_is_nothing() -> None:
    assert found_copies(Stored({}, {}, {}), "E:\\B") == Found()
    assert (run_of(f"E:\\B\\{FIRST}"), run_of("E:\\B\\notes")) == ("r1", None)
