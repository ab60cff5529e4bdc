# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access control lists as NTFS keeps them, and the SDDL text of one."""
from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

EVERYONE = "S-1-1-0"
CREATOR_OWNER = "S-1-3-0"
NETWORK = "S-1-5-2"
BATCH = "S-1-5-3"
INTERACTIVE = "S-1-5-4"
AUTHENTICATED_USERS = "S-1-5-11"
SYSTEM = "S-1-5-18"
ADMINISTRATORS = "S-1-5-32-544"
USERS = "S-1-5-32-545"

FULL = 0x1F01FF
MODIFY = 0x1301BF
READ_EXECUTE = 0x1200A9
READ = 0x120089
WRITE = 0x100116
ADD_FILE = 0x2
ADD_FOLDER = 0x4
TRAVERSE = 0x20
DELETE_CHILD = 0x40
DELETE = 0x10000
READ_CONTROL = 0x20000
WRITE_DAC = 0x40000
WRITE_OWNER = 0x80000
READ_DATA = 0x1
WRITE_DATA = 0x2

RIGHTS = {"F": FULL, "M": MODIFY, "RX": READ_EXECUTE, "R": READ, "W": WRITE, "D": DELETE | 0x100000}
SPECIFIC = {"DE": DELETE, "RC": READ_CONTROL, "WDAC": WRITE_DAC, "WO": WRITE_OWNER, "S": 0x100000, "RD": 0x1, "WD": 0x2, "AD": 0x4,
            "REA": 0x8, "WEA": 0x10, "X": 0x20, "DC": 0x40, "RA": 0x80, "WA": 0x100}
_SDDL_SIDS = {EVERYONE: "WD", CREATOR_OWNER: "CO", AUTHENTICATED_USERS: "AU", SYSTEM: "SY", ADMINISTRATORS: "BA", USERS: "BU",
              "S-1-5-32-551": "BO", NETWORK: "NU"}
_SDDL_RIGHTS = {FULL: "FA"}
_GRANT = re.compile(r"((?:\((?:OI|CI|IO|NP|I)\))*)(\([A-Z,]+\)|[A-Z]+)?\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Ace:
    """One entry: who, an access mask, and how it passes on to files (``OI``) and folders (``CI``) below."""

    sid: str
    mask: int
    flags: frozenset[str] = frozenset()
    allow: bool = True
    inherited: bool = False

    def passed_on(self, to_folder: bool, owner: str) -> list[Ace]:
        """What an entry below receives from this one."""
        result = []
        reaches = ("CI" if to_folder else "OI") in self.flags
        travels = to_folder and self.flags & {"OI", "CI"} and "NP" not in self.flags
        if reaches:
            sid = owner if self.sid == CREATOR_OWNER else self.sid
            keep = (self.flags - {"IO"}) if travels and sid == self.sid else frozenset()
            result.append(Ace(sid, self.mask, keep, self.allow, True))
        if travels and (not reaches or self.sid == CREATOR_OWNER):
            result.append(Ace(self.sid, self.mask, (self.flags | {"IO"}), self.allow, True))
        return result


@dataclass(frozen=True)
class Acl:
    """The entries set on an object itself; ``protected`` cuts it off from what the folders above pass on."""

    entries: tuple[Ace, ...] = ()
    protected: bool = False

    def without(self, sid: str) -> Acl:
        """The list without the entries of ``sid`` that are not inherited."""
        return replace(self, entries=tuple(ace for ace in self.entries if ace.sid != sid or ace.inherited))

    def plus(self, aces: Iterable[Ace]) -> Acl:
        """The list with more entries."""
        return replace(self, entries=(*self.entries, *aces))


def _ace(sid: str, mask: int, *flags: str) -> Ace:
    return Ace(sid, mask, frozenset(flags))


VOLUME_ROOT = Acl((
    _ace(SYSTEM, FULL, "OI", "CI"), _ace(ADMINISTRATORS, FULL, "OI", "CI"), _ace(USERS, READ_EXECUTE, "OI", "CI"),
    _ace(USERS, ADD_FOLDER, "CI"), _ace(USERS, ADD_FILE, "CI", "IO"), _ace(CREATOR_OWNER, FULL, "OI", "CI", "IO"),
), protected=True)
"""The root of a fixed drive: Users may make folders, and files inside their own folders."""

PROGRAM_DATA = Acl((
    _ace(SYSTEM, FULL, "OI", "CI"), _ace(ADMINISTRATORS, FULL, "OI", "CI"), _ace(CREATOR_OWNER, FULL, "OI", "CI", "IO"),
    _ace(USERS, READ_EXECUTE, "OI", "CI"), _ace(USERS, ADD_FILE | ADD_FOLDER | 0x110, "CI"),
), protected=True)
"""ProgramData: every local user may create files and folders in it, which is why a state folder there has to be closed by hand."""

SYSTEM_FOLDER = Acl((
    _ace(SYSTEM, FULL, "OI", "CI"), _ace(ADMINISTRATORS, FULL, "OI", "CI"), _ace(USERS, READ_EXECUTE, "OI", "CI"),
), protected=True)
"""Windows and Program Files."""


def granted(aces: Iterable[Ace], sids: frozenset[str], owner: str) -> int:
    """The access mask that a token with ``sids`` gets. Denials come first, as in a canonical list."""
    allowed = (READ_CONTROL | WRITE_DAC) if owner in sids else 0
    denied = 0
    for ace in aces:
        if "IO" in ace.flags or ace.sid not in sids:
            continue
        if ace.allow:
            allowed |= ace.mask
        else:
            denied |= ace.mask
    return allowed & ~denied


def parse_grant(text: str) -> tuple[int, frozenset[str]]:
    """The mask and inheritance of what follows the colon in ``icacls /grant``: ``(OI)(CI)F``, ``(CI)(WD,AD)``. Raises ValueError."""
    match = _GRANT.match(text)
    if not match or not match.group(2):
        raise ValueError(f"not a permission: {text}")
    flags = frozenset(re.findall(r"[A-Z]+", match.group(1).upper())) - {"I"}
    mask = 0
    for name in match.group(2).strip("()").upper().split(","):
        known = SPECIFIC if match.group(2).startswith("(") and name not in RIGHTS else RIGHTS
        if name not in known:
            raise ValueError(f"not a permission: {text}")
        mask |= known[name]
    return mask, flags


def format_mask(mask: int) -> str:
    """The mask as icacls prints it: ``F``, ``RX``, ``AD``, ``WD,AD,WEA,WA``."""
    for name, value in RIGHTS.items():
        if value == mask:
            return name
    return ",".join(name for name, value in SPECIFIC.items() if mask & value) or "N"


def format_sddl(aces: Iterable[Ace], protected: bool) -> str:
    """The DACL in SDDL, as ``icacls /save`` writes it: ``D:PAI(A;OICI;FA;;;SY)...``."""
    items = []
    for ace in aces:
        flags = "".join(flag for flag in ("OI", "CI", "IO", "NP") if flag in ace.flags) + ("ID" if ace.inherited else "")
        rights = _SDDL_RIGHTS.get(ace.mask, f"0x{ace.mask:x}")
        items.append(f"({'A' if ace.allow else 'D'};{flags};{rights};;;{_SDDL_SIDS.get(ace.sid, ace.sid)})")
    return "D:" + ("PAI" if protected else "AI") + "".join(items)
