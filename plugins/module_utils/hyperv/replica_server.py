# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as a replica server: its settings, who may send to it, and whether its listeners run (operations 7.2)."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.rows import OptionValue, Row
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replication_service as service
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE

KERBEROS, CERTIFICATE, BOTH = "kerberos", "certificate", "both"
METHODS: Mapping[int, str] = {1: KERBEROS, 2: CERTIFICATE, 3: BOTH}
ROWS = (
    Row("enabled", "RecoveryServerEnabled", rows.BOOLEAN),
    Row("authentication", "AllowedAuthenticationType", rows.choice(METHODS)),
    Row("http_port", "HttpPort", rows.INTEGER),
    Row("https_port", "HttpsPort", rows.INTEGER),
    Row("certificate_thumbprint", "CertificateThumbPrint", rows.THUMBPRINT),
    Row("monitoring_interval", "MonitoringInterval", rows.INTEGER),
    Row("monitoring_start", "MonitoringStartTime", rows.TIME_OF_DAY),
)
ENTRY_ROWS = (
    Row("storage", "ReplicaStorageLocation", rows.NAME),
    Row("trust_group", "TrustGroup", rows.NAME),
)
_RUNNING = 2


@dataclass(frozen=True)
class Authorization:
    """Who may send replicas, and where they are kept. ``primary`` is the key: a server, ``*.domain`` or ``*``."""

    primary: str
    storage: str
    trust_group: str
    instance_id: str = ""

    @property
    def key(self) -> str:
        """As it is compared."""
        return self.primary.casefold()

    def as_result(self) -> dict[str, str]:
        """The form in a result."""
        return {"primary": self.primary, "storage": self.storage, "trust_group": self.trust_group}

    def admits(self, host: str) -> bool:
        """Whether a primary server of this name may send."""
        if self.key == "*":
            return True
        if self.key.startswith("*."):
            return host.casefold().endswith(self.key[1:])
        return self.key == host.casefold()


@dataclass(frozen=True)
class ServerFacts:
    """What the host has. ``settings``: by option. ``listening``: the service says that its listeners run; None when it says nothing."""

    instance_id: str
    settings: Mapping[str, OptionValue]
    authorizations: tuple[Authorization, ...]
    listening: bool | None

    def entry_for(self, host: str) -> Authorization | None:
        """The entry that lets a primary server send: its own name before the longest pattern before everybody."""
        fitting = [entry for entry in self.authorizations if entry.admits(host)]
        return max(fitting, key=lambda entry: (not entry.key.startswith("*"), len(entry.key)), default=None)


def uses(authentication: OptionValue, method: str) -> bool:
    """Whether a choice of authentication includes a method."""
    return authentication in (method, BOTH)


def authorizations_from_rows(found: Iterable[Instance]) -> tuple[Authorization, ...]:
    """The entries, by their key."""
    entries = [Authorization(row.text("AllowedPrimaryHostSystem") or "", row.text("ReplicaStorageLocation") or "",
                             row.text("TrustGroup") or "", row.text("InstanceID") or "") for row in found]
    return tuple(sorted(entries, key=lambda entry: entry.key))


def read_authorizations(reader: CimReader) -> tuple[Authorization, ...]:
    """Who may send to this host; one request."""
    return authorizations_from_rows(reader.enumerate(NAMESPACE, service.AUTHORIZATION))


def read(reader: CimReader, build: int) -> ServerFacts:
    """Settings, entries and status; three requests. Raises HypervError ``no_replication_service``."""
    settings = reader.enumerate(NAMESPACE, service.SERVER_SETTINGS)
    services = reader.enumerate(NAMESPACE, "Msvm_ReplicationService")
    if not settings or not services:
        raise HypervError("The host has no replication service, or does not show it to this account.", error_code="no_replication_service",
                          hint="It comes with the Hyper-V role; the account must be in 'Administrators' or 'Hyper-V Administrators'.")
    status = services[0].integers("OperationalStatus")
    return ServerFacts(settings[0].required_text("InstanceID"), rows.shown(ROWS, settings[0], build), read_authorizations(reader),
                       status[0] == _RUNNING if status else None)
