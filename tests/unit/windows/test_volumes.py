# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On which volume a path lies."""

from __future__ import annotations

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume, locate

C = Volume("\\\\?\\Volume{11111111-1111-1111-1111-111111111111}\\", "C:\\", "NTFS", 100, 50)
D = Volume("\\\\?\\Volume{22222222-2222-2222-2222-222222222222}\\", "D:\\", "NTFS", 100, None)
MOUNT = Volume("\\\\?\\Volume{33333333-3333-3333-3333-333333333333}\\", "C:\\Mounts\\Data\\", "NTFS", 0, 0)
CSV1 = Volume("\\\\?\\Volume{44444444-4444-4444-4444-444444444444}\\", "C:\\ClusterStorage\\Volume1\\", "CSVFS", 100, 10)
ALL = (C, D, MOUNT, CSV1)


@pytest.mark.parametrize(
    ("path", "kind", "volume", "relative"),
    [
        ("C:\\VMs\\a.vhdx", "local", C, "VMs\\a.vhdx"),
        ("c:/vms/a.vhdx", "local", C, "vms\\a.vhdx"),
        ("D:\\a.vhdx", "local", D, "a.vhdx"),
        ("C:\\Mounts\\Data\\x\\a.vhdx", "local", MOUNT, "x\\a.vhdx"),
        ("C:\\Mounts\\Data2\\a.vhdx", "local", C, "Mounts\\Data2\\a.vhdx"),
        ("C:\\ClusterStorage\\Volume1\\vm\\a.vhdx", "csv", CSV1, "vm\\a.vhdx"),
        ("C:\\ClusterStorage\\Volume10\\vm\\a.vhdx", "csv", None, None),
        ("\\\\?\\C:\\VMs\\a.vhdx", "local", C, "VMs\\a.vhdx"),
        ("\\\\?\\Volume{22222222-2222-2222-2222-222222222222}\\x\\a.vhdx", "local", D, "x\\a.vhdx"),
        ("\\\\server\\share\\a.vhdx", "smb", None, None),
        ("\\\\?\\UNC\\server\\share\\a.vhdx", "smb", None, None),
        ("//server/share/a.vhdx", "smb", None, None),
        ("Z:\\a.vhdx", "unknown", None, None),
        ("\\\\?\\Volume{99999999-9999-9999-9999-999999999999}\\a", "unknown", None, None),
    ],
)
def test_places(path: str, kind: str, volume: Volume | None, relative: str | None) -> None:
    place = locate(path, ALL)
    assert (place.kind, place.volume, place.relative) == (kind, volume, relative)


def test_a_path_cannot_climb_out_of_its_volume() -> None:
    assert locate("D:\\a\\..\\b\\c.vhdx", ALL).relative == "b\\c.vhdx"


def test_free_ratio_needs_both_numbers() -> None:
    assert [volume.free_ratio for volume in ALL] == [0.5, None, None, 0.1]
