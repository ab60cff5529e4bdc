# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As whom a task runs: the account of its principal, its password, and the token it gets (windows facts 1, wire 7.3)."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from simulator.cim.model import Account, Caller
from simulator.directory import is_administrator
from simulator.windows import identity
from simulator.windows.scheduler import codes
from simulator.windows.scheduler.codes import TaskError
from simulator.windows.scheduler.definition import Principal

Logon = Literal["service", "password", "s4u", "interactive", "group"]

SYSTEM = Account("SYSTEM", "", domain="NT AUTHORITY")
_SERVICES = {"s-1-5-18": "SYSTEM", "system": "SYSTEM", "nt authority\\system": "SYSTEM", "localsystem": "SYSTEM",
             "s-1-5-19": "LOCAL SERVICE", "local service": "LOCAL SERVICE", "nt authority\\local service": "LOCAL SERVICE",
             "nt authority\\localservice": "LOCAL SERVICE", "s-1-5-20": "NETWORK SERVICE", "network service": "NETWORK SERVICE",
             "nt authority\\network service": "NETWORK SERVICE", "nt authority\\networkservice": "NETWORK SERVICE"}
_BATCH_GROUPS = frozenset({"administrators", "domain admins", "backup operators", "performance log users"})
"""Who has the right to log on as a batch job unless a policy says otherwise."""
_LOGONS: dict[str | None, Logon] = {"S4U": "s4u", "Password": "password"}


class Accounts(Protocol):
    """The accounts that the host knows: :class:`simulator.directory.AccountDirectory`."""

    host_name: str
    accounts: list[Account]

    def authenticate_password(self, user: str, password: str) -> Account | None:
        """The account whose name and password fit."""

    def account(self, user: str, domain: str | None) -> Account | None:
        """An account by name."""


@dataclass(frozen=True)
class RunAs:
    """The account of a registered task. ``password`` is stored by the service; it is never shown again."""

    name: str
    """As the task's Principal shows it: ``SYSTEM``, ``DOMAIN\\name`` or ``HOST\\name``."""
    logon: Logon
    account: Account | None = None
    password: str | None = None
    highest: bool = False

    def __repr__(self) -> str:
        return f"RunAs({self.name!r}, {self.logon!r})"


def may_log_on_as_batch(account: Account) -> bool:
    """Whether the account has the right to log on as a batch job."""
    if account.batch_logon is not None:
        return account.batch_logon
    return account.builtin_administrator or any(group.lower() in _BATCH_GROUPS for group in account.groups)


def resolve(principal: Principal | None, user: str | None, password: str | None, caller: Caller, accounts: Accounts) -> RunAs:
    """Who a new task runs as; ``user`` and ``password`` are parameters of the registration and win over the XML.

    Without any of them it is the caller, when logged on. TaskError NONE_MAPPED for an unknown account, LOGON_FAILURE for a wrong or
    missing password. That a missing password is a failed log-on is general knowledge.
    """
    highest = principal is not None and principal.highest
    if user is None and principal is not None and principal.group is not None:
        return RunAs(principal.group, "group", highest=highest)
    text = user if user is not None else principal.user if principal is not None else None
    service = _SERVICES.get(text.lower()) if text is not None else None
    if service is not None:
        return RunAs(service, "service", SYSTEM if service == "SYSTEM" else None, highest=True)
    account = caller.account if text is None else _find(text, accounts)
    if account is None:
        raise TaskError(codes.NONE_MAPPED, f"UserId:{text}")
    name = f"{account.domain or accounts.host_name}\\{account.name}"
    wanted = principal.logon_type if principal is not None else None
    logon = "password" if password is not None and wanted != "S4U" else _LOGONS.get(wanted, "interactive")
    if logon == "password" and (password is None or accounts.authenticate_password(name, password) is not account):
        raise TaskError(codes.LOGON_FAILURE, name)
    return RunAs(name, logon, account, password if logon == "password" else None, highest)


def _find(text: str, accounts: Accounts) -> Account | None:
    if text.upper().startswith("S-1-"):
        return next((account for account in accounts.accounts
                     if identity.account_sid(account, accounts.host_name) == text.upper()), None)
    domain, separator, name = text.rpartition("\\")
    if not separator and "@" in text:
        name, _unused, domain = text.rpartition("@")
    return accounts.account(name, domain or None)


def log_on(run_as: RunAs, accounts: Accounts) -> Caller:
    """The token of a run, with the account's credentials for other machines only where a password is stored (wire 7.3).

    TaskError LOGON_FAILURE when the password was changed since, LOGON_TYPE_NOT_GRANTED without the right to log on as a batch job.
    The caller has made sure that the kind of log-on is simulated.
    """
    account = run_as.account
    assert account is not None
    if run_as.logon == "service":
        return Caller(account, "system", True)
    if run_as.password is not None and accounts.authenticate_password(run_as.name, run_as.password) is not account:
        raise TaskError(codes.LOGON_FAILURE, run_as.name)
    if not may_log_on_as_batch(account):
        raise TaskError(codes.LOGON_TYPE_NOT_GRANTED, run_as.name)
    elevated = is_administrator(account) and (run_as.highest or account.builtin_administrator)
    return Caller(account, "batch", elevated, delegated=run_as.logon == "password")
