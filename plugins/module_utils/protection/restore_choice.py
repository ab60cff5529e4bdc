# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which backup a restore means, among all that lie under a destination; and why a backup cannot be restored by a module."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import EXPORT

BY_HAND = "docs/restore.md tells how a copy of the disks alone is restored by hand."


@dataclass(frozen=True)
class Wanted:
    """What a task says: the virtual machine by ``vm_id`` or ``name``, on the host ``host`` when that is said; and which of its backups:
    the one of the run ``backup_id``, the newest not after ``not_after``, or the newest."""

    name: str | None = None
    vm_id: str | None = None
    host: str | None = None
    backup_id: str | None = None
    not_after: datetime | None = None

    @property
    def machine(self) -> str:
        """For messages."""
        return repr(self.name) if self.vm_id is None else self.vm_id


def choose(found: Sequence[FoundCopy], wanted: Wanted) -> FoundCopy:
    """The one backup. It is not looked past one that is damaged: what is newest is said, not what happens to be whole.

    Raises HypervError ``backup_not_found``, ``backup_not_unique``, ``no_configuration`` (a copy of disks), ``backup_incomplete``.
    """
    mine = [copy for copy in found if _is_of(copy, wanted)]
    if not mine:
        raise HypervError(f"There is no backup of the virtual machine {wanted.machine} there.", error_code="backup_not_found",
                          hint=_hint(found))
    machines = sorted({(copy.manifest.vm_id, copy.manifest.host.casefold()) for copy in mine})
    if len(machines) > 1:
        raise HypervError(f"Backups of {len(machines)} virtual machines are meant by {wanted.machine}.", error_code="backup_not_unique",
                          hint="Name the one that is meant by vm_id, and its host by source_host.",
                          details={"candidates": [{"vm_id": vm_id, "host": host} for vm_id, host in machines]})
    fitting = [copy for copy in mine if _fits(copy, wanted)]
    if not fitting:
        raise HypervError(f"None of the {len(mine)} backups of {wanted.machine} is the one that is asked for.",
                          error_code="backup_not_found", hint=_listed(mine))
    exports = [copy for copy in fitting if copy.manifest.kind == EXPORT]
    if not exports:
        raise _no_configuration(fitting)
    chosen = max(exports, key=lambda copy: (copy.manifest.taken, copy.folder))
    check_whole(chosen, [copy for copy in mine if copy is not chosen and copy.manifest.kind == EXPORT and not copy.missing])
    return chosen


def check_whole(chosen: FoundCopy, others: Sequence[FoundCopy] = ()) -> None:
    """Raise HypervError ``backup_incomplete``, with the names, when a file is not there or has another size than its manifest says."""
    if chosen.missing:
        names = ", ".join(chosen.missing[:3])
        hint = "Restore another one with backup_id" + (f": {_listed(others)}" if others else ", if there is any.")
        raise HypervError(f"The backup in {chosen.folder} is damaged: {names} missing or of another size than the manifest says.",
                          error_code="backup_incomplete", hint=hint, details={"damaged": list(chosen.missing)})


def _is_of(copy: FoundCopy, wanted: Wanted) -> bool:
    manifest = copy.manifest
    if wanted.host is not None and manifest.host.casefold() != wanted.host.casefold():
        return False
    if wanted.vm_id is not None:
        return manifest.vm_id == wanted.vm_id.upper()
    if wanted.name is not None:
        return manifest.vm_name.casefold() == wanted.name.casefold()
    return wanted.backup_id is not None and manifest.run_id == wanted.backup_id


def _fits(copy: FoundCopy, wanted: Wanted) -> bool:
    if wanted.backup_id is not None:
        return copy.manifest.run_id == wanted.backup_id
    return wanted.not_after is None or copy.manifest.taken <= wanted.not_after


def _no_configuration(copies: Sequence[FoundCopy]) -> HypervError:
    return HypervError(
        f"The backup in {copies[-1].folder} is a copy of disks: it holds no configuration that a host could import.",
        error_code="no_configuration", hint=f"Restore an export of this virtual machine. {BY_HAND}")


def _hint(found: Sequence[FoundCopy]) -> str:
    names = sorted({copy.manifest.vm_name for copy in found}, key=str.casefold)
    if not names:
        return "There is no complete backup at all. Is the destination the one that the backups were made with?"
    return f"There are backups of {', '.join(repr(name) for name in names[:8])}{', ...' if len(names) > 8 else ''}."


def _listed(copies: Sequence[FoundCopy]) -> str:
    newest = sorted(copies, key=lambda copy: copy.manifest.taken, reverse=True)[:4]
    return ", ".join(f"{copy.manifest.run_id} of {copy.manifest.taken:%Y-%m-%dT%H:%M:%SZ}" for copy in newest) + "."
