# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts that a host knows, and what token a log-on gets (wire 6.1)."""
from __future__ import annotations

from collections.abc import Iterable

from simulator.cim.model import Account, Caller

_ADMINISTRATORS = frozenset({"administrators", "domain admins"})


def is_administrator(account: Account) -> bool:
    """Whether the account belongs to the Administrators of the host, whatever its token says."""
    return account.builtin_administrator or any(group.lower() in _ADMINISTRATORS for group in account.groups)


class AccountDirectory:
    """Implements :class:`simulator.net.contract.Directory` for one host.

    ``token_filter_policy`` is the registry value LocalAccountTokenFilterPolicy: without it a local administrator other than the built-in
    one gets a filtered token over the network.
    """

    def __init__(self, host_name: str, accounts: Iterable[Account], *, token_filter_policy: bool = False) -> None:
        self.host_name = host_name
        self.accounts = list(accounts)
        self.token_filter_policy = token_filter_policy

    def authenticate_password(self, user: str, password: str) -> Account | None:
        """The account whose name and password fit; ``user`` is ``name``, ``DOMAIN\\name``, ``.\\name`` or ``name@realm``."""
        domain, separator, name = user.rpartition("\\")
        if not separator and "@" in user:
            name, _unused, domain = user.rpartition("@")
        account = self.account(name, domain or None)
        return account if account is not None and account.password == password else None

    def account(self, user: str, domain: str | None) -> Account | None:
        """An account by name; without a domain a local one comes first. None when there is none."""
        named = [account for account in self.accounts if account.name.lower() == user.lower()]
        local = [account for account in named if account.domain is None]
        if domain is None or domain == "":
            return next(iter(local + [account for account in named if account.domain is not None]), None)
        if domain.lower() in (".", self.host_name.lower()):
            return next(iter(local), None)
        return next((account for account in named if account.domain is not None and same_domain(account.domain, domain)), None)

    def by_certificate(self, subject: str) -> Account | None:
        """The local account that a client certificate is mapped to."""
        return next((account for account in self.accounts if account.domain is None and account.certificate_subject is not None
                     and account.certificate_subject.lower() == subject.lower()), None)

    def log_on(self, account: Account, scheme: str, delegated: bool) -> Caller:
        """The token of a network log-on."""
        elevated = is_administrator(account)
        if account.domain is None and not account.builtin_administrator and not self.token_filter_policy:
            elevated = False
        return Caller(account, scheme, elevated, delegated)

    def ntlm_credentials(self) -> list[tuple[str, str, str]]:
        """Domain (empty for local accounts), name, password."""
        return [(account.domain or "", account.name, account.password) for account in self.accounts]


def same_domain(known: str, given: str) -> bool:
    """A domain by its short name or its DNS name."""
    return known.lower() == given.lower() or known.partition(".")[0].lower() == given.partition(".")[0].lower()
