# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as a replica server: settings, listeners, and from whom it takes machines (operations 7.2)."""
from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from simulator.cim.errors import ProviderRefusal, SimulatorGap
from simulator.cim.model import CimValue, Instance
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.hyperv import ids
from simulator.hyperv.jobs import JobFailure
from simulator.hyperv.replica.common import (
    FAILED,
    INVALID_PARAMETER,
    SERVER_SETTINGS_JOB,
    embedded,
    require_administrator,
    start,
)
from simulator.hyperv.spec import AuthorizationSpec
from simulator.windows.errors import Win32Error

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV

KERBEROS, CERTIFICATE, BOTH = 1, 2, 3
_ALREADY_EXISTS, _NOT_FOUND = 0x800700B7, 0x80070490
_SERVER_NAME = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\*")
_LOCAL_OR_UNC = re.compile(r"[A-Za-z]:\\|\\\\[^\\]+\\[^\\]+")
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class ServerSettings:
    """Msvm_ReplicationServiceSettingData."""

    enabled: bool = False
    authentication: int = 0
    http_port: int = 80
    https_port: int = 443
    thumbprint: str = ""
    monitoring_interval: int = 43200
    monitoring_start: timedelta = timedelta(hours=9)

    @property
    def kerberos(self) -> bool:
        """Whether it listens on the HTTP port."""
        return self.enabled and self.authentication in (KERBEROS, BOTH)

    @property
    def certificates(self) -> bool:
        """Whether it listens on the HTTPS port."""
        return self.enabled and self.authentication in (CERTIFICATE, BOTH)


@dataclass
class Authorization:
    """One entry: machines of ``primary`` (FQDN, ``*.domain`` or ``*``) are kept in ``storage``."""

    primary: str
    storage: str
    trust_group: str

    def fits(self, fqdn: str) -> bool:
        """Whether a primary server is meant."""
        wanted = self.primary.lower()
        return wanted in ("*", fqdn.lower()) or (wanted.startswith("*.") and fqdn.lower().endswith(wanted[1:]))


class ReplicaServer:
    """The replica server of one host."""

    def __init__(self, role: HyperV) -> None:
        self._role = role
        spec = role.settings.replica
        thumbprint = role.host.certificates.by_key(spec.certificate).thumbprint if spec.certificate else ""
        self.settings = ServerSettings(spec.enabled, spec.authentication, spec.http_port, spec.https_port, thumbprint)
        self.ports_taken: set[int] = set(spec.ports_taken)
        """Ports that another program listens on."""
        self.entries: dict[str, Authorization] = {}
        """By the primary in lower case."""
        for entry in spec.authorizations:
            self._put(entry)

    def _put(self, entry: AuthorizationSpec) -> None:
        self.entries[entry.primary.lower()] = Authorization(entry.primary, entry.storage, entry.trust_group)

    # -- state -----------------------------------------------------------------------------------------------------

    @property
    def instance_id(self) -> str:
        """InstanceID of the settings."""
        return ids.settings_id(ids.derive(self._role.name, "replication service"))

    def listens(self, port: int) -> bool:
        """Whether one of its listeners runs on a port."""
        settings = self.settings
        return ((settings.kerberos and port == settings.http_port and port not in self.ports_taken)
                or (settings.certificates and port == settings.https_port and self._https_problem() is None))

    @property
    def operational(self) -> bool:
        """Whether every listener that it should have runs (OperationalStatus 2, else 6)."""
        settings = self.settings
        return not ((settings.kerberos and settings.http_port in self.ports_taken)
                    or (settings.certificates and self._https_problem() is not None))

    def _https_problem(self) -> str | None:
        if self.settings.https_port in self.ports_taken:
            return "port"
        return None if self._certificate_problem(self.settings.thumbprint) is None else "certificate"

    def _certificate_problem(self, thumbprint: str) -> int | None:
        return self._role.host.certificates.problem(thumbprint, self._role.clock.now())

    def entry_for(self, fqdn: str) -> Authorization | None:
        """The entry that lets a primary server in: its own name before the longest pattern before everybody."""
        fitting = [entry for entry in self.entries.values() if entry.fits(fqdn)]
        return max(fitting, key=lambda e: (not e.primary.startswith("*"), len(e.primary)), default=None)

    # -- methods ---------------------------------------------------------------------------------------------------

    def modify_settings(self, call: Invocation) -> MethodOutcome:
        """Change what is given; what is left out stays. 32773 for values that no server can have."""
        require_administrator(call)
        given = embedded(self._role, call, "SettingData", "Msvm_ReplicationServiceSettingData")
        self._refuse_cluster()
        if str(given["InstanceID"] or "").lower() != self.instance_id.lower():
            raise ProviderRefusal(INVALID_PARAMETER, "no such settings")
        wanted = _changed(self.settings, given)
        _check(wanted)

        def change() -> None:
            if wanted.certificates:
                problem = self._certificate_problem(wanted.thumbprint)
                if problem is not None and self._role.replica.knobs.refuses_bad_certificate:
                    raise JobFailure(FAILED, "The certificate cannot be used by the Replica server.", hresult=problem)
            self.settings = wanted

        return self._carry_out(call, change)

    def _refuse_cluster(self) -> None:
        if self._role.cluster is not None:
            raise SimulatorGap("the Hyper-V Replica Broker of a cluster is not simulated")

    def _carry_out(self, call: Invocation, change: Callable[[], None]) -> MethodOutcome:
        by_job = self._role.replica.knobs.server_settings_by_job
        if by_job is None:
            by_job = self._role.os_version not in ("2012R2", "2016")
        if by_job:
            return start(self._role, call, SERVER_SETTINGS_JOB, change)
        try:
            change()
        except JobFailure as failure:
            return {"ReturnValue": failure.error_code}
        self._role.host.note_change(call.method)
        return {"ReturnValue": 0}

    def get_certificates(self, call: Invocation) -> MethodOutcome:
        """The certificates of the computer, each as the base64 text of its DER form."""
        require_administrator(call)
        found = self._role.host.certificates.all()
        if not self._role.replica.knobs.offers_unsuitable_certificates:
            found = [one for one in found if self._certificate_problem(one.thumbprint) is None]
        texts: list[CimValue] = [base64.b64encode(one.der).decode("ascii") for one in found]
        return {"EncodedCertificates": texts, "ReturnValue": 0}

    def add_entry(self, call: Invocation) -> MethodOutcome:
        """One more primary server is let in. The job fails when it is already, or when the volume does not exist."""
        entry = self._entry(call)

        def add() -> None:
            if entry.primary.lower() in self.entries:
                raise JobFailure(FAILED, "An authorization entry for this server exists.", hresult=_ALREADY_EXISTS)
            self._check_storage(entry.storage)
            self.entries[entry.primary.lower()] = entry

        return self._carry_out(call, add)

    def modify_entry(self, call: Invocation) -> MethodOutcome:
        """Another folder or trust group for a primary server; 32773 when it has no entry."""
        entry = self._entry(call, of=self.entries)

        def modify() -> None:
            self._check_storage(entry.storage)
            if entry.primary.lower() not in self.entries:
                raise JobFailure(FAILED, "The authorization entry does not exist any more.", hresult=_NOT_FOUND)
            self.entries[entry.primary.lower()] = entry

        return self._carry_out(call, modify)

    def remove_entry(self, call: Invocation) -> MethodOutcome:
        """A primary server is not let in any more; 32773 when it was not. Its replicas stay."""
        require_administrator(call)
        self._refuse_cluster()
        name = call["AllowedPrimaryHostSystem"]
        if not isinstance(name, str) or name.lower() not in self.entries:
            raise ProviderRefusal(INVALID_PARAMETER, f"no entry for {name!r}")

        def remove() -> None:
            self.entries.pop(name.lower(), None)

        return self._carry_out(call, remove)

    def _entry(self, call: Invocation, of: Mapping[str, Authorization] | None = None) -> Authorization:
        """The entry in a parameter; with ``of`` it is one of these and may leave out what is not to be changed."""
        require_administrator(call)
        self._refuse_cluster()
        given = embedded(self._role, call, "AuthorizationEntry", "Msvm_ReplicationAuthorizationSettingData")
        primary = str(given["AllowedPrimaryHostSystem"] or "")
        known = None if of is None else of.get(primary.lower())
        if not _SERVER_NAME.fullmatch(primary) or (of is not None and known is None):
            raise ProviderRefusal(INVALID_PARAMETER, f"AllowedPrimaryHostSystem {primary!r}")
        storage = given["ReplicaStorageLocation"] or (known.storage if known else None)
        group = given["TrustGroup"] or (known.trust_group if known else None)
        if not isinstance(storage, str) or not _LOCAL_OR_UNC.match(storage) or not isinstance(group, str):
            raise ProviderRefusal(INVALID_PARAMETER, "ReplicaStorageLocation is an absolute path and TrustGroup a name")
        return Authorization(known.primary if known else primary, storage, group)

    def _check_storage(self, path: str) -> None:
        try:
            with self._role.disks.working():
                self._role.disks.place(path)
        except Win32Error as error:
            raise JobFailure(FAILED, f"The storage location '{path}' cannot be used.", hresult=0x80070000 | error.code) from error


def not_supported(call: Invocation) -> MethodOutcome:
    """The service is not started and stopped this way."""
    del call
    return {"ReturnValue": 1}


_FIELDS = {"RecoveryServerEnabled": "enabled", "AllowedAuthenticationType": "authentication", "HttpPort": "http_port",
           "HttpsPort": "https_port", "CertificateThumbPrint": "thumbprint", "MonitoringInterval": "monitoring_interval",
           "MonitoringStartTime": "monitoring_start"}


def _changed(settings: ServerSettings, given: Instance) -> ServerSettings:
    changes = {field: given.values[name] for name, field in _FIELDS.items() if given.values.get(name) is not None}
    return replace(settings, **changes)  # type: ignore[arg-type]


def _check(wanted: ServerSettings) -> None:
    problems = [
        not 3600 <= wanted.monitoring_interval <= 604800,
        not isinstance(wanted.monitoring_start, timedelta) or not timedelta(0) <= wanted.monitoring_start < _DAY,
        wanted.authentication not in (0, KERBEROS, CERTIFICATE, BOTH),
        wanted.enabled and wanted.authentication == 0,
        wanted.certificates and not wanted.thumbprint,
        wanted.http_port < 1 or wanted.https_port < 1,
        wanted.authentication == BOTH and wanted.http_port == wanted.https_port,
    ]
    if any(problems):
        raise ProviderRefusal(INVALID_PARAMETER, "these settings are no settings of a Replica server")
