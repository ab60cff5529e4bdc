# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The WinRM service of a host as it describes itself (wire 1.1 and 2.7): quotas, log-on schemes, plain messages."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import xml

RESOURCE = "http://schemas.microsoft.com/wbem/wsman/1/config"
_SCHEMES = ("Basic", "Kerberos", "Negotiate", "Certificate", "CredSSP")


@dataclass(frozen=True)
class WinrmConfig:
    """``quotas`` by their names in ``winrm get winrm/config``, as far as the host told them. What it did not tell of the rest is None."""

    quotas: Mapping[str, int]
    schemes: tuple[str, ...]
    allow_unencrypted: bool | None
    allow_remote_shell: bool | None


def read_config(reader: CimReader) -> WinrmConfig:
    """One request, for administrators only. Raises AccessDenied."""
    return from_element(reader.session.get(RESOURCE, {}))


def from_element(config: Element) -> WinrmConfig:
    """The configuration out of the element ``Config``; only what stands where it belongs counts."""
    service, winrs = xml.child(config, "Service"), xml.child(config, "Winrs")
    auth = None if service is None else xml.child(service, "Auth")
    quotas: dict[str, int] = {}
    for part in (config, service, winrs):
        for node in () if part is None else part:
            name, text = xml.local_name(node.tag), (node.text or "").strip()
            if text.isascii() and text.isdigit() and len(text) < 12:
                quotas[name] = int(text)
    return WinrmConfig(quotas, tuple(name for name in _SCHEMES if _flag(auth, name)), _flag(service, "AllowUnencrypted"),
                       _flag(winrs, "AllowRemoteShellAccess"))


def _flag(node: Element | None, name: str) -> bool | None:
    text = None if node is None else xml.child_text(node, name)
    return {"true": True, "false": False}.get((text or "").strip().lower())
