# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that the relation of one machine is what a task asks for: a pure decision (operations 7.3)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import rows
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.rows import Change, OptionValue
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replica_server, replica_settings
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import ServerFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_states as states
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import (
    REPLICA_MODES,
    TOOK_OVER,
    Side,
    same_host,
)

MODIFY = "modify"
NETWORK, EXISTING, MEDIA, NO_COPY = "network", "existing", "media", "none"
BUILD_2016 = 14393
"""Before it a disk that is taken in later needs a resynchronisation."""
_A_WEEK = timedelta(days=7)
_RANGES = (("port", 1, 65535), ("recovery_history", 0, 24), ("app_consistent_interval", 0, 12))


@dataclass(frozen=True)
class Asked:
    """What a task asks for. ``settings``: only what it names. ``included`` and ``excluded``: paths or file names, None when not given."""

    goal: str
    settings: Mapping[str, Any]
    included: tuple[str, ...] | None
    excluded: tuple[str, ...] | None
    copy: str
    copy_at: datetime | None
    allow_reseed: bool
    allow_resync: bool
    media: str | None = None
    """Folder of the primary that the first copy is written to."""
    arrived: str | None = None
    """Folder of the replica server that it was carried to."""

    @property
    def waits(self) -> bool:
        """Whether somebody is to see the first copy come to its end: not one of a later hour, nor one that has to be carried."""
        return self.copy_at is None and self.copy != MEDIA

    @property
    def names_disks(self) -> bool:
        """Whether the task says which disks are replicated."""
        return self.goal == states.REPLICATING and (self.included is not None or self.excluded is not None)


@dataclass(frozen=True)
class Target:
    """Where a relation sends to, and how: what a test of the connection needs."""

    server: str
    port: int
    authentication: str
    thumbprint: str | None
    bypass_proxy: bool


@dataclass(frozen=True)
class Work:
    """What will be done with one machine. ``disks``: those that the relation is to include, None when that stays as it is."""

    machine: Machine
    state: str
    steps: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    before: Mapping[str, OptionValue] | None = None
    after: Mapping[str, Any] | None = None
    disks: tuple[Disk, ...] | None = None
    disks_before: tuple[Disk, ...] = ()
    left_out: tuple[str, ...] = ()
    """Paths of virtual disks that are not replicated, and that the task does not name: they came later, or somebody left them out."""

    @property
    def writes(self) -> bool:
        """Whether anything is changed; waiting is no change."""
        return any(step != states.WAIT for step in self.steps)

    def copied(self, asked: Asked) -> tuple[Disk, ...]:
        """The disks that the replica server has not, and gets."""
        if self.disks is None or (states.CREATE in self.steps and asked.copy == EXISTING):
            return ()
        return self.disks if states.CREATE in self.steps else tuple(disk for disk in self.disks if disk not in self.disks_before)

    @property
    def target(self) -> Target | None:
        """Where the connection has to be tested before; None when the steps need none."""
        moved = any(change.row.option in ("server", "port", "authentication", "certificate_thumbprint", "bypass_proxy")
                    for change in self.changes)
        if self.after is None or not (states.CREATE in self.steps or (MODIFY in self.steps and moved)):
            return None
        return Target(str(self.after["server"]), int(self.after["port"]), str(self.after["authentication"]),
                      self.after.get("certificate_thumbprint"), bool(self.after.get("bypass_proxy")))


def check(settings: Mapping[str, Any]) -> None:
    """Values that no relation can have. Raises HypervError ``invalid_option``."""
    for option, least, most in _RANGES:
        value = settings.get(option)
        if value is not None and not least <= value <= most:
            raise HypervError(f"{option} is {value}, and may be {least} to {most}.", error_code="invalid_option")


def _check_together(after: Mapping[str, Any]) -> None:
    if after.get("app_consistent_interval") and not after.get("recovery_history"):
        raise HypervError("app_consistent_interval needs recovery_history: without further points there is none to be consistent.",
                          error_code="invalid_option", hint="Set recovery_history to 1 or more.")
    if after.get("authentication") == "certificate" and not after.get("certificate_thumbprint"):
        raise HypervError("Replication by certificate needs certificate_thumbprint: the certificate of the host that sends.",
                          error_code="certificate_missing")


def decide(side: Side, machine: Machine, asked: Asked, disks: Sequence[Disk], peer: Side | None) -> Work:
    """The steps for one machine. ``disks``: all of its own, read only where they matter. Raises HypervError with the reason."""
    if asked.goal == states.ABSENT:
        state = side.state(machine.vm_id)
        current = side.shown(machine.vm_id) if state != states.NONE else {}
        return Work(machine, state, states.steps_from(state, states.ABSENT), before=current)
    if machine.replication_mode in REPLICA_MODES and asked.arrived is not None:
        return _take_in(side, machine, asked)
    if machine.replication_mode in (*REPLICA_MODES, "test_replica"):
        raise HypervError(f"{machine.name!r} is a {machine.replication_mode.replace('_', ' ')} on this host.", error_code="vm_is_replica",
                          hint="Replication is declared on the host that has the primary. To turn the roles, use hyperv_replica_failover.")
    state = side.state(machine.vm_id)
    return _create(side, machine, asked, disks) if state == states.NONE else _change(side, machine, asked, disks, peer)


def _take_in(side: Side, machine: Machine, asked: Asked) -> Work:
    """A replica whose first copy has come on media."""
    state = side.state(machine.vm_id)
    steps = (states.IMPORT,) if state == "initial_replication" else states.steps_from(state, asked.goal)
    if any(step not in (states.IMPORT, states.WAIT) for step in steps):
        raise HypervError(f"The replica {machine.name!r} waits for no first copy (state {state}).", error_code="vm_is_replica",
                          hint="What else has to be done is declared on the host that has the primary.")
    return Work(machine, state, steps, before=side.shown(machine.vm_id))


def _create(side: Side, machine: Machine, asked: Asked, disks: Sequence[Disk]) -> Work:
    steps = _trimmed(states.steps_from(states.NONE, asked.goal), asked)
    if states.COPY in steps:
        _check_moment(asked.copy_at, side.system.local_time)
    after = _with_defaults(asked.settings, {})
    _check_together(after)
    changes = rows.differences(replica_settings.ROWS, {}, after, side.system.build)
    chosen = _chosen(machine, disks, asked)
    return Work(machine, states.NONE, steps, changes, {}, rows.after({}, changes), chosen)


def _check_moment(moment: datetime | None, now: datetime) -> None:
    """A first copy begins within seven days (operations 7.3). The host would refuse it when the relation is made already."""
    if moment is not None and not now <= moment <= now + _A_WEEK:
        raise HypervError(f"initial_copy_at is {moment.isoformat()}, which is not within seven days from now ({now.isoformat()}).",
                          error_code="invalid_option", hint="Leave it out to copy now.")


def _with_defaults(settings: Mapping[str, Any], current: Mapping[str, Any]) -> dict[str, Any]:
    """A new relation needs server, authentication and port; another authentication has another port."""
    if not current and "server" not in settings:
        raise HypervError("It is not replicated yet, and the task names no server.", error_code="server_missing",
                          hint="Set server to the full name of the replica server.")
    found: dict[str, Any] = {} if current else {"authentication": "kerberos"}
    found.update(settings)
    method = found.get("authentication", current.get("authentication"))
    if "port" not in found and method != current.get("authentication"):
        found["port"] = replica_settings.DEFAULT_PORTS[str(method)]
    return found


def _chosen(machine: Machine, disks: Sequence[Disk], asked: Asked) -> tuple[Disk, ...]:
    """The disks that a relation is to include. Raises HypervError ``disk_unknown``, ``disk_not_replicable``, ``no_disk_included``."""
    virtual = [disk for disk in disks if disk.kind == "virtual"]
    for wanted in (*(asked.included or ()), *(asked.excluded or ())):
        if not any(replica_settings.is_meant(disk, wanted) for disk in virtual):
            raise HypervError(f"{machine.name!r} has no virtual disk {wanted!r}.", error_code="disk_unknown",
                              hint="Name its path, or the name of its file alone.",
                              details={"disks": [disk.path for disk in virtual]})
    chosen = [disk for disk in virtual if (asked.included is None or any(replica_settings.is_meant(disk, one) for one in asked.included))
              and not any(replica_settings.is_meant(disk, one) for one in asked.excluded or ())]
    shared = [disk for disk in chosen if disk.shared]
    if shared:
        raise HypervError(f"The disk {shared[0].path} of {machine.name!r} is shared, and shared disks cannot be replicated.",
                          error_code="disk_not_replicable", hint="Leave it out by excluded_disks.")
    if not chosen:
        raise HypervError(f"No virtual disk of {machine.name!r} would be replicated.", error_code="no_disk_included")
    return tuple(chosen)


def _change(side: Side, machine: Machine, asked: Asked, disks: Sequence[Disk], peer: Side | None) -> Work:
    state, current = side.state(machine.vm_id), side.shown(machine.vm_id)
    if peer is not None and peer.state(machine.vm_id) in TOOK_OVER and peer.leads_to(side, machine.vm_id):
        raise _took_over(machine, peer)
    wanted = _with_defaults(asked.settings, current)
    changes = rows.differences(replica_settings.ROWS, current, wanted, side.system.build)
    after = rows.after(current, changes)
    if changes:
        _check_together(after)
    chosen, there = (_chosen(machine, disks, asked), _included(side, machine, disks)) if asked.names_disks else (None, ())
    if chosen is not None and {disk.instance_id for disk in chosen} == {disk.instance_id for disk in there}:
        chosen = None
    reason = _reseed_reason(machine, current, changes, chosen, there, peer)
    steps = states.steps_from(state, asked.goal)
    if states.COPY in steps:
        _check_moment(asked.copy_at, side.system.local_time)
    if reason is not None and not asked.allow_reseed:
        raise HypervError(f"{reason} The copy of {machine.name!r} would be lost, and made again from the beginning.",
                          error_code="reseed_needed", hint="Set allow_reseed: true if that is meant.")
    if reason is not None and any(change.row.option == "server" for change in changes):
        if asked.goal != states.REPLICATING:
            raise HypervError(f"{reason} A relation with another server is made with state: present.", error_code="invalid_option")
        new = {**current, **wanted}
        rest = states.steps_from(states.NONE, states.REPLICATING)
        known = {name: value for name, value in new.items() if value is not None}
        fresh = rows.differences(replica_settings.ROWS, {}, known, side.system.build)
        return Work(machine, state, (states.REMOVE, *_trimmed(rest, asked)), fresh, current, after, _chosen(machine, disks, asked), there)
    more = chosen is not None and not {disk.instance_id for disk in chosen} <= {disk.instance_id for disk in there}
    if (states.RESYNC in steps or (more and side.system.build < BUILD_2016)) and not asked.allow_resync:
        raise resync_required(machine)
    rest = _trimmed(steps, asked, state)
    if changes or chosen is not None:
        # the set of disks is changed while it replicates, so after a pause has ended
        at = 1 if chosen is not None and rest[:1] == (states.RESUME,) else 0
        rest = (*rest[:at], MODIFY, *rest[at:])
    return Work(machine, state, rest, changes, current, after, chosen, there,
                () if asked.goal != states.REPLICATING or asked.names_disks else _left_out(side, machine, disks))


def _took_over(machine: Machine, peer: Side) -> HypervError:
    """What this host has is the older one then: sending it would overwrite what was written there."""
    return HypervError(f"{machine.name!r} has failed over to {peer.name} (state {peer.state(machine.vm_id)}), so nothing is sent there.",
                       error_code="failover_in_progress", details={"state": peer.state(machine.vm_id)},
                       hint="Finish it on that host with hyperv_replica_failover: commit and reverse, or cancel.")


def _left_out(side: Side, machine: Machine, disks: Sequence[Disk]) -> tuple[str, ...]:
    row = replica_settings.of_machine(side.settings, machine.vm_id)
    return () if row is None else replica_settings.left_out(row, disks)


def resync_required(machine: Machine) -> HypervError:
    """The host wants what nobody has allowed."""
    return HypervError(f"{machine.name!r} needs a resynchronisation: both sides are compared as a whole, which loads both hosts.",
                       error_code="resync_required", hint="Set allow_resync: true, at a time when that does no harm.")


def _included(side: Side, machine: Machine, disks: Sequence[Disk]) -> tuple[Disk, ...]:
    row = replica_settings.of_machine(side.settings, machine.vm_id)
    return () if row is None else replica_settings.included(row, disks)


def _reseed_reason(machine: Machine, current: Mapping[str, OptionValue], changes: Sequence[Change], chosen: Sequence[Disk] | None,
                   there: Sequence[Disk], peer: Side | None) -> str | None:
    """Why a change would throw the copy away; None when it does not."""
    for change in changes:
        moved = change.row.option == "server" and not same_host(str(current.get("server") or ""), str(change.after))
        if moved and not (_has_replica(peer, machine.vm_id) and is_server(peer, str(change.after))):
            return f"{machine.name!r} is replicated to {change.before}, not to {change.after}."
    if chosen is not None:
        kept = {disk.instance_id for disk in chosen}
        lost = [disk.path for disk in there if disk.instance_id not in kept]
        if lost:
            return f"The disk {lost[0]} is replicated now, and would not be any more."
    return None


def is_server(peer: Side | None, server: str) -> bool:
    """Whether a host is the one that a relation names, as far as names tell: a Replica Broker has another name than its nodes."""
    return peer is not None and same_host(peer.name, server)


def _has_replica(peer: Side | None, vm_id: str) -> bool:
    machine = peer.machine(vm_id) if peer is not None else None
    return machine is not None and machine.replication_mode in REPLICA_MODES


def _trimmed(steps: tuple[str, ...], asked: Asked, state: str = states.NONE) -> tuple[str, ...]:
    """Without the copy, when none is wanted now; a copy of a later hour is not waited for."""
    if asked.copy == NO_COPY and states.COPY in steps:
        return steps[:steps.index(states.COPY)]
    if not asked.waits and (states.COPY in steps or state == "initial_replication"):
        return tuple(step for step in steps if step != states.WAIT)
    return steps


# -- the other side ------------------------------------------------------------------------------------------------------


def refuse_peer(side: Side, work: Work, asked: Asked, peer: Side, server: ServerFacts) -> None:
    """What the replica server would refuse, or what would be in the way there. Raises HypervError."""
    target = work.target
    if target is None:
        return
    _refuse_listener(side, target, peer, server)
    if states.CREATE in work.steps:  # also when another relation goes before: nothing goes for one that cannot be made
        _refuse_what_is_there(work.machine, target, asked, peer)


def _refuse_listener(side: Side, target: Target, peer: Side, server: ServerFacts) -> None:
    method = target.authentication
    port = server.settings.get("http_port" if method == "kerberos" else "https_port")
    if not server.settings.get("enabled"):
        raise HypervError(f"{peer.name} is no replica server.", error_code="replica_server_disabled",
                          hint="Make it one with hyperv_replica_server.")
    if not replica_server.uses(server.settings.get("authentication"), method) or port != target.port:
        raise HypervError(f"{peer.name} listens for {server.settings.get('authentication')} on port {port}, and the task wants {method} on "
                          f"port {target.port}.", error_code="replica_server_differs", hint="Set authentication and port as it has them.")
    if not any(entry.admits(side.name) for entry in server.authorizations):
        raise HypervError(f"{peer.name} does not let {side.name} send replicas.", error_code="not_authorized",
                          hint="Add it to authorization of hyperv_replica_server there.")


def _refuse_what_is_there(machine: Machine, target: Target, asked: Asked, peer: Side) -> None:
    there = peer.machine(machine.vm_id)
    if there is None:
        if asked.copy == EXISTING:
            raise HypervError(f"{peer.name} has no virtual machine with the GUID of {machine.name!r} to begin with.", error_code="no_seed",
                              hint="Restore or import a copy there that keeps its GUID, or use initial_copy: network.")
        return
    if there.replication_mode == "primary":
        raise HypervError(f"{there.name!r} is a primary on {peer.name}, too: one machine cannot be replicated both ways.",
                          error_code="both_primary", hint="Decide which one is right, and remove the replication of the other.")
    if asked.copy != EXISTING:
        raise HypervError(f"{peer.name} has a virtual machine with the GUID of {machine.name!r} already ({there.name!r}, "
                          f"{there.replication_mode}).", error_code="leftover_on_replica",
                          hint="If it is the copy of an earlier replication, begin with initial_copy: existing, or remove it there.")
    if not is_server(peer, target.server):
        raise HypervError(f"The copy of {machine.name!r} on {peer.name} does not become a replica of a relation with {target.server}.",
                          error_code="peer_is_not_server", hint="Name as peer the host that is the server.")
    if there.replication_mode == "none" and (there.state != "off" or any(one.vm_id == there.vm_id for one in peer.checkpoints)):
        raise HypervError(f"{there.name!r} on {peer.name} cannot become the replica: it is {there.state}, or has checkpoints.",
                          error_code="no_seed", hint="Turn it off there, and remove its checkpoints.")
