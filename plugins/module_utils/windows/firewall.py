# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewall rules of the replica listeners: the in-box ones by their internal name, and one of ours for any other port (windows 2)."""
from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command

NAMESPACE = "root/StandardCimv2"
CLASS = "MSFT_NetFirewallRule"
_KEYS = ("CreationClassName", "PolicyRuleName", "SystemCreationClassName", "SystemName")
_ENABLED, _INBOUND, _ALLOW = 1, 1, 2
_NETSH = "%SystemRoot%\\System32\\netsh.exe advfirewall firewall "
_ADD = Command(f'{_NETSH}add rule name="%AGH_RULE%" dir=in action=allow protocol=TCP localport="%AGH_PORT%"')
_DELETE = Command(f'{_NETSH}delete rule name="%AGH_RULE%"')
_TIME = 60.0


@dataclass(frozen=True)
class Rule:
    """One rule of the local store. ``lets_in``: it is enabled, inbound and allows."""

    reference: Reference
    instance_id: str
    lets_in: bool


def our_name(port: int) -> str:
    """The name of our rule for a port: it is our mark, and it is in nobody's language."""
    return f"agentless.hyperv replica listener TCP {port}"


def _rule(row: Instance) -> Rule:
    reference = Reference(NAMESPACE, CLASS, {name: row.text(name) or "" for name in _KEYS})
    return Rule(reference, row.text("InstanceID") or "", row.integer("Enabled") == _ENABLED and row.integer("Direction") == _INBOUND
                and row.integer("Action") == _ALLOW)


def read_rule(reader: CimReader, instance_id: str) -> Rule | None:
    """The rule of an internal name; one request. Never by display name: that is in the host's language (windows 2)."""
    rows = reader.query(wql.select(NAMESPACE, CLASS, {"InstanceID": instance_id}))
    return _rule(rows[0]) if rows else None


def read_ours(reader: CimReader, port: int) -> Rule | None:
    """Our rule for a port; one request."""
    rows = reader.query(wql.select(NAMESPACE, CLASS, {"DisplayName": our_name(port)}))
    return _rule(rows[0]) if rows else None


def enable(writer: CimWriter, rule: Rule) -> None:
    """Enable a rule. Doing it twice does no harm. Raises AccessDenied, HypervError ``firewall_refused``."""
    answer = writer.invoke(rule.reference, "Enable", {})
    if answer.return_value == 5:
        raise AccessDenied(f"The account may not enable the firewall rule {rule.instance_id}.", return_value=5)
    if answer.return_value not in (0, None):
        raise HypervError(f"The firewall rule {rule.instance_id} could not be enabled (code {answer.return_value}).",
                          error_code="firewall_refused", return_value=answer.return_value,
                          hint="A rule that group policy sets cannot be changed on the host.")


def add_ours(writer: CimWriter, port: int) -> None:
    """Make our rule for a port. Raises HypervError ``firewall_refused``."""
    _netsh(writer, _ADD, port, "made")


def remove_ours(writer: CimWriter, port: int) -> None:
    """Remove our rule for a port. Raises HypervError ``firewall_refused``."""
    _netsh(writer, _DELETE, port, "removed")


def _netsh(writer: CimWriter, command: Command, port: int, what: str) -> None:
    with programs.writing_programs(writer, {"RULE": our_name(port), "PORT": str(port)}) as shell:
        result = shell.run(command, timeout=_TIME)
    if result.exit_code != 0:
        raise HypervError(f"The firewall rule {our_name(port)!r} could not be {what}: {programs.said(result)}",
                          error_code="firewall_refused", hint="Is the service of the Windows firewall running?")
