# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names on the wire: XML namespaces (wire 0.3), actions (wire 1.3), filter dialects (wire 2.4), resource URIs (wire 1.1)."""
from __future__ import annotations

from typing import Final

S: Final = "http://www.w3.org/2003/05/soap-envelope"
A: Final = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
W: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
N: Final = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
X: Final = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
B: Final = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd"
CIM: Final = "http://schemas.dmtf.org/wbem/wscim/1/common"
XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"
F: Final = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
RSP: Final = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
M: Final = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
CFG: Final = "http://schemas.microsoft.com/wbem/wsman/1/config"
WSMID: Final = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
XML: Final = "http://www.w3.org/XML/1998/namespace"

ANONYMOUS: Final = A + "/role/anonymous"
CLASS_PREFIX: Final = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
SHELL_CMD: Final = RSP + "/cmd"

GET: Final = X + "/Get"
PUT: Final = X + "/Put"
CREATE: Final = X + "/Create"
DELETE: Final = X + "/Delete"
ENUMERATE: Final = N + "/Enumerate"
PULL: Final = N + "/Pull"
RELEASE: Final = N + "/Release"
SHELL_COMMAND: Final = RSP + "/Command"
SHELL_SEND: Final = RSP + "/Send"
SHELL_RECEIVE: Final = RSP + "/Receive"
SHELL_SIGNAL: Final = RSP + "/Signal"

WQL: Final = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
ASSOCIATION_FILTER: Final = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter"
SELECTOR_FILTER: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter"

FAULT_DETAIL: Final = "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/"


def tag(namespace: str, name: str) -> str:
    """The name of an element as ElementTree writes it."""
    return f"{{{namespace}}}{name}"


def local_name(element_tag: str) -> str:
    """The name of an element or attribute without its namespace."""
    return element_tag.rpartition("}")[2]
