# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of replication relations: their rows, and the disks that are part of one (operations 7.3)."""
from __future__ import annotations

import html
import ntpath
from collections.abc import Collection, Mapping

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import cimxml, facts, paths, rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.rows import Row
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replication_service as service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE

BUILD_2012R2 = 9600
STORAGE = "Msvm_StorageAllocationSettingData"
METHODS: Mapping[int, str] = {1: "kerberos", 2: "certificate"}
NUMBERS: Mapping[str, int] = {word: number for number, word in METHODS.items()}
DEFAULT_PORTS: Mapping[str, int] = {"kerberos": 80, "certificate": 443}
FREQUENCIES = (30, 300, 900)
ROWS = (
    Row("server", "RecoveryConnectionPoint", rows.NAME),
    Row("port", "RecoveryServerPortNumber", rows.INTEGER),
    Row("authentication", "AuthenticationType", rows.choice(METHODS)),
    Row("certificate_thumbprint", "CertificateThumbPrint", rows.THUMBPRINT),
    Row("compression", "CompressionEnabled", rows.BOOLEAN),
    Row("frequency", "ReplicationInterval", rows.INTEGER, since=BUILD_2012R2, fixed=300),
    Row("recovery_history", "RecoveryHistory", rows.INTEGER),
    Row("app_consistent_interval", "ApplicationConsistentSnapshotInterval", rows.INTEGER),
    Row("auto_resync", "AutoResynchronizeEnabled", rows.BOOLEAN),
    Row("auto_resync_start", "AutoResynchronizeIntervalStart", rows.TIME_OF_DAY),
    Row("auto_resync_end", "AutoResynchronizeIntervalEnd", rows.TIME_OF_DAY),
    Row("replicate_kvp", "ReplicateHostKvpItems", rows.BOOLEAN),
    Row("bypass_proxy", "BypassProxyServer", rows.BOOLEAN),
)


def read(reader: CimReader) -> dict[str, Instance]:
    """The settings of every relation of the host, by their InstanceID in lower case; one request."""
    return {row.required_text("InstanceID").lower(): row for row in reader.enumerate(NAMESPACE, service.SETTINGS)}


def of_machine(found: Mapping[str, Instance], vm_id: str, *, extended: bool = False) -> Instance | None:
    """The settings of one relation of a machine: ``...\\HVR\\0``, ``...\\HVR\\1`` for the extended one, ``...\\HVR`` on 2012."""
    head = f"microsoft:{vm_id}\\hvr".lower()
    return found.get(f"{head}\\{int(extended)}") or (None if extended else found.get(head))


def replica_servers(row: Instance) -> tuple[str, ...]:
    """The names of the host that receives: as it is connected to, and its own."""
    return _names(row, "RecoveryConnectionPoint", "RecoveryHostSystem")


def primary_servers(row: Instance) -> tuple[str, ...]:
    """The names of the host that sends: as it is connected to, and its own."""
    return _names(row, "PrimaryConnectionPoint", "PrimaryHostSystem")


def _names(row: Instance, *properties: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in map(row.text, properties) if name))


def names_disk(entry: str, disk: Disk) -> bool:
    """Whether an entry of IncludedDisks means a disk.

    Documents leave open whether it is an InstanceID, an object path or an embedded instance (D-22), so all three are understood.
    """
    wanted = disk.instance_id.lower()
    try:
        return (paths.parse_path(entry).key("InstanceID") or "").lower() == wanted
    except ValueError:
        return wanted in html.unescape(entry).lower()


PATH, INSTANCE_ID, EMBEDDED = "path", "instance_id", "embedded"


def form_of(entry: str) -> str:
    """In which of the three forms an entry of IncludedDisks is."""
    try:
        paths.parse_path(entry)
    except ValueError:
        return EMBEDDED if entry.lstrip().startswith("<") else INSTANCE_ID
    return PATH


def forms(found: Mapping[str, Instance]) -> tuple[str, ...]:
    """The form that this host uses, where any of its relations shows one; else all of them, the likeliest first (D-22)."""
    for row in found.values():
        for entry in row.texts("IncludedDisks"):
            return (form_of(entry),)
    return (PATH, INSTANCE_ID, EMBEDDED)


def disk_entry(disk: Disk, form: str) -> str:
    """A disk as an entry of IncludedDisks."""
    if form == INSTANCE_ID:
        return disk.instance_id
    if form == EMBEDDED:
        return cimxml.format_instance(facts.embedded(STORAGE, {"InstanceID": disk.instance_id}))
    return paths.format_path(Reference(NAMESPACE, STORAGE, {"InstanceID": disk.instance_id}))


def included(settings: Instance, found: Collection[Disk]) -> tuple[Disk, ...]:
    """Those of a machine's disks that its relation includes."""
    entries = settings.texts("IncludedDisks")
    return tuple(disk for disk in found if any(names_disk(entry, disk) for entry in entries))


def left_out(settings: Instance, found: Collection[Disk]) -> tuple[str, ...]:
    """Paths of the virtual disks of a machine that its relation does not include; none where the host names no disk at all."""
    if not settings.texts("IncludedDisks"):
        return ()
    there = included(settings, found)
    return tuple(disk.path or "" for disk in found if disk.kind == "virtual" and disk not in there)


def is_meant(disk: Disk, wanted: str) -> bool:
    """Whether a path, or the name of a file alone, means a disk."""
    path = (disk.path or "").casefold()
    return wanted.casefold() in (path, ntpath.basename(path))
