# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a backup can be restored on this host as a task wants it, and as what: pure functions of what was read."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid, owner_of
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.planned import Planned
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import HostFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_request import Request
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import Source
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import naming, restore_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_marks import DRILL, IN_PLACE
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import CopyFolder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume, locate

VERSIONS: Mapping[str, tuple[int, int]] = {"2012R2": (5, 0), "2016": (8, 0), "2019": (9, 0), "2022": (10, 0), "2025": (12, 0)}
"""The newest configuration version that each release makes (operations 0.6); a newer one cannot be imported there (operations 3.5)."""
_SPARE = 64 * 1024 * 1024
_REPLICAS = ("replica", "extended_replica")
_LONGEST_NAME = 100


def name_of(request: Request, source: Source) -> str:
    """What the restored machine is called."""
    if request.mode == IN_PLACE:
        return source.vm_name
    if request.new_name:
        return request.new_name
    ending = f" (drill {request.run_id})"
    return "".join(char if char.isprintable() else "?" for char in source.vm_name)[:_LONGEST_NAME - len(ending)] + ending


def present(facts: HostFacts, request: Request, source: Source, name: str) -> Machine | None:
    """The machine that this backup was restored to already; never one for a drill, and none when it shall be done again."""
    if request.mode == DRILL or request.force:
        return None
    for machine in facts.machines:
        mark = restore_marks.mark_of(machine.vm_id, machine.settings.notes if machine.settings else None)
        if mark is None or mark.mode != request.mode or (mark.backup_id, mark.source_id) != (source.backup_id, source.vm_id):
            continue
        if request.mode == IN_PLACE or machine.name.casefold() == name.casefold():
            return machine
    return None


def old_machine(facts: HostFacts, request: Request, source: Source) -> Machine | None:
    """The machine that a restore in place takes the place of; None when there is none.

    Raises HypervError ``vm_exists`` without consent, ``vm_not_off``, ``replica_vm``, ``vm_busy``.
    """
    if request.mode != IN_PLACE:
        return None
    old = next((machine for machine in facts.machines if machine.vm_id == source.vm_id), None)
    if old is None:
        return None
    if old.replication_mode != "none":
        raise HypervError(f"{old.name!r} takes part in a replication ({old.replication_mode}): it is not replaced.",
                          error_code="replica_vm", hint="End its replication first, or fail over to its replica.")
    if old.busy is not None:
        raise HypervError(f"The host works on {old.name!r} ({old.busy}).", error_code="vm_busy", hint="Wait until it has done.")
    if old.state != "off":
        raise HypervError(f"{old.name!r} is {old.state}: a machine is replaced only when it is off.", error_code="vm_not_off",
                          hint="Shut it down, and run the task again.")
    if not request.unregister:
        raise HypervError(f"{old.name!r} is registered on this host with the identity that the restored machine would have.",
                          error_code="vm_exists",
                          hint="Set old_vm: unregister to take its registration and its checkpoints' away; its disks stay where they are. "
                               "Or restore beside it with mode: new.")
    return old


def check_name(facts: HostFacts, request: Request, name: str) -> None:
    """Raise HypervError ``vm_name_taken`` when another machine has the name that a new one shall have."""
    if request.mode == IN_PLACE:
        return
    for machine in facts.machines:
        if machine.name.casefold() == name.casefold():
            raise HypervError(f"This host has a virtual machine named {name!r} already.", error_code="vm_name_taken",
                              hint="Say another new_name.", details={"vm_id": machine.vm_id})


def check_planned(there: Sequence[Planned], request: Request, source: Source) -> None:
    """Raise HypervError ``planned_vm_in_the_way`` when a planned machine that is not ours has the identity that is needed."""
    if request.mode == IN_PLACE and any(one.vm_id == source.vm_id for one in there):
        raise HypervError(f"A planned virtual machine {source.vm_id} is on this host, left by somebody's import.",
                          error_code="planned_vm_in_the_way",
                          hint="Find out whose it is. It is not ours, so it is never removed here; mode: new does not need its identity.")


def definition_at(source: Source, folder: str) -> str:
    """The definition file of the machine, in a folder that holds the files of a backup."""
    return f"{folder}\\{source.definition}"


def check_identity(request: Request, source: Source, found: str) -> None:
    """What a definition file calls its machine must be what the manifest promises: the machine, or the checkpoint that was exported, whose
    definition may have an identity of its own.

    Raises HypervError ``backup_damaged``, or ``identity_not_in_backup`` in place: the host keeps the identity of the file, whichever it is.
    """
    export = source.export
    expected = {source.vm_id}
    if export is not None and export.checkpoint_id is not None:
        expected |= {owner_of(export.checkpoint_id) or as_guid(export.checkpoint_id) or source.vm_id}
    if export is not None and export.definition_id is not None:
        expected = {export.definition_id}  # read when the export was made
    if source.proved and found not in expected:
        raise HypervError(f"The definition file in {source.folder} is that of the virtual machine {found}, and the manifest says "
                          f"{source.vm_id}.", error_code="backup_damaged", hint="Restore another backup; do not trust this one.",
                          details={"damaged": [source.definition]})
    if request.mode == IN_PLACE and found != source.vm_id:
        raise HypervError(f"The backup of {source.vm_name!r} is the export of a checkpoint: it does not hold the identity of the machine.",
                          error_code="identity_not_in_backup",
                          hint="Restore it with mode: new. Exports of a machine itself (consistency crash or image) keep its identity.")


def check_host(facts: HostFacts, source: Source, free_memory: int | None, *, drill: bool, runs: bool) -> None:
    """Raise HypervError with why this host cannot take the machine, or run it when it shall run, as far as the manifest tells of it.

    ``version_not_supported``; for a drill ``needs_guardian`` and ``replica_vm``; ``not_enough_memory`` when it shall be started.
    """
    export = source.export
    if export is None:
        return
    known = VERSIONS.get(facts.system.release or "")
    if known is not None and _version(export.version) > known:
        raise HypervError(f"{source.vm_name!r} has the configuration version {export.version}, and this host knows {known[0]}.{known[1]}.",
                          error_code="version_not_supported", hint="Restore it on a host with a newer Windows.",
                          details={"version": export.version, "supported": f"{known[0]}.{known[1]}"})
    if drill and export.needs_guardian:
        raise HypervError(f"{source.vm_name!r} is shielded or has a virtual TPM: it starts only where the keys of its protector are.",
                          error_code="needs_guardian", hint="Drill it by hand on a host that has the certificates (docs/restore.md).")
    if drill and any(one.vm_id == source.vm_id and one.replication_mode in _REPLICAS for one in facts.machines):
        raise HypervError(f"This host holds the replica of {source.vm_name!r}.", error_code="replica_vm",
                          hint="Test the replica with a test failover, and drill the backup on another host.")
    if runs and free_memory is not None and export.memory > free_memory:
        raise HypervError(f"{source.vm_name!r} starts with {export.memory >> 20} MiB, and this host has {free_memory >> 20} MiB free.",
                          error_code="not_enough_memory", hint="Free memory, or use another host.",
                          details={"needed": export.memory, "free": free_memory})


def _version(text: str) -> tuple[int, int]:
    major, _dot, minor = text.partition(".")
    return int(major), int(minor)


def place(facts: HostFacts, request: Request, source: Source, name: str) -> tuple[CopyFolder, Volume]:
    """Where the files go, and the volume of it: ``<location>\\<host>\\<name>_<first 8 of the GUID>\\<UTC time>_<run id>``.

    Raises HypervError ``location_not_local`` or ``not_enough_space``.
    """
    found = locate(request.location, facts.volumes or ())
    if found.kind not in ("local", "csv") or found.volume is None:
        raise HypervError(f"The location {request.location} lies on no volume of this host.", error_code="location_not_local",
                          hint="Known volumes: " + ", ".join(volume.root for volume in facts.volumes or ()))
    free = found.volume.free
    if free is not None and free < source.size + _SPARE:
        raise HypervError(f"The backup of {source.vm_name!r} has {source.size} bytes, and {found.volume.root} has {free} free.",
                          error_code="not_enough_space", hint="Free space there, or choose another location.",
                          details={"needed": source.size + _SPARE, "free": free})
    folder = CopyFolder(request.location, naming.safe_component(facts.system.name), naming.vm_folder(name, source.vm_id),
                        naming.copy_folder(facts.system.local_time, request.run_id))
    return folder, found.volume


def check_accepted(request: Request, source: Source) -> None:
    """Raise HypervError ``backup_not_proved`` for an export without a manifest that nobody consented to, ``no_hashes``."""
    if not source.proved and not request.accept_unproved:
        raise HypervError(f"{source.folder} has no manifest: nothing proves that this export is whole.", error_code="backup_not_proved",
                          hint="Restore a backup with a manifest, or set accept_unproved: true.")


def unknowns(source: Source, verify: str) -> tuple[str, ...]:
    """What nobody can say of what was restored."""
    if not source.proved:
        return ("the export has no manifest: whether its files are whole is not known",)
    if not source.hashed:
        return (f"the manifest has no hashes: only {'sizes and both ends of the copy' if verify == 'sha256' else 'sizes'} were compared",)
    return () if verify == "sha256" else ("only sizes were compared",)
