# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small helpers of the providers of root/cimv2."""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from simulator.cim.model import Caller, CimError, CimValue, Instance, Ref

NAMESPACE = "root/cimv2"
WBEM_E_ACCESS_DENIED = 0x80041003
WBEM_E_FAILED = 0x80041001


def instance(class_name: str, **values: CimValue) -> Instance:
    """An instance of this namespace; what is None is left out."""
    return Instance(NAMESPACE, class_name, {name: value for name, value in values.items() if value is not None})


def ref(class_name: str, **keys: str) -> Ref:
    """A reference within this namespace."""
    return Ref(NAMESPACE, class_name, keys)


def require_administrator(caller: Caller) -> None:
    """Shadow copies and volumes are the business of administrators."""
    if not (caller.is_administrator or caller.scheme == "system"):
        raise CimError("access_denied", "Access denied", hresult=WBEM_E_ACCESS_DENIED)


@dataclass
class Listed:
    """A provider that only lists; ``source`` gets the caller."""

    source: Callable[[Caller], Iterable[Instance]]

    def instances(self, caller: Caller) -> Iterable[Instance]:
        """All of them."""
        return self.source(caller)
