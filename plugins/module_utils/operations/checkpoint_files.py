# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What folders and disk files say beyond the tree of checkpoints: is the folder there, is a chain sound, is there a file that nobody needs
(operations 2.7).

All of it only reads, and each costs a request or more for each folder or file, so it is asked for by name.
"""
from __future__ import annotations

import ntpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wql
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import checkpoint_service, disks, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoints import Checkpoint
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_facts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_facts import CheckpointFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, system

_TRACKING = (".rct", ".mrt")
_STRAYS = (".avhdx", ".avhd", *_TRACKING)
_IN_USE = 32774
_SHARING_VIOLATION = 0x80070020
_PATIENCE = 300.0


def is_local(folder: str) -> bool:
    """True for a folder of the host itself, below the root of a drive: only there the host's file classes look."""
    return folder[1:3] == ":\\" and len(folder) > 3


def read_locations(reader: CimReader, found: Sequence[Machine]) -> Mapping[str, bool | None]:
    """Whether the folders for checkpoints exist: one request for each local one. None for shares, and where nobody can tell."""
    roots = {machine.settings.snapshot_root for machine in found if machine.settings and machine.settings.snapshot_root}
    return {root: _exists(reader, root) for root in sorted(roots)}


def _exists(reader: CimReader, folder: str) -> bool | None:
    if not is_local(folder):
        return None
    rows = reader.query_if_filtered(wql.select(system.CIMV2, "Win32_Directory", {"Name": folder.rstrip("\\")}, ["Name"]))
    return None if rows is None else bool(rows)


# -- chains --------------------------------------------------------------------------------------------------------------


def with_validity(call: Call, facts: CheckpointFacts, leaves: Iterable[str]) -> CheckpointFacts:
    """What the image service says of whole chains, parents and identifiers: a job for each. None where it is sound, or locked."""
    return replace(facts, validity={**facts.validity, **{leaf: _problem(call, leaf) for leaf in dict.fromkeys(leaves)}})


def _problem(call: Call, leaf: str) -> str | None:
    answer = call.reader.ask(disks.IMAGE_SERVICE, "ValidateVirtualHardDisk", {"Path": leaf})
    job = answer.out.reference("Job")
    if answer.return_value == jobs.STARTED and job is not None:
        try:
            jobs.wait(call.reader, job, what=f"validating {leaf}", clock=call.clock, deadline=Deadline(call.clock, _PATIENCE),
                      progress=call.progress)
        except jobs.JobFailed as error:
            locked = error.return_value == _IN_USE or (error.hresult or 0) & 0xFFFFFFFF == _SHARING_VIOLATION
            return None if locked else error.message
        except (jobs.JobTimedOut, jobs.JobVanished):
            return None
    elif answer.return_value not in (0, _IN_USE):
        return f"validating {leaf} was refused (code {answer.return_value})."
    return None


# -- files that nobody needs ---------------------------------------------------------------------------------------------


def with_strays(reader: CimReader, facts: CheckpointFacts, chosen: Sequence[Machine]) -> CheckpointFacts:
    """Differencing and tracking files in the folders of these machines' disks that no chain needs: a request for each folder, and one for
    each disk file that may be part of a chain there.

    Nothing is said of a folder in which a chain cannot be followed, or is just being merged.
    """
    folders = {machine.vm_id: _folders(_disk_files(facts, machine)) for machine in chosen}
    looked_at = {folder for found in folders.values() for folder in found}
    neighbours = [machine for machine in facts.host.machines if _folders(_disk_files(facts, machine)) & looked_at]
    facts = checkpoint_facts.with_links(reader, facts, [path for machine in neighbours for path in _disk_files(facts, machine)])
    needed, unclear = _needed(facts, neighbours)
    strays = {folder: _strays_in(reader, folder, needed) for folder in sorted(looked_at - unclear)}
    return replace(facts, strays={vm_id: tuple(path for folder in sorted(found) for path in strays.get(folder, ()))
                                  for vm_id, found in folders.items()})


def _disk_files(facts: CheckpointFacts, machine: Machine) -> list[str]:
    owners = (machine.vm_id, *(node.checkpoint.checkpoint_id for node in facts.tree_of(machine).nodes))
    return [path for owner in owners for path in facts.files_of(owner)]


def _folders(paths: Iterable[str]) -> set[str]:
    return {folder for folder in (ntpath.dirname(path).lower() for path in paths) if is_local(folder)}


def _needed(facts: CheckpointFacts, machines: Sequence[Machine]) -> tuple[set[str], set[str]]:
    """The files that chains of these machines need, and the folders of which that is not known; all in lower case."""
    needed, unclear = set(), set()
    for machine in machines:
        waiting = _disk_files(facts, machine)
        seen: set[str] = set()
        while waiting:
            path = waiting.pop()
            if path.lower() in seen:
                continue
            seen.add(path.lower())
            link = facts.links.get(path)
            if link is None or isinstance(link, str) or machine.busy is not None:
                unclear |= _folders([path])
            elif link.parent_path is not None:
                waiting.append(link.parent_path)
        needed |= seen
    return needed, unclear


def _strays_in(reader: CimReader, folder: str, needed: set[str]) -> list[str]:
    found = files.paths_in(reader, folder)
    return sorted(path for path in found or () if path.lower().endswith(_STRAYS) and _without_tracking(path.lower()) not in needed)


def _without_tracking(path: str) -> str:
    return path[:-4] if path.endswith(_TRACKING) else path


# -- memory and configuration --------------------------------------------------------------------------------------------


def with_system_sizes(reader: CimReader, facts: CheckpointFacts, checkpoint_ids: Iterable[str]) -> CheckpointFacts:
    """The bytes of the configuration and the memory of checkpoints: one request each (operations 2.4)."""
    found = dict(facts.system_sizes)
    wanted = frozenset(checkpoint_ids)
    for one in facts.host.checkpoints:
        if one.checkpoint_id in wanted and one.checkpoint_id not in found:
            found[one.checkpoint_id] = _system_size(reader, one)
    return replace(facts, system_sizes=found)


def _system_size(reader: CimReader, one: Checkpoint) -> int | None:
    try:
        return checkpoint_service.size_of_system_files(reader, one)
    except HypervError as error:
        if error.return_value is None:
            raise
        return None
