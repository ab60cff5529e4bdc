# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the repository holds: instances with typed values, references, callers and errors."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias, Union

CimValue: TypeAlias = Union[bool, int, float, str, datetime, timedelta, "Ref", "Instance", list["CimValue"], None]


@dataclass(frozen=True)
class Ref:
    """A reference to one instance. ``namespace`` with ``/``; keys as text, compared without case."""

    namespace: str
    class_name: str
    keys: Mapping[str, str] = field(default_factory=dict)

    def identity(self) -> tuple[str, str, tuple[tuple[str, str], ...]]:
        """A comparable form."""
        keys = tuple(sorted((k.lower(), str(v).lower()) for k, v in self.keys.items()))
        return self.namespace.lower(), self.class_name.lower(), keys

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and self.identity() == other.identity()

    def __hash__(self) -> int:
        return hash(self.identity())


@dataclass
class Instance:
    """An instance of a class of the schema; a property that is not in ``values`` is null."""

    namespace: str
    class_name: str
    values: dict[str, CimValue] = field(default_factory=dict)

    def __getitem__(self, name: str) -> CimValue:
        return self.values.get(name)


@dataclass(frozen=True)
class Account:
    """An account of the host or its domain. ``groups`` holds the well-known English names used by the rights rules."""

    name: str
    password: str = field(repr=False)
    domain: str | None = None
    groups: frozenset[str] = frozenset()
    builtin_administrator: bool = False
    certificate_subject: str | None = None
    batch_logon: bool | None = None
    """Whether a policy grants or denies the right to log on as a batch job; None: as its groups have it."""

    @property
    def display(self) -> str:
        """``DOMAIN\\name`` or ``name``."""
        return f"{self.domain}\\{self.name}" if self.domain else self.name


@dataclass(frozen=True)
class Caller:
    """Who asks, as the operating system sees it after log-on (UAC filtering already applied)."""

    account: Account
    scheme: str
    """One of basic, ntlm, kerberos, credssp, certificate, system."""
    elevated: bool
    """True when the token holds the Administrators group."""
    delegated: bool = False
    """True when the log-on can reach a third machine (credssp, delegated kerberos)."""

    @property
    def is_administrator(self) -> bool:
        """Full local rights."""
        return self.elevated

    @property
    def is_hyperv_administrator(self) -> bool:
        """May see and manage virtual machines (operations 1.7)."""
        return self.elevated or "Hyper-V Administrators" in self.account.groups

    @property
    def may_use_winrm(self) -> bool:
        """Passes the RootSDDL of the service (wire 6.1)."""
        return self.elevated or "Remote Management Users" in self.account.groups


class CimError(Exception):
    """A refusal of the repository or a provider; the SOAP layer turns it into the fault that Windows sends.

    ``kind`` is one of: access_denied, invalid_namespace, invalid_class, not_found, unexpected_selectors, insufficient_selectors,
    invalid_selectors, invalid_query, cannot_process_filter, schema_validation, method_not_found, invalid_parameter,
    not_supported, failed. ``hresult`` is the provider's own code (WBEM_E_* or HRESULT) where there is one.
    """

    def __init__(self, kind: str, message: str, *, hresult: int | None = None, provider: str | None = None,
                 details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hresult = hresult
        self.provider = provider
        self.details = dict(details or {})
