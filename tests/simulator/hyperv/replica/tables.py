# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The classes of the host as a replica server, and its provider of replication (operations 7.1, 7.2)."""
from __future__ import annotations

from collections.abc import Iterable

from simulator.cim.model import Caller, CimValue
from simulator.hyperv import ids
from simulator.hyperv.provider import Table
from simulator.hyperv.replica.server import Authorization
from simulator.hyperv.services import Service
from simulator.hyperv.texts import text

PROVIDER = "22391CDC-272C-4DDF-BA88-9BEFB1A0975C"
"""Name of the in-box provider (operations 7.1)."""


class ReplicationService(Service):
    """Msvm_ReplicationService: OperationalStatus tells whether the listeners run."""

    def values(self, item: None) -> dict[str, CimValue]:
        """The row."""
        fine = self.role.replica.server.operational
        return super().values(item) | {
            "OperationalStatus": [2 if fine else 6], "StatusDescriptions": [text("ok" if fine else "listener", self.role.locale)]}


class ServerSettingsTable(Table[None]):
    """Msvm_ReplicationServiceSettingData."""

    class_name = "Msvm_ReplicationServiceSettingData"

    def items(self, caller: Caller) -> Iterable[None]:
        """The one instance, for those who may see machines."""
        return (None,) if caller.is_hyperv_administrator else ()

    def values(self, item: None) -> dict[str, CimValue]:
        """The row."""
        server = self.role.replica.server
        settings = server.settings
        return {
            "InstanceID": server.instance_id, "ElementName": "Replication Service Settings", "Caption": "Replication Service Settings",
            "Description": "Settings of the Replica server.", "RecoveryServerEnabled": settings.enabled,
            "AllowedAuthenticationType": settings.authentication, "HttpPort": settings.http_port, "HttpsPort": settings.https_port,
            "CertificateThumbPrint": settings.thumbprint, "MonitoringInterval": settings.monitoring_interval,
            "MonitoringStartTime": settings.monitoring_start,
        }


class AuthorizationTable(Table[Authorization]):
    """Msvm_ReplicationAuthorizationSettingData."""

    class_name = "Msvm_ReplicationAuthorizationSettingData"

    def items(self, caller: Caller) -> Iterable[Authorization]:
        """The entries of the server."""
        return list(self.role.replica.server.entries.values()) if caller.is_hyperv_administrator else ()

    def values(self, item: Authorization) -> dict[str, CimValue]:
        """One row."""
        return {
            "InstanceID": ids.settings_id(ids.derive(self.role.name, "authorization", item.primary.lower())),
            "ElementName": "Replication Authorization Settings", "Caption": "Replication Authorization Settings",
            "AllowedPrimaryHostSystem": item.primary, "ReplicaStorageLocation": item.storage, "TrustGroup": item.trust_group,
        }


class Providers(Table[None]):
    """Msvm_ReplicationProvider: the one that is in the box."""

    class_name = "Msvm_ReplicationProvider"

    def items(self, caller: Caller) -> Iterable[None]:
        """The one instance."""
        return (None,) if caller.is_hyperv_administrator else ()

    def values(self, item: None) -> dict[str, CimValue]:
        """The row."""
        return {"Name": PROVIDER, "InstanceID": PROVIDER, "ElementName": "Microsoft Replication Provider", "OperationalStatus": [2],
                "Caption": "Microsoft Replication Provider", "Status": "OK"}
