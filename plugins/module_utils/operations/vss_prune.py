# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Retention of copies and exports: which older ones of a VM go, and their removal. Each kind is counted by itself.

Only a folder with a readable manifest of ours counts, and only the files that the manifest lists are removed: the manifest first, so
that a removal that is interrupted leaves an incomplete copy and never one that looks verified. It keeps another name until the end,
by which the next run goes on with the removal.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import destinations
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_work import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.stored_copies import Found
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_copy import error_entry
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import retention
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.freshness import FoundCopy
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.retention import RetainedCopy, RetentionPlan, Standing
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import CopyFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import Doomed
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import Refusal

_NOTHING_REMOVED = ("link_in_the_way", "manifest_not_removed")


class Named(Protocol):
    """Whose copies they are."""

    @property
    def vm_id(self) -> str:
        """GUID in upper case."""

    @property
    def name(self) -> str:
        """For people."""


@dataclass(frozen=True)
class Pruning:
    """What the rules say of one VM's copies. ``going``: those whose removal was begun earlier, then the oldest first; never the one
    that this run made or found."""

    machine: Named
    destination: str
    plan: RetentionPlan
    going: tuple[FoundCopy, ...]
    wanted: bool

    def diff(self) -> dict[str, list[dict[str, Any]]]:
        """The decisions as a diff."""
        return self.plan.diff()


def standing_of(copy: FoundCopy) -> Standing:
    """What retention makes of a copy."""
    if copy.missing:
        return "incomplete"
    return "unverified" if copy.manifest.verified == "none" or copy.manifest.achieved == "inconsistent" else "verified"


def decide(found: Found, machine: Named, current: FoundCopy | None, request: Request, *, host: str, now: datetime,
           new: str | None = None) -> Pruning:
    """What goes of a VM's copies on one host. ``current`` is the copy that was made or found; while there is none yet, ``new`` is the
    folder that it will be in, counted as made ``now``."""
    own = {copy.folder: copy for copy in _of(found.copies, machine, host)}
    if current is not None:
        own[current.folder] = current
    counted = [RetainedCopy(copy.folder, copy.manifest.taken, standing_of(copy)) for copy in own.values()]
    if new is not None:
        counted.append(RetainedCopy(new, now, "unverified" if request.verify == "none" or request.method == "live" else "verified"))
    newest = max(counted, key=lambda copy: copy.taken, default=None)
    plan = retention.decide(counted, request.keep, now=now, timezone=request.timezone,
                            newest_run_failed=newest is not None and newest.standing == "unverified")
    going = [own[copy.copy_id] for copy in plan.removed if current is None or copy.copy_id != current.folder]
    if request.keep.empty:
        return Pruning(machine, request.destination, plan, (), False)
    return Pruning(machine, request.destination, plan, (*_of(found.begun, machine, host), *going), True)


def _of(copies: Iterable[FoundCopy], machine: Named, host: str) -> Iterator[FoundCopy]:
    """A VM's copies that this host made."""
    return (copy for copy in copies if copy.manifest.vm_id == machine.vm_id and copy.manifest.host.casefold() == host.casefold())


def warn_about_others(pruning: Pruning, warn: Callable[[str], None]) -> None:
    """Tell of folders that will stay because somebody put something into them."""
    for copy in pruning.going:
        if copy.others:
            warn(f"{copy.folder} stays when its copy is removed: it holds files that are not ours, such as {copy.others[0]!r}.")


def predict(pruning: Pruning, entry: dict[str, Any]) -> None:
    """Put into a VM's entry of ``results`` what will be removed."""
    if pruning.wanted:
        entry["pruned"] = [_removed(copy, not copy.others) for copy in pruning.going]
        entry["changed"] = entry["changed"] or bool(pruning.going)


def prune_all(work: Sequence[tuple[Pruning, dict[str, Any]]], tools: Tools, run_id: str, warn: Callable[[str], None]) -> None:
    """Remove what goes, and put into each VM's entry what was removed; the first failure of a VM fails its entry.

    On a share all of it is one task.
    """
    wanted = [(pruning, entry) for pruning, entry in work if pruning.wanted]
    for _pruning, entry in wanted:
        entry["pruned"] = []
    if tools.destination.is_share:
        _prune_share([(pruning, copy, entry) for pruning, entry in wanted for copy in pruning.going], tools, run_id, warn)
        return
    for pruning, entry in wanted:
        _prune_local(pruning, entry, tools, warn)


def _prune_local(pruning: Pruning, entry: dict[str, Any], tools: Tools, warn: Callable[[str], None]) -> None:
    for copy in pruning.going:
        tools.lease.keep()
        _say(pruning, copy, tools)
        try:
            gone = files.remove_copy(tools.writer, _place(copy, pruning.destination), [file.path for file in copy.manifest.files],
                                     copy.manifest.folders)
        except HypervError as error:
            _fail(entry, copy, error)
            return
        _gone(entry, copy, gone, warn)


def _prune_share(work: Sequence[tuple[Pruning, FoundCopy, dict[str, Any]]], tools: Tools, run_id: str, warn: Callable[[str], None]) -> None:
    for batch in _batches(work):
        for pruning, copy, _entry in batch:
            _say(pruning, copy, tools)
        doomed = [Doomed(copy.folder, tuple(file.path for file in copy.manifest.files), copy.manifest.folders)
                  for _pruning, copy, _entry in batch]
        try:
            tools.lease.keep()
            ends, left = destinations.prune_share(tools.writer, tools.folder, run_id, tools.identity, doomed, clock=tools.clock,
                                                  deadline=tools.deadline)
        except HypervError as error:
            for _pruning, copy, entry in batch:
                _fail(entry, copy, error)
            return
        batch[0][2]["leftovers"] += [one.as_result() for one in left]
        for end, (_pruning, copy, entry) in zip(ends, batch, strict=True):
            if end.gone or end.reason == "foreign_files":
                _gone(entry, copy, end.gone, warn)
            else:
                refusal = _NOT_GONE.get(end.reason or "", _LOCKED)
                _fail(entry, copy, HypervError(f"{copy.folder} {refusal.sentence}.", error_code=refusal.error_code, hint=refusal.hint))


def _batches(work: Sequence[tuple[Pruning, FoundCopy, dict[str, Any]]]) -> Iterator[list[tuple[Pruning, FoundCopy, dict[str, Any]]]]:
    """As many copies as one job can carry (jobs.LARGEST characters)."""
    batch: list[tuple[Pruning, FoundCopy, dict[str, Any]]] = []
    length = 0
    for item in work:
        copy = item[1]
        cost = 4 * len(copy.folder) + sum(2 * len(file.path) + 30 for file in copy.manifest.files) + sum(
            2 * len(name) + 30 for name in copy.manifest.folders)
        if batch and length + cost > _MOST_CHARACTERS:
            yield batch
            batch, length = [], 0
        batch.append(item)
        length += cost
    if batch:
        yield batch


_MOST_CHARACTERS = 25_000
_LOCKED = Refusal("file_not_removed", "could not be removed", "Is a file of it open, or may the account not delete there?")
_NOT_GONE: Mapping[str, Refusal] = {
    "link": Refusal("link_in_the_way", "leads through a link or holds one: nothing was removed",
                    "Links below the destination are not ours; find out who made it."),
    "locked": _LOCKED,
    "not_reached": Refusal("file_not_removed", "was not reached", "The next run with keep goes on."),
}


def _say(pruning: Pruning, copy: FoundCopy, tools: Tools) -> None:
    tools.progress(f"{pruning.machine.name}: removing the copy of {copy.manifest.taken:%Y-%m-%d %H:%M} UTC")


def _gone(entry: dict[str, Any], copy: FoundCopy, folder_gone: bool, warn: Callable[[str], None]) -> None:
    if not folder_gone and not copy.others:
        warn(f"{copy.folder} stays: it holds something that is not ours, or could not be removed.")
    entry["pruned"].append(_removed(copy, folder_gone))
    entry["changed"] = True


def _place(copy: FoundCopy, destination: str) -> CopyFolder:
    host, vm, folder = copy.folder[len(destination) + 1:].split("\\")
    return CopyFolder(destination, host, vm, folder)


def _fail(entry: dict[str, Any], copy: FoundCopy, error: HypervError) -> None:
    entry.update({**error_entry(error), "failed": True, "msg": f"An older copy could not be removed. {error.message}"})
    if error.error_code not in _NOTHING_REMOVED:
        entry["changed"] = True
        left = Leftover("incomplete_copy", copy.folder, copy.folder, f'rmdir /s /q "{copy.folder}"')
        entry["leftovers"] = [*entry["leftovers"], left.as_result()]


def _removed(copy: FoundCopy, folder_gone: bool) -> dict[str, Any]:
    data = copy.manifest.as_data()
    return {"folder": copy.folder, "taken": data["taken"], "run_id": copy.manifest.run_id, "size": copy.manifest.size,
            "folder_removed": folder_gone}
