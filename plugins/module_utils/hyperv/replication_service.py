# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls of ``Msvm_ReplicationService`` and the state request of a VM: what they need, and what their codes mean (operations 7)."""
from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import facts
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter, MethodResult
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import EmbeddedText, Parameter, PropertyValue, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE

SERVICE = Reference(NAMESPACE, "Msvm_ReplicationService", {"CreationClassName": "Msvm_ReplicationService"})
RELATION, SETTINGS = "Msvm_ReplicationRelationship", "Msvm_ReplicationSettingData"
SERVER_SETTINGS, AUTHORIZATION = "Msvm_ReplicationServiceSettingData", "Msvm_ReplicationAuthorizationSettingData"

CANCEL_COPY, RESUME, PREPARE_FAILOVER, PAUSE = 1, 3, 4, 7
"""What a state request may ask for (operations 7.4)."""
NETWORK, MEDIA, EXISTING = 1, 2, 3
"""How the first copy is made."""

INVALID_STATE = 32775
_ACCESS_DENIED, _NOT_FOUND = 32769, 32779


class StateRefused(HypervError):
    """The relation, or its machine, is not in a state in which the host does this."""

    error_code = "replication_state_refused"


def begin(writer: CimWriter, method: str, parameters: Mapping[str, Parameter], what: str, *,
          target: Reference = SERVICE) -> Reference | None:
    """Call a method; the job that it started, None when it was done at once.

    Raises StateRefused, AccessDenied, OutcomeUnknown, HypervError ``replication_refused``.
    """
    return started(writer.invoke(target, method, parameters), method, what)


def started(answer: MethodResult, method: str, what: str) -> Reference | None:
    """The job of an answer. Raises as :func:`begin`."""
    code = answer.return_value
    if code == 0:
        return None
    if code == jobs.STARTED:
        job = answer.out.reference("Job")
        if job is None:
            raise OutcomeUnknown(f"The host started a job for {method} and did not say which.")
        return job
    if code == INVALID_STATE:
        raise StateRefused(f"{what} was refused: the relation or its virtual machine is not in a state for it (code {code}).",
                           return_value=code, hint="Look with hyperv_replica_info on both hosts.")
    if code == _ACCESS_DENIED:
        raise AccessDenied(f"{what}: the account may not do this (code {code}).", return_value=code)
    reason = "what it needs is not there" if code == _NOT_FOUND else "the host gives no reason"
    raise HypervError(f"{what} was refused: {reason} (code {code}).", error_code="replication_refused", return_value=code,
                      hint="The Hyper-V VMMS event log of the host tells more.")


# -- the server ----------------------------------------------------------------------------------------------------------


def modify_server(writer: CimWriter, instance_id: str, values: Mapping[str, PropertyValue]) -> Reference | None:
    """Change settings of the replica server. Raises as :func:`begin`."""
    changed = facts.embedded(SERVER_SETTINGS, {"InstanceID": instance_id, **values})
    return begin(writer, "ModifyServiceSettings", {"SettingData": changed}, "The change of the replica server's settings")


def add_authorization(writer: CimWriter, primary: str, storage: str, trust_group: str) -> Reference | None:
    """Let a primary server, ``*.domain`` or ``*`` send replicas into a folder. Raises as :func:`begin`."""
    entry = facts.embedded(AUTHORIZATION, {"AllowedPrimaryHostSystem": primary, "ReplicaStorageLocation": storage,
                                           "TrustGroup": trust_group})
    return begin(writer, "AddAuthorizationEntry", {"AuthorizationEntry": entry}, f"Authorising {primary!r}")


def modify_authorization(writer: CimWriter, instance_id: str, primary: str, values: Mapping[str, PropertyValue]) -> Reference | None:
    """Change an entry. Raises as :func:`begin`."""
    entry = facts.embedded(AUTHORIZATION, {"InstanceID": instance_id, "AllowedPrimaryHostSystem": primary, **values})
    return begin(writer, "ModifyAuthorizationEntry", {"AuthorizationEntry": entry}, f"Changing the authorisation of {primary!r}")


def remove_authorization(writer: CimWriter, primary: str) -> Reference | None:
    """Take an entry away. Raises as :func:`begin`."""
    return begin(writer, "RemoveAuthorizationEntry", {"AllowedPrimaryHostSystem": primary}, f"Removing the authorisation of {primary!r}")


def system_certificates(reader: CimReader) -> tuple[str, ...]:
    """The certificates that the host offers for replication, base64. Raises HypervError ``replication_refused``."""
    answer = reader.ask(SERVICE, "GetSystemCertificates", {})
    if answer.return_value != 0:
        raise HypervError(f"The host does not list its certificates (code {answer.return_value}).", error_code="replication_refused",
                          return_value=answer.return_value)
    return answer.out.texts("EncodedCertificates")


def test_connection(reader: CimReader, server: str, port: int, authentication: int, thumbprint: str | None,
                    bypass_proxy: bool) -> Reference | None:
    """Ask the host to reach a replica server; the job, None when it did at once. Raises as :func:`begin`."""
    answer = reader.ask(SERVICE, "TestReplicationConnection", {
        "RecoveryConnectionPoint": server, "RecoveryServerPortNumber": port, "AuthenticationType": authentication,
        "CertificateThumbPrint": thumbprint or "", "BypassProxyServer": bypass_proxy})
    return started(answer, "TestReplicationConnection", f"The test of the connection to {server}:{port}")


# -- relations -----------------------------------------------------------------------------------------------------------


def relation_text(instance_id: str) -> EmbeddedText:
    """A relation as a parameter: its key is enough (wire 3.3)."""
    return facts.embedded(RELATION, {"InstanceID": instance_id})


def create_relation(writer: CimWriter, machine: Reference, settings: EmbeddedText) -> Reference | None:
    """Make the relation of a machine; nothing is copied yet. Raises as :func:`begin`."""
    return begin(writer, "CreateReplicationRelationship", {"ComputerSystem": machine, "ReplicationSettingData": settings},
                 "The replication of the virtual machine")


def modify_relation(writer: CimWriter, machine: Reference, settings: EmbeddedText) -> Reference | None:
    """Change the settings of a relation. Raises as :func:`begin`."""
    return begin(writer, "ModifyReplicationSettings", {"ComputerSystem": machine, "ReplicationSettingData": settings},
                 "The change of the replication settings")


def make_replica(writer: CimWriter, machine: Reference, entry_id: str, primary: str) -> Reference | None:
    """Make a machine of this host, a copy that is there already, a replica that waits for its primary. Raises as :func:`begin`."""
    entry = facts.embedded(AUTHORIZATION, {"InstanceID": entry_id, "AllowedPrimaryHostSystem": primary})
    return begin(writer, "SetAuthorizationEntry", {"ComputerSystem": machine, "AuthorizationEntry": entry},
                 "Making the copy that is there a replica")


def start_copy(writer: CimWriter, machine: Reference, how: int, location: str | None, start: datetime | None) -> Reference | None:
    """Begin, or schedule, the first copy. Raises as :func:`begin`."""
    return begin(writer, "StartReplication", {
        "ComputerSystem": machine, "InitialReplicationType": how, "InitialReplicationExportLocation": location, "StartTime": start},
        "The first copy")


def import_copy(writer: CimWriter, machine: Reference, location: str) -> Reference | None:
    """Take in, on the replica server, the first copy that came on media. Raises as :func:`begin`."""
    return begin(writer, "ImportInitialReplica", {"ComputerSystem": machine, "InitialReplicationImportLocation": location},
                 "The import of the first copy")


def request_state(writer: CimWriter, machine: Reference, state: int, what: str) -> Reference | None:
    """Ask the relation of a machine that is not the extended one for another state. Raises as :func:`begin`.

    The method that names a relation came with 2016 only (class schema); this one means the one relation that is asked here, everywhere.
    """
    return begin(writer, "RequestReplicationStateChange", {"RequestedState": state}, what, target=machine)


def resynchronize(writer: CimWriter, machine: Reference, start: datetime | None) -> Reference | None:
    """Compare both sides and send what differs, now or later. Raises as :func:`begin`."""
    return begin(writer, "Resynchronize", {"ComputerSystem": machine, "StartTime": start}, "The resynchronisation")


def remove_relation(writer: CimWriter, machine: Reference, instance_id: str | None) -> Reference | None:
    """End a relation on this host; machine and files stay. Raises as :func:`begin`."""
    if instance_id is None:
        return begin(writer, "RemoveReplicationRelationship", {"ComputerSystem": machine}, "The removal of the replication")
    return begin(writer, "RemoveReplicationRelationshipEx",
                 {"ComputerSystem": machine, "ReplicationRelationship": relation_text(instance_id)}, "The removal of the replication")


# -- failover ------------------------------------------------------------------------------------------------------------


def begin_test(writer: CimWriter, machine: Reference, point: Reference | None) -> Reference | None:
    """Make the test machine of a replica from a recovery point, None for the newest state. Raises as :func:`begin`."""
    return begin(writer, "TestReplicaSystem", {"ComputerSystem": machine, "SnapshotSettingData": point}, "The test failover")


def fail_over(writer: CimWriter, machine: Reference, point: Reference | None) -> Reference | None:
    """Make the replica the machine of a recovery point, None for the newest state. Raises as :func:`begin`."""
    return begin(writer, "InitiateFailover", {"ComputerSystem": machine, "SnapshotSettingData": point}, "The failover")


def commit_failover(writer: CimWriter, machine: Reference) -> Reference | None:
    """Make a failover final: every other recovery point goes. Raises as :func:`begin`."""
    return begin(writer, "CommitFailover", {"ComputerSystem": machine}, "The commit of the failover")


def revert_failover(writer: CimWriter, machine: Reference) -> Reference | None:
    """Take a failover back that is not committed; the machine must be off. Raises as :func:`begin`."""
    return begin(writer, "RevertFailover", {"ComputerSystem": machine}, "Taking the failover back")


def reverse(writer: CimWriter, machine: Reference, settings: EmbeddedText) -> Reference | None:
    """Let a replica that failed over send to the host that was the primary. Raises as :func:`begin`."""
    return begin(writer, "ReverseReplicationRelationship", {"ComputerSystem": machine, "ReplicationSettingData": settings},
                 "The reversal of the replication")
