# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Security identifiers and what an access check sees of a caller."""
from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from simulator.cim.model import Account, Caller
from simulator.windows import acl

GROUP_SIDS = {
    "administrators": acl.ADMINISTRATORS, "users": acl.USERS, "backup operators": "S-1-5-32-551",
    "hyper-v administrators": "S-1-5-32-578", "remote management users": "S-1-5-32-580",
}
WELL_KNOWN = {"everyone": acl.EVERYONE, "system": acl.SYSTEM, "nt authority\\system": acl.SYSTEM, "creator owner": acl.CREATOR_OWNER,
              "authenticated users": acl.AUTHENTICATED_USERS, "nt authority\\authenticated users": acl.AUTHENTICATED_USERS,
              "builtin\\administrators": acl.ADMINISTRATORS, "builtin\\users": acl.USERS, **GROUP_SIDS}


_LOGON_SIDS = {"batch": acl.BATCH, "interactive": acl.INTERACTIVE}
"""By the scheme of the log-on; any other came over the network."""


@dataclass(frozen=True)
class Token:
    """The rights of a process: its own SID, all SIDs, and whether its credentials reach another machine."""

    sid: str
    sids: frozenset[str]
    name: str
    """``DOMAIN\\name``, ``HOST\\name`` or ``NT AUTHORITY\\SYSTEM``."""
    elevated: bool
    network_identity: str | None
    """Who another machine sees: the account when the log-on is delegated, ``DOMAIN\\HOST$`` for SYSTEM, None for nobody."""
    network_password: str | None = field(default=None, repr=False)
    """With which it logs on there; None for a computer account."""

    @property
    def owner_sid(self) -> str:
        """Who owns what this process creates: the Administrators group for its members."""
        return acl.ADMINISTRATORS if self.elevated else self.sid


def authority_sid(authority: str) -> str:
    """The domain or machine part of a SID: the same for the same name, on every host."""
    digest = hashlib.sha256(authority.lower().partition(".")[0].encode()).digest()
    numbers = [int.from_bytes(digest[at:at + 4], "big") for at in (0, 4, 8)]
    return "S-1-5-21-" + "-".join(str(number) for number in numbers)


def name_sid(authority: str, name: str) -> str:
    """The SID of ``authority\\name``."""
    relative = 1000 + int.from_bytes(hashlib.sha256(name.lower().encode()).digest()[:2], "big")
    return f"{authority_sid(authority)}-{relative}"


def account_sid(account: Account, machine: str) -> str:
    """The SID of an account of the domain, or of ``machine``."""
    authority = account.domain or machine
    if account.builtin_administrator:
        return f"{authority_sid(authority)}-500"
    return name_sid(authority, account.name)


def principal_sid(text: str, machine: str) -> str | None:
    """The SID that ``*S-1-...``, ``S-1-...``, a well-known name or ``AUTHORITY\\name`` stands for; None when nothing fits."""
    text = text.removeprefix("*")
    if text.upper().startswith("S-1-"):
        return text.upper()
    if text.lower() in WELL_KNOWN:
        return WELL_KNOWN[text.lower()]
    authority, _unused, name = text.rpartition("\\")
    return name_sid(authority or machine, name) if name else None


def system_token(machine: str, domain: str | None) -> Token:
    """SYSTEM: everything here, the computer account elsewhere."""
    sids = frozenset({acl.SYSTEM, acl.ADMINISTRATORS, acl.EVERYONE, acl.AUTHENTICATED_USERS})
    return Token(acl.SYSTEM, sids, "NT AUTHORITY\\SYSTEM", True, f"{domain.split('.')[0]}\\{machine}$" if domain else None)


def token_for(caller: Caller, machine: str, domain: str | None) -> Token:
    """The token of a caller on ``machine`` (wire 7.4: a network log-on has no credentials for a third machine)."""
    if caller.scheme == "system":
        return system_token(machine, domain)
    account = caller.account
    own = account_sid(account, machine)
    sids = {own, acl.EVERYONE, acl.AUTHENTICATED_USERS, acl.USERS, _LOGON_SIDS.get(caller.scheme, acl.NETWORK)}
    sids.update(GROUP_SIDS[group.lower()] for group in account.groups if group.lower() in GROUP_SIDS)
    if caller.elevated:
        sids.add(acl.ADMINISTRATORS)
    else:
        sids.discard(acl.ADMINISTRATORS)
    name = f"{account.domain or machine}\\{account.name}"
    known = caller.delegated
    return Token(own, frozenset(sids), name, caller.elevated, name if known else None, account.password if known else None)
