# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relations that are there when a test begins: as if somebody had made them and copied the disks some time ago."""
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.hyperv.model import Machine
from simulator.hyperv.replica import content
from simulator.hyperv.replica.receiver import new_relation
from simulator.hyperv.replica.settings import replicable
from simulator.hyperv.replica.state import REGULAR, REPLICATING, RelationSettings

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV


def establish(primary: HyperV, name: str, settings: RelationSettings) -> Machine:
    """Replicate the only machine of that name, all its disks, in an instant; the replica.

    ``settings`` name the Replica server. Unreachable: it does not let the primary in. KeyError: no such machine.
    """
    machine = primary.find(name)
    primary.disks.materialise_machine(machine)
    server = primary.replica.network.connect(primary, settings)
    included = settings.included or tuple(device.disk.index for device in replicable(machine) if device.disk is not None)
    settings = replace(settings, included=included, recovery_host=server.host.fqdn, primary_point=primary.host.fqdn,
                       primary_host=primary.host.fqdn)
    theirs = server.replica.receiver.accept(primary, machine, settings, False)
    own = new_relation(primary, 0, REPLICATING, settings)
    machine.relations.append(own)
    machine.replication_mode = 1
    replica, _relation = server.replica.receiver.relation(machine.id, primary)
    sender = primary.replica.sender(machine, own)
    assert sender is not None
    server.replica.receiver.prepare_files(replica, theirs, included)
    pieces = content.new_pieces(primary, {disk.index: disk for disk in machine.disks if disk.index in included}, sender.baseline)
    server.replica.receiver.copy(replica, theirs, pieces)
    sender.baseline.has(pieces)
    now = primary.clock.now()
    for side in (own, theirs):
        side.state, side.last_time, side.last_type = REPLICATING, now, REGULAR
    theirs.last_apply = now
    sender.start_cycles()
    return replica
