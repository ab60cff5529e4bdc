# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration resource of the service (wire 2.7)."""
from __future__ import annotations

from simulator.cim.xmltext import attribute
from simulator.spec import Limits, ListenerSpec

from . import names


def format_config(limits: Limits, listener: ListenerSpec, locale: str) -> str:
    """The ``cfg:Config`` element, in the order in which ``winrm get winrm/config`` shows it."""
    schemes = set(listener.schemes)
    auth = _fields({"Basic": "Basic" in schemes, "Kerberos": "Kerberos" in schemes, "Negotiate": "Negotiate" in schemes,
                    "Certificate": "Certificate" in schemes, "CredSSP": "CredSSP" in schemes,
                    "CbtHardeningLevel": listener.cbt_hardening})
    ports = _fields({"HTTP": 5985, "HTTPS": 5986})
    client = _fields({"NetworkDelayms": 5000, "URLPrefix": "wsman", "AllowUnencrypted": False}) + _element("DefaultPorts", ports)
    service = _fields({
        "MaxConcurrentOperations": 4294967295, "MaxConcurrentOperationsPerUser": limits.max_operations_per_user,
        "EnumerationTimeoutms": limits.enumeration_timeout_ms, "MaxConnections": limits.max_connections,
        "MaxPacketRetrievalTimeSeconds": limits.max_packet_retrieval_seconds, "AllowUnencrypted": listener.allow_unencrypted,
    }) + _element("Auth", auth) + _element("DefaultPorts", ports) + _fields({"AllowRemoteAccess": True})
    winrs = _fields({
        "AllowRemoteShellAccess": limits.allow_remote_shell_access, "IdleTimeout": limits.shell_idle_timeout_ms,
        "MaxConcurrentUsers": limits.max_concurrent_users, "MaxShellRunTime": 2147483647,
        "MaxProcessesPerShell": limits.max_processes_per_shell, "MaxMemoryPerShellMB": limits.max_memory_per_shell_mb,
        "MaxShellsPerUser": limits.max_shells_per_user})
    top = _fields({"MaxEnvelopeSizekb": limits.max_envelope_kb, "MaxTimeoutms": limits.max_timeout_ms,
                   "MaxBatchItems": limits.max_batch_items, "MaxProviderRequests": 4294967295})
    inner = top + _element("Client", client) + _element("Service", service) + _element("Winrs", winrs)
    return f"<cfg:Config xmlns:cfg={attribute(names.CFG)} xml:lang={attribute(locale)}>{inner}</cfg:Config>"


def _element(name: str, inner: str) -> str:
    return f"<cfg:{name}>{inner}</cfg:{name}>"


def _fields(values: dict[str, bool | int | str]) -> str:
    return "".join(_element(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in values.items())
