# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log-ons over SMB: which callers from other machines a file server knows (windows facts 1, wire 7.4)."""
from __future__ import annotations

from dataclasses import dataclass

from simulator.directory import AccountDirectory, is_administrator, same_domain
from simulator.windows import acl
from simulator.windows.identity import GROUP_SIDS, account_sid, name_sid


@dataclass(frozen=True)
class SmbLogon:
    """Implements :class:`simulator.windows.resolving.Gatekeeper`.

    A member of a domain knows its accounts and, unless ``computer_accounts`` is false, its computers (``DOMAIN\\HOST$``). Everybody
    else needs a local account of the same name and password, which pass-through log-on finds.
    """

    accounts: AccountDirectory
    domain: str | None
    computer_accounts: bool = True

    def sids_of(self, identity: str, password: str | None) -> frozenset[str] | None:
        """The SIDs of a caller; None: not known, or a wrong password."""
        authority, _unused, name = identity.rpartition("\\")
        common = {acl.EVERYONE, acl.AUTHENTICATED_USERS, acl.NETWORK}
        if self.domain is not None and same_domain(self.domain, authority):
            if name.endswith("$"):
                return frozenset({name_sid(authority, name), *common}) if self.computer_accounts else None
            return frozenset({name_sid(authority, name), acl.USERS, *common, *self._groups(name, authority)})
        account = self.accounts.account(name, ".")
        if account is None or password is None or account.password != password:
            return None
        return frozenset({account_sid(account, self.accounts.host_name), acl.USERS, *common, *self._groups(name, ".")})

    def _groups(self, name: str, domain: str) -> set[str]:
        """The local groups; a local administrator other than the built-in one comes without his rights (wire 6.1)."""
        account = self.accounts.account(name, domain)
        if account is None:
            return set()
        caller = self.accounts.log_on(account, "ntlm", False)
        groups = {GROUP_SIDS[group.lower()] for group in account.groups if group.lower() in GROUP_SIDS} - {acl.ADMINISTRATORS}
        return groups | ({acl.ADMINISTRATORS} if caller.elevated and is_administrator(account) else set())
