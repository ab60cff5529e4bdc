# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Win32_Volume, Win32_MountPoint, Win32_LogicalDisk and Win32_Share (windows facts 4, 5)."""
from __future__ import annotations

from collections.abc import Iterable

from simulator.cim.model import Caller, Instance
from simulator.windows.cimv2.common import Listed, instance, ref
from simulator.windows.files import FileSystem
from simulator.windows.programs.base import HostFacts
from simulator.windows.volumes import Volume

FIXED, REMOVABLE = 3, 2


def volume_instance(volume: Volume, facts: HostFacts) -> Instance:
    """One row of Win32_Volume. A CSV has the file system CSVFS and its path below C:\\ClusterStorage as Name (windows facts 4)."""
    system = volume.spec.letter == "C:"
    return instance(
        "Win32_Volume", DeviceID=volume.device_id, Name=volume.mount_path, Caption=volume.mount_path, DriveLetter=volume.spec.letter,
        Label=volume.spec.label, FileSystem=volume.filesystem, Capacity=volume.capacity, FreeSpace=volume.free_bytes, BlockSize=4096,
        DriveType=REMOVABLE if volume.spec.removable else FIXED, Automount=True, BootVolume=system, SystemVolume=system, Compressed=False,
        DirtyBitSet=False, IndexingEnabled=True, MaximumFileNameLength=255, PageFilePresent=system, QuotasEnabled=False,
        QuotasIncomplete=False, QuotasRebuilding=False, SerialNumber=volume.serial, SupportsDiskQuotas=volume.filesystem == "NTFS",
        SupportsFileBasedCompression=volume.filesystem == "NTFS", SystemName=facts.name.upper()[:15])


def _disk(volume: Volume, facts: HostFacts) -> Instance:
    letter = volume.spec.letter or ""
    return instance(
        "Win32_LogicalDisk", DeviceID=letter, Name=letter, Caption=letter, CreationClassName="Win32_LogicalDisk",
        DriveType=REMOVABLE if volume.spec.removable else FIXED, FileSystem=volume.filesystem, Size=volume.capacity,
        FreeSpace=volume.free_bytes, VolumeName=volume.spec.label, VolumeSerialNumber=f"{volume.serial:08X}", Compressed=False,
        MaximumComponentLength=255, MediaType=11 if volume.spec.removable else 12, QuotasDisabled=True, QuotasIncomplete=False,
        QuotasRebuilding=False, SupportsDiskQuotas=volume.filesystem == "NTFS",
        SupportsFileBasedCompression=volume.filesystem == "NTFS", SystemCreationClassName="Win32_ComputerSystem",
        SystemName=facts.name.upper()[:15], VolumeDirty=False)


def providers(files: FileSystem, facts: HostFacts) -> dict[str, Listed]:
    """The providers by class name."""

    def volumes(_caller: Caller) -> Iterable[Instance]:
        files.announce_all()
        return [volume_instance(volume, facts) for volume in files.volumes]

    def disks(_caller: Caller) -> Iterable[Instance]:
        files.announce_all()
        return [_disk(volume, facts) for volume in files.volumes if volume.spec.letter]

    def mount_points(_caller: Caller) -> Iterable[Instance]:
        return [instance("Win32_MountPoint", Directory=ref("Win32_Directory", Name=volume.mount_path.rstrip("\\") if not volume.spec.letter
                                                           else volume.mount_path),
                         Volume=ref("Win32_Volume", DeviceID=volume.device_id)) for volume in files.volumes]

    def shares(_caller: Caller) -> Iterable[Instance]:
        rows = [instance("Win32_Share", Name=share.name, Path=share.path, Type=0, AllowMaximum=True, Status="OK", Caption=share.name)
                for share in files.shares.values()]
        admin = [instance("Win32_Share", Name=f"{letter[0]}$", Path=letter + "\\", Type=2147483648, AllowMaximum=True, Status="OK")
                 for letter in (volume.spec.letter for volume in files.volumes) if letter]
        return rows + admin

    return {"Win32_Volume": Listed(volumes), "Win32_LogicalDisk": Listed(disks), "Win32_MountPoint": Listed(mount_points),
            "Win32_Share": Listed(shares)}
