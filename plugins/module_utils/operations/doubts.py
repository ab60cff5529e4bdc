# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The open doubts of the references, and what a host can answer by reading alone.

``D-nn``: operations section 9. ``W-n``: wire section 11. ``F-n``: windows facts, open doubts.
Answers hold numbers, codes and names of classes only; never names, paths or identities of a site.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql, wscim
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import enumerate_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE as V2
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.cluster import NAMESPACE as CLUSTER
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import CIMV2
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import xml
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WQL, Filter, Mode

Answer = dict[str, Any]


class NothingToSee(Exception):
    """The host has nothing that would answer; the text says what is missing."""


@dataclass(frozen=True)
class Doubt:
    """One doubt. ``look`` answers it by reading; where it is None, ``why_not`` says why reading cannot."""

    doubt_id: str
    question: str
    look: Callable[[CimReader], Answer] | None = None
    why_not: str = ""


def _rows(reader: CimReader, namespace: str, class_name: str) -> list[Instance]:
    rows = enumerate_available(reader, namespace, class_name)
    if rows is None:
        raise NothingToSee(f"this host has no class {class_name}")
    if not rows:
        raise NothingToSee(f"no instance of {class_name} exists here")
    return rows


def _counts(values: Iterable[object]) -> dict[str, int]:
    return {str(value): count for value, count in sorted(Counter(map(str, values)).items())}


def _virtual_machines(reader: CimReader) -> list[Instance]:
    found = [row for row in _rows(reader, V2, "Msvm_ComputerSystem") if as_guid(row.text("Name"))]
    if not found:
        raise NothingToSee("no virtual machine is visible")
    return found


def _states(reader: CimReader) -> Answer:
    rows = _virtual_machines(reader)
    return {"enabled_states": _counts(row.integer("EnabledState") for row in rows),
            "requested_states": _counts(row.integer("RequestedState") for row in rows),
            "operational_statuses": _counts(row.integers("OperationalStatus") for row in rows),
            "captions": len({row.text("Caption") for row in rows})}


def _saved_flags(reader: CimReader) -> Answer:
    rows = _rows(reader, V2, "Msvm_VirtualSystemSettingData")
    return {"is_saved_by_type": _counts(f"{row.text('VirtualSystemType')}: {row.text('IsSaved')}" for row in rows)}


def _reference_point_types(reader: CimReader) -> Answer:
    rows = _rows(reader, V2, "Msvm_VirtualSystemReferencePoint")
    return {"types": _counts(row.integer("ReferencePointType") for row in rows),
            "consistency_levels": _counts(row.integer("ConsistencyLevel") for row in rows),
            "arrays_of_equal_length": all(len(row.texts("VirtualDiskIdentifiers")) == len(row.texts("ResilientChangeTrackingIdentifiers"))
                                          for row in rows)}


def _contexts(reader: CimReader) -> Answer:
    return {"names": sorted(row.text("Name") or "" for row in _rows(reader, CIMV2, "Win32_ShadowContext"))}


def _shadow_file_systems(reader: CimReader) -> Answer:
    systems = {(row.text("DeviceID") or "").lower(): row.text("FileSystem") for row in _rows(reader, CIMV2, "Win32_Volume")}
    rows = _rows(reader, CIMV2, "Win32_ShadowCopy")
    return {"file_systems_with_persistent_client_accessible_copies": _counts(
        systems.get((row.text("VolumeName") or "").lower(), "unknown") for row in rows
        if row.boolean("Persistent") and row.boolean("ClientAccessible"))}


def _csv_states(reader: CimReader) -> Answer:
    rows = _rows(reader, CLUSTER, "MSCluster_ClusterSharedVolume")
    volumes = [row for row in _rows(reader, CIMV2, "Win32_Volume") if (row.text("FileSystem") or "").upper().startswith("CSVFS")]
    return {"fault_states": _counts(row.integer("FaultState") for row in rows),
            "shared_volumes_in_win32_volume": len(volumes),
            "of_them_with_free_space": sum(1 for row in volumes if row.integer("FreeSpace") is not None)}


def _included_disks(reader: CimReader) -> Answer:
    forms: Counter[str] = Counter()
    for row in _rows(reader, V2, "Msvm_ReplicationSettingData"):
        for value in row.texts("IncludedDisks"):
            forms[_form_of(value)] += 1
    if not forms:
        raise NothingToSee("no replication settings name disks")
    return {"forms": dict(sorted(forms.items()))}


def _form_of(value: str) -> str:
    if value.lstrip().startswith("<"):
        return "embedded instance"
    if value.startswith("Microsoft:"):
        return "InstanceID"
    return "object path" if ":Msvm_" in value else "other"


def _test_replicas(reader: CimReader) -> Answer:
    rows = [row for row in _virtual_machines(reader) if row.integer("ReplicationMode") == 3]
    if not rows:
        raise NothingToSee("no test replica exists now")
    return {"enabled_states": _counts(row.integer("EnabledState") for row in rows)}


def _job_associators(reader: CimReader) -> Answer:
    job = _rows(reader, V2, "Msvm_ConcreteJob")[0]
    reference = Reference(V2, job.class_name, {"InstanceID": job.required_text("InstanceID")})
    found = reader.associators(reference, association="Msvm_AffectedJobElement", result="CIM_ManagedElement")
    return {"job_class": job.class_name, "classes_found": _counts(row.class_name for row in found)}


def _filters(reader: CimReader) -> Answer:
    query = wql.select(V2, "Msvm_ComputerSystem", {"EnabledState": 2})
    try:
        items = reader.session.enumerate(wscim.resource_uri(V2, "*"), Filter(WQL, xml.text(query.text)))
    except HypervError as error:
        return {"wql": _refusal(error)}
    return {"wql": "accepted", "items": len(items)}


def _object_and_epr(reader: CimReader) -> Answer:
    items = reader.session.enumerate(wscim.resource_uri(V2, "Msvm_ComputerSystem"), mode=Mode.OBJECT_AND_EPR)
    return {"item_elements": _counts(xml.local_name(item.tag) for item in items),
            "children": _counts("+".join(xml.local_name(node.tag) for node in item)[:80] for item in items
                                if xml.local_name(item.tag) == "Item")}


def _rights(reader: CimReader) -> Answer:
    answers: Answer = {}
    for namespace, class_name in ((V2, "Msvm_ComputerSystem"), (CIMV2, "Win32_OperatingSystem"), (CIMV2, "Win32_ShadowCopy"),
                                  (CLUSTER, "MSCluster_Cluster"), ("root/Microsoft/Windows/TaskScheduler", "MSFT_ScheduledTask"),
                                  ("root/StandardCimv2", "MSFT_NetFirewallProfile")):
        try:
            rows = enumerate_available(reader, namespace, class_name)
            answers[class_name] = "not available" if rows is None else f"readable, {len(rows)} instance(s)"
        except HypervError as error:
            answers[class_name] = _refusal(error)
    return answers


def _refusal(error: HypervError) -> Answer:
    codes = {name: value for name, value in error.details.items() if isinstance(value, (int, str))}
    return {"refused_as": error.error_code, "details": codes,
            "hresult": None if error.hresult is None else f"0x{error.hresult & 0xFFFFFFFF:08X}"}


def _cluster_filter(reader: CimReader) -> Answer:
    roles = [row for row in _rows(reader, CLUSTER, "MSCluster_Resource") if (row.text("Type") or "").lower() == "virtual machine"]
    if not roles:
        raise NothingToSee("the cluster has no virtual machine")
    return {"private_properties_forms": _counts(type(row.raw("PrivateProperties")).__name__ for row in roles),
            "vm_id_readable": any(isinstance(row.raw("PrivateProperties"), Instance) for row in roles)}


def _missing_namespace(reader: CimReader) -> Answer:
    try:
        rows = reader.enumerate(CLUSTER, "MSCluster_Cluster")
    except HypervError as error:
        return _refusal(error)
    return {"answered_with_instances": len(rows)}


def _firewall_selectors(reader: CimReader) -> Answer:
    for item in reader.session.stream(wscim.resource_uri("root/StandardCimv2", "MSFT_NetFirewallRule"), mode=Mode.EPR, max_elements=1):
        keys = wscim.decode_reference(item).keys
        return {"selectors": {name: "filled" if value else "empty" for name, value in sorted(keys.items())}}
    raise NothingToSee("no firewall rule was listed")


_CREATES = "it needs something to be created or changed on the host"
_TWO_HOSTS = "it needs a drill with a second host"
_CHAIN = "it needs a backup chain with checksums compared"
_CLIENT = "it is a matter of the client and the connection, not of the host's answers"

DOUBTS: tuple[Doubt, ...] = (
    Doubt("D-1", "What files a differential export writes", why_not=_CHAIN),
    Doubt("D-2", "The difference between BackupIntent 0 and 1 on disk", why_not=_CHAIN),
    Doubt("D-3", "One file a disk or the chain in a full export for backup", why_not=_CHAIN),
    Doubt("D-4", "What a shadow copy of the system drive holds of ClusterStorage", why_not=_CREATES),
    Doubt("D-5", "Whether reference points survive migrations and failovers", why_not=_TWO_HOSTS),
    Doubt("D-6", "Whether left-over reference points keep files from merging", why_not=_CREATES),
    Doubt("D-7", "Numbers of ReferencePointType on the wire", _reference_point_types),
    Doubt("D-8", "Differential backups with user checkpoints present", why_not=_CHAIN),
    Doubt("D-9", "Whether CaptureLiveState 2 fails or degrades", why_not=_CREATES),
    Doubt("D-10", "Whether ConsistencyLevel counts for SnapshotType 2", why_not=_CREATES),
    Doubt("D-11", "IsSaved as the sign of a standard checkpoint", _saved_flags),
    Doubt("D-12", "EnabledState numbers that are really seen", _states),
    Doubt("D-13", "A minimal settings instance accepted by ModifySystemSettings", why_not="it needs probe_vm"),
    Doubt("D-14", "Notes writable and read back", why_not="it needs probe_vm"),
    Doubt("D-15", "Context names that Win32_ShadowCopy.Create may accept", _contexts),
    Doubt("D-16", "Redirected state of cluster shared volumes", _csv_states),
    Doubt("D-17", "Persistent shadow copies of ReFS volumes", _shadow_file_systems),
    Doubt("D-18", "What a cancelled export leaves", why_not=_CREATES),
    Doubt("D-19", "Validation of a disk that was copied live", why_not=_CREATES),
    Doubt("D-20", "Applying a checkpoint to a running machine", why_not=_CREATES),
    Doubt("D-21", "Copying the file of a running machine", why_not=_CREATES),
    Doubt("D-22", "The form of IncludedDisks", _included_disks),
    Doubt("D-23", "Cancelling a planned failover", why_not=_TWO_HOSTS),
    Doubt("D-24", "The machine of a test failover", _test_replicas),
    Doubt("D-25", "The export lock trap with storage copied", why_not=_CREATES),
    Doubt("D-26", "Associators of a job over WS-Management", _job_associators),
    Doubt("W-1", "Form of an object-typed parameter", why_not=_CREATES),
    Doubt("W-2", "Whether filters work on root/virtualization/v2", _filters),
    Doubt("W-3", "Quotes and CDATA ends in CIM-XML values", why_not=_CREATES),
    Doubt("W-4", "Object paths in export settings", why_not=_CREATES),
    Doubt("W-5", "Items of an enumeration of objects and addresses", _object_and_epr),
    Doubt("W-6", "A provider whose call was timed out", why_not=_CREATES),
    Doubt("W-7", "Jobs after a restart of the management service", why_not=_CREATES),
    Doubt("W-8", "Encoding of an answer to a UTF-16 request", why_not=_CLIENT),
    Doubt("W-9", "TLS 1.3 with channel binding and NTLM", why_not=_CLIENT),
    Doubt("W-10", "What this account may read", _rights),
    Doubt("F-1", "Registering, starting and deleting tasks", why_not=_CREATES),
    Doubt("F-2", "Form of an object out parameter", why_not=_CREATES),
    Doubt("F-3", "Widths of integers of the task classes", why_not="answers carry no types"),
    Doubt("F-4", "Selectors of firewall rules", _firewall_selectors),
    Doubt("F-5", "Private properties of cluster resources", _cluster_filter),
    Doubt("F-6", "Cluster shared volumes in Win32_Volume", _csv_states),
    Doubt("F-7", "Answer for a namespace that is missing", _missing_namespace),
    Doubt("F-8", "Event log subscriptions by a plain client", why_not=_CLIENT),
    Doubt("F-9", "Names of LogonType values", why_not="answers carry no names"),
    Doubt("F-10", "Time limit of copying by CIM_DataFile", why_not=_CREATES),
)
