# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a definition file to a real machine: import, mark, wiring, validation, realisation, each seen on the host (operations 3.5).

A planned machine of ours that does not become a real one is destroyed. What was asked of the host and not answered is looked for before
anything is asked again: a second import would make a second machine.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import paths
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import PropertyValue, Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, NotFound, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import import_service, jobs, machines, planned
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.checkpoint_service import Busy
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE, as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.import_service import Begun
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.planned import Port, Storage
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import checkpoint_steps, restore_wiring
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_copy import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_source import Source
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.restore_wiring import Wiring
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import incompatibilities, restore_marks
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.incompatibilities import Incompatibility
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.restore_marks import RestoreMark

_TRIES = 3
_PAUSE = 5.0
_SETTLE = 120.0
"""Seconds that a request without an answer gets to show what came of it."""
_ROOTS = ("ConfigurationDataRoot", "SnapshotDataRoot", "SwapFileDataRoot")
_ROOTS_IF_SET = ("GuestStateDataRoot",)
_SWITCH = "Msvm_VirtualEthernetSwitch"


@dataclass(frozen=True)
class Wish:
    """How the machine shall be: its name, the run that makes it, and how; ``folder`` holds the files as they lie in the backup."""

    source: Source
    folder: str
    name: str
    run_id: str
    mode: str
    new_id: bool
    networks: Mapping[str, str]


@dataclass
class Made:
    """What there is of it by now: GUIDs of the planned machine and of the real one, and of planned ones that may have come of an import
    whose answer was lost, when there are several."""

    planned_id: str | None = None
    machine_id: str | None = None
    doubtful: tuple[str, ...] = ()
    found: tuple[Incompatibility, ...] = field(default=())


def plan(tools: Tools, wish: Wish, made: Made, before: frozenset[str]) -> None:
    """Import, mark, and wire a planned machine. ``before``: the planned machines that were there when the intent was written."""
    made.planned_id = _import(tools, wish, made, before)
    tools.keep()
    _mark(tools, wish, made.planned_id)
    switches = planned.read_switches(tools.writer) if wish.networks else {}
    _wire(tools, wish, made.planned_id, switches)


def _tries(tools: Tools, what: str) -> Iterator[None]:
    """As often as a step is tried, with a pause before each further try; what the try before came to was looked at by then."""
    for attempt in range(_TRIES):
        if attempt:
            tools.clock.sleep(_PAUSE)
        tools.progress(what)
        yield


# -- import --------------------------------------------------------------------------------------------------------------


def _import(tools: Tools, wish: Wish, made: Made, before: frozenset[str]) -> str:
    source = wish.source
    path, tree = f"{wish.folder}\\{source.definition}", f"{wish.folder}\\{source.checkpoints}" if source.checkpoints else ""
    what = f"importing {path}"
    problem: HypervError | None = None
    for _unused in _tries(tools, what):
        try:
            begun = import_service.import_definition(tools.writer, path, tree, new_id=wish.new_id)
            found = _made_by(tools, begun, what)
            if len(found) == 1:
                return found[0]
            problem = OutcomeUnknown(f"{what}: the host does not tell which planned virtual machine came of it.")
        except jobs.JobFailed as error:
            raise _import_failed(error, what) from error
        except Busy as error:
            problem = error
            continue
        except OutcomeUnknown as error:
            problem = error
        adopted = _adopt(tools, wish, made, before)
        if adopted is not None:
            return adopted
    raise problem or HypervError(f"{what} failed.", error_code="import_refused")


def _made_by(tools: Tools, begun: Begun, what: str) -> tuple[str, ...]:
    if begun.job is None:
        vm_id = as_guid(begun.made.key("Name")) if begun.made is not None else None
        return () if vm_id is None else (vm_id,)
    jobs.wait(tools.writer, begun.job, what=what, clock=tools.clock, deadline=tools.deadline, progress=tools.progress, poll=1.0)
    return import_service.imported_by(tools.writer, begun.job)


def _import_failed(error: jobs.JobFailed, what: str) -> HypervError:
    """The job of an import says with a code of its own that the host cannot take it."""
    if error.return_value in (import_service.IN_USE, import_service.NOT_SUPPORTED, import_service.ACCESS_DENIED):
        known = import_service.refusal(error.return_value, error.message.rstrip("."), "import_refused")
        known.details = error.details
        return known
    error.error_code = "import_refused"
    error.hint = error.hint or "Look whether the definition file is whole and whether this host knows its configuration version."
    return error


def _adopt(tools: Tools, wish: Wish, made: Made, before: frozenset[str]) -> str | None:
    """The planned machine that an import without an answer made; None when none came of it.

    Raises HypervError ``import_unknown`` when several may have, which only happens when somebody else imports at this moment.
    """
    for _unused in range(int(_SETTLE / _PAUSE)):
        fresh = [one for one in planned.read_all(tools.writer) if one.vm_id not in before and _may_be(wish, one)]
        if len(fresh) == 1:
            return fresh[0].vm_id
        if fresh:
            made.doubtful = tuple(one.vm_id for one in fresh)
            raise HypervError(f"{len(fresh)} planned virtual machines named {wish.source.vm_name!r} appeared at once.",
                              error_code="import_unknown", hint="Somebody else imports the same backup; look at leftovers.")
        if not import_service.at_work(tools.writer, import_service.IMPORT_JOB):
            return None
        tools.clock.sleep(_PAUSE)
    return None


def _may_be(wish: Wish, one: planned.Planned) -> bool:
    if not wish.new_id and one.vm_id != wish.source.vm_id:
        return False
    return one.name == wish.source.vm_name or restore_marks.mark_of(one.vm_id, one.notes) is not None


# -- mark and wiring -----------------------------------------------------------------------------------------------------


def _mark(tools: Tools, wish: Wish, vm_id: str) -> None:
    """Name, mark and roots in one step, so that there is no marked machine under a name of somebody else's, nor the reverse."""
    settings, _checkpoints, missing = planned.settings_of(tools.writer, vm_id)
    if settings is None:
        raise HypervError(f"The planned virtual machine {vm_id} shows no settings.", error_code="planned_unreadable",
                          hint="Was it removed by somebody else?")
    if missing:
        raise HypervError(f"The backup in {wish.source.folder} lacks the files of {len(missing)} checkpoint(s) of the virtual machine.",
                          error_code="checkpoint_files_missing", hint="Restore another backup.", details={"checkpoints": list(missing)})
    mark = RestoreMark(vm_id, wish.source.vm_id, wish.source.backup_id, wish.run_id, wish.mode)
    notes = restore_marks.stamped(settings.notes, mark)
    root = f"{wish.folder}\\{wish.source.root}" if wish.source.root else wish.folder
    row = tools.writer.get(settings.reference)
    names = (*_ROOTS, *(name for name in _ROOTS_IF_SET if row.text(name)))
    values: dict[str, PropertyValue] = {"ElementName": wish.name, "Notes": (notes,), **dict.fromkeys(names, root)}
    checkpoint_steps.change(
        tools, settings.reference, values,
        lambda seen: restore_marks.mark_of(vm_id, "\n".join(seen.texts("Notes"))) == mark and seen.text("ElementName") == wish.name
        and all(planned.lies_in(seen.text(name), root) for name in names),
        f"marking the planned virtual machine {wish.name!r}")


def _wire(tools: Tools, wish: Wish, vm_id: str, switches: Mapping[str, str]) -> None:
    """What each disk and adapter gets is decided once, by what they were when they came; then the host is brought there."""
    storage, ports = _parts(tools, vm_id, switches)
    wanted = restore_wiring.wire(wish.source, wish.folder, storage, ports, wish.networks, switches)
    pending = restore_wiring.pending(wanted, storage, ports, switches)
    what = f"wiring {wish.name!r}"
    if pending.empty:
        return
    for _unused in _tries(tools, what):
        try:
            for class_name, values in _changes(pending):
                _finish(tools, import_service.modify_resources(tools.writer, class_name, values), what)
            if pending.removed:
                _finish(tools, import_service.remove_resources(tools.writer, [one.reference for one in pending.removed]),
                        f"removing images of {wish.name!r}")
        except (OutcomeUnknown, Busy) as error:
            tools.progress(f"{wish.name}: {error.message} Looking what came of it.")
        pending = restore_wiring.pending(wanted, *_parts(tools, vm_id, switches), switches)
        if pending.empty:
            return
    raise HypervError(f"The planned virtual machine {wish.name!r} does not show the changes of its disks and adapters.",
                      error_code="settings_not_changed", hint="Run the task again; nothing of it stays.")


def _parts(tools: Tools, vm_id: str, switches: Mapping[str, str]) -> tuple[tuple[Storage, ...], tuple[Port, ...]]:
    """The media of a planned machine and of its checkpoints, and its adapters, as they are now."""
    _settings, checkpoints, _missing = planned.settings_of(tools.writer, vm_id)
    return planned.read_storage(tools.writer, (vm_id, *checkpoints)), planned.read_ports(tools.writer, vm_id, switches)


def _changes(wiring: Wiring) -> list[tuple[str, list[Mapping[str, PropertyValue]]]]:
    disks: list[Mapping[str, PropertyValue]] = [
        {"InstanceID": one.reference.keys["InstanceID"], "HostResource": (file,)} for one, file in wiring.repointed]
    ports: list[Mapping[str, PropertyValue]] = [
        {"InstanceID": port.reference.keys["InstanceID"], "EnabledState": import_service.DISCONNECTED} for port in wiring.disconnected]
    ports += [{"InstanceID": port.reference.keys["InstanceID"], "EnabledState": import_service.CONNECTED,
               "HostResource": (paths.format_path(switch_reference(guid)),)} for port, guid in wiring.connected]
    return [(name, values) for name, values in ((planned.STORAGE, disks), (planned.PORT, ports)) if values]


def switch_reference(guid: str) -> Reference:
    """The address of a virtual switch."""
    return Reference(NAMESPACE, _SWITCH, {"CreationClassName": _SWITCH, "Name": guid})


def _finish(tools: Tools, begun: Begun, what: str) -> None:
    if begun.job is not None:
        jobs.wait(tools.writer, begun.job, what=what, clock=tools.clock, deadline=tools.deadline, progress=tools.progress, poll=1.0)


# -- validation and realisation ------------------------------------------------------------------------------------------


def validate(tools: Tools, made: Made, name: str) -> None:
    """Ask the host whether it can take the planned machine. Raises HypervError ``not_compatible`` with everything that it names."""
    what = f"validating {name!r}"
    problem: HypervError | None = None
    for _unused in _tries(tools, what):
        try:
            begun = import_service.validate(tools.writer, planned.reference_of(made.planned_id or ""))
            failed = _ended(tools, begun, what)
            made.found = import_service.incompatibilities_of(tools.writer, begun.job) if begun.job is not None else ()
        except (OutcomeUnknown, Busy) as error:
            problem = error
            continue
        if failed is not None and not made.found:
            made.found = (incompatibilities.of(None, failed.message),)
        if made.found:
            raise HypervError(f"This host cannot take {name!r}: {incompatibilities.sentence(made.found)}.", error_code="not_compatible",
                              hint=made.found[0].advice, details={"incompatibilities": [one.as_result() for one in made.found]})
        return
    raise problem or HypervError(f"{what} failed.", error_code="validation_refused")


def _ended(tools: Tools, begun: Begun, what: str) -> jobs.JobFailed | None:
    try:
        _finish(tools, begun, what)
    except jobs.JobFailed as error:
        return error
    return None


def realize(tools: Tools, wish: Wish, made: Made) -> Machine:
    """Make the planned machine a real one, and see that it is there with our mark. Raises HypervError ``realize_refused`` and its kin,
    ``settings_not_changed`` when the real one takes no mark."""
    vm_id, what = made.planned_id or "", f"making {wish.name!r} a real virtual machine"
    problem: HypervError | None = None
    for _unused in _tries(tools, what):
        try:
            _finish(tools, import_service.realize(tools.writer, planned.reference_of(vm_id)), what)
        except (OutcomeUnknown, Busy, NotFound) as error:
            problem = error
        except jobs.JobFailed as error:
            problem = error
        except HypervError:  # the host may have begun it all the same, and then it is a real machine that has to be told or removed
            with contextlib.suppress(HypervError):
                _note_real(made, _settled(tools, vm_id))
            raise
        machine = _settled(tools, vm_id)
        _note_real(made, machine)
        if machine is not None:
            return _marked(tools, wish, machine)
        if isinstance(problem, jobs.JobFailed):
            raise problem
    raise problem or HypervError(f"{what}: the host took it and does not show it.", error_code="realize_refused")


def _note_real(made: Made, machine: Machine | None) -> None:
    if machine is not None:
        made.machine_id, made.planned_id = machine.vm_id, None


def _marked(tools: Tools, wish: Wish, machine: Machine) -> Machine:
    """The real machine with our mark. Whether notes survive a realisation is not certain (D-14): they are written again if not."""
    settings = machine.settings
    mark = RestoreMark(machine.vm_id, wish.source.vm_id, wish.source.backup_id, wish.run_id, wish.mode)
    if settings is None or restore_marks.mark_of(machine.vm_id, settings.notes) == mark:
        return machine
    row = checkpoint_steps.change(
        tools, settings.reference, {"Notes": (restore_marks.stamped(settings.notes, mark),)},
        lambda seen: restore_marks.mark_of(machine.vm_id, "\n".join(seen.texts("Notes"))) == mark, f"marking {wish.name!r}")
    return replace(machine, settings=machines.read_settings(row))


def _settled(tools: Tools, vm_id: str) -> Machine | None:
    """The real machine, once the planned one is gone; None when the host shows the planned one only, and works on none any more."""
    for look in range(int(_SETTLE / _PAUSE)):
        machine = next((one for one in machines.read_machines(tools.writer).machines if one.vm_id == vm_id), None)
        if machine is not None and machine.settings is not None and vm_id not in planned.read_ids(tools.writer):
            return machine
        if look + 1 >= _TRIES and not import_service.at_work(tools.writer, import_service.REALIZE_JOB):
            return None
        tools.clock.sleep(_PAUSE)
    return None


# -- undoing -------------------------------------------------------------------------------------------------------------


def destroy(tools: Tools, reference: Reference, what: str) -> None:
    """Take a machine away and see that it is gone. Raises why it is still there."""
    problem: HypervError | None = None
    for _unused in _tries(tools, what):
        try:
            _finish(tools, import_service.destroy(tools.writer, reference), what)
        except NotFound:
            return
        except HypervError as error:
            if error.return_value is None and not isinstance(error, OutcomeUnknown | jobs.JobFailed | jobs.JobTimedOut):
                raise
            problem = error  # also a code for a machine that is gone since an answer was lost
        if not _is_there(tools, reference):
            return
    raise problem or HypervError(f"{what}: the host took it, and still shows the machine.", error_code="destroy_refused")


def _is_there(tools: Tools, reference: Reference) -> bool:
    try:
        tools.writer.get(reference)
    except NotFound:
        return False
    return True


def planned_leftover(vm_id: str, name: str, kind: str = "planned_vm") -> Leftover:
    """A planned machine that is still there. PowerShell shows none, so it is removed through the same method."""
    return Leftover(kind, vm_id, name, f"hyperv_cleanup with remove: true, or DestroySystem of Msvm_PlannedComputerSystem {vm_id}")


def machine_leftover(vm_id: str, name: str) -> Leftover:
    """A real machine that a drill could not remove."""
    return Leftover("drill_vm", vm_id, name, f"Get-VM -Id {vm_id} | Stop-VM -TurnOff -Passthru | Remove-VM")


def files_in_use(tools: Tools, folder: str) -> str | None:
    """The name of a machine, real or planned, one of whose files lies in a folder; None when nobody's does."""
    rows = tuple(tools.writer.enumerate(NAMESPACE, planned.STORAGE))
    settings = tuple(tools.writer.enumerate(NAMESPACE, planned.SETTINGS))
    if any(planned.lies_in(path, folder) for row in rows for path in row.texts("HostResource")):
        return "the disk of a virtual machine"
    for row in settings:
        if planned.lies_in(row.text("ConfigurationDataRoot"), folder):
            return row.text("ElementName") or "a virtual machine"
    return None


def doubtful_leftovers(made: Made, name: str) -> Sequence[Leftover]:
    """Planned machines of which nobody can tell whether they are ours."""
    return [planned_leftover(vm_id, name, "suspect_planned_vm") for vm_id in made.doubtful]
