# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a replication beyond its relation on the host of the task: that of the peer, and the machine that was the replica (7.6).

A GUID alone says nothing: both hosts have the machine under it, and the peer may keep it in a relation with a third host. What ends there
is a relation with this host. What is deleted is a replica that is off and has not taken over, or one that a run marked before it died.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError, Leftover, NotFound
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_apply, replica_steps
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_states as states
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.checkpoint_steps import Tools
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_apply import Done
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import REPLICA_MODES, TOOK_OVER, Side
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_plan import Work
from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_marks

REMOVED_THERE, DELETED = "removed_on_peer", "deleted_replica"
_SETTLE = 60.0
"""Seconds in which a host shows that a machine is replicated no more, once its relation has ended."""

Place = tuple[Side, Machine]
"""A machine, and the host that has it."""


@dataclass(frozen=True)
class Ending:
    """What ends with a relation. ``there``: its other end, None when the peer has none or was not asked. ``doomed``: the replica machines
    that are deleted. ``spared``: machines with a mark for deletion that have become the primary since."""

    there: Work | None = None
    doomed: tuple[Place, ...] = ()
    spared: tuple[Place, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """What is done, in the words of a result."""
        return (*([REMOVED_THERE] if self.there is not None else []), *(DELETED for _unused in self.doomed))


def decide(side: Side, other: Side | None, vm_id: str, *, delete: bool) -> Ending:
    """What ends with the relation of a machine on ``side``. ``delete``: the replica machine goes, too.

    Raises HypervError ``replica_running``, ``replica_took_over``, or with the state in which nobody should end a relation.
    """
    hosts = (side,) if other is None else (side, other)
    here = [(host, machine) for host in hosts if (machine := host.machine(vm_id)) is not None]
    return Ending(
        None if other is None else _other_end(side, other, vm_id),
        tuple(place for place in here if _goes(*place, side)) if delete else (),
        tuple(place for place in here if place[1].replication_mode == "primary" and is_marked(*place)))


def _other_end(side: Side, other: Side, vm_id: str) -> Work | None:
    machine, state = other.machine(vm_id), other.state(vm_id)
    if machine is None or state == states.NONE or not other.leads_to(side, vm_id):
        return None
    return Work(machine, state, states.steps_from(state, states.ABSENT))


def _goes(host: Side, machine: Machine, side: Side) -> bool:
    """Whether a machine was the replica, and is nothing else. Raises HypervError when it is the machine itself by now."""
    if machine.replication_mode == "none":
        return machine.state == "off" and is_marked(host, machine)
    if machine.replication_mode not in REPLICA_MODES or (host is not side and not host.leads_to(side, machine.vm_id)):
        return False
    if machine.state != "off":
        raise HypervError(f"The replica of {machine.name!r} on {host.name} is {machine.state}, so it is not deleted.",
                          error_code="replica_running", hint="A replica that runs is a failover. Nothing was done.")
    if host.state(machine.vm_id) in TOOK_OVER:
        raise HypervError(f"The replica of {machine.name!r} on {host.name} has taken over (state {host.state(machine.vm_id)}), so it is "
                          "not deleted.", error_code="replica_took_over",
                          hint="It is the machine now. Nothing was done; remove_replica_vm: false ends the relation alone.")
    return True


def is_marked(side: Side, machine: Machine) -> bool:
    """Whether a run has marked a machine for deletion, a week ago at most."""
    return replica_marks.is_doomed(_notes(machine), machine.vm_id, side.system.local_time)


def _notes(machine: Machine) -> str | None:
    return machine.settings.notes if machine.settings is not None else None


# -- apply ---------------------------------------------------------------------------------------------------------------


def mark(ending: Ending, tools_of: Callable[[Side], Tools]) -> None:
    """Before a relation ends: without it nothing but the mark says what its replica was. Raises as ``replica_steps.change_notes``."""
    for side, machine in ending.spared:
        replica_steps.change_notes(tools_of(side), machine, replica_marks.spared, "taking the mark for deletion from")
    for side, machine in ending.doomed:
        if not is_marked(side, machine):
            doomed = partial(replica_marks.doomed, vm_id=machine.vm_id, now=side.system.local_time)
            replica_steps.change_notes(tools_of(side), machine, doomed, "marking for deletion")


def finish(ending: Ending, tools_of: Callable[[Side], Tools], done: Done, other: Side | None) -> None:
    """End the other end, and delete what goes with it, unless the first end stayed; errors are in ``done``."""
    if done.error is not None:
        return
    try:
        if ending.there is not None and other is not None:
            replica_apply.remove(tools_of(other), ending.there.machine, other)
            done.done.append(REMOVED_THERE)
        for side, machine in ending.doomed:
            _delete(tools_of(side), side, machine)
            done.done.append(DELETED)
    except HypervError as error:
        done.error = error


def _delete(tools: Tools, side: Side, machine: Machine) -> None:
    """Delete what was the replica, when it still is nothing else. Raises HypervError ``replica_running``, as ``replica_apply.destroy``."""
    def is_left() -> bool:
        now = machines.join([tools.writer.get(machine.reference)], ())[0]
        return now.replication_mode == "none" and now.state == "off"

    try:
        if not replica_steps.until(tools, is_left, _SETTLE):
            raise HypervError(f"What was the replica of {machine.name!r} on {side.name} was put to use meanwhile, so it is not deleted.",
                              error_code="replica_running", hint="Look at it with hyperv_replica_info on that host.")
    except NotFound:
        return
    replica_apply.destroy(tools, machine)


def leftovers(done: Done, side: Side, other: Side | None) -> tuple[Leftover, ...]:
    """The end of a relation on the host that it led to, when that is still there."""
    machine = done.work.machine
    both = REMOVED_THERE in done.done and other is not None and side.leads_to(other, machine.vm_id)
    if states.REMOVE not in done.done or both or machine.replication_mode != "primary":
        return ()
    server = (done.work.before or {}).get("server")
    return (Leftover("replica_relation", machine.vm_id, str(server or "the replica server"),
                     "hyperv_replica with state: absent for this machine on that host"),)
