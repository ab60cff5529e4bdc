# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading classes that not every Windows has.

A class or namespace that the host lacks is *not available*: a fact, not a failure. Every other error stays an error,
so that a refused account never looks like an empty host (operations 1.7).
"""
from __future__ import annotations

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Instance
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.wql import Wql
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, NotFound

_INVALID_NAMESPACE = 0x8004100E
_INVALID_CLASS = 0x80041010
_CIM_INVALID_NAMESPACE = 3
_CIM_INVALID_CLASS = 5


def says_not_available(error: HypervError) -> bool:
    """True when ``error`` says that the class or the namespace does not exist on this host (wire 5.2, operations 1.6)."""
    provider = getattr(error, "provider_code", None)
    if isinstance(provider, int) and provider & 0xFFFFFFFF in (_INVALID_NAMESPACE, _INVALID_CLASS):
        return True
    if getattr(error, "cim_status", None) in (_CIM_INVALID_NAMESPACE, _CIM_INVALID_CLASS):
        return True
    return isinstance(error, NotFound)


def enumerate_available(reader: CimReader, namespace: str, class_name: str) -> list[Instance] | None:
    """All instances of a class, or None when this host does not have the class."""
    try:
        return reader.enumerate(namespace, class_name)
    except HypervError as error:
        if says_not_available(error):
            return None
        raise


def query_available(reader: CimReader, query: Wql) -> list[Instance] | None:
    """The answer to a query, or None when this host does not have the class."""
    try:
        return reader.query(query)
    except HypervError as error:
        if says_not_available(error):
            return None
        raise
