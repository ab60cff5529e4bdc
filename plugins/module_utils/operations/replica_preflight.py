# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the host that receives, or the way to it, can tell before anything is written: listener, entries, room, connection (7.3)."""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import replica_server
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.replica_server import Authorization, ServerFacts
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Host
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_apply, replica_plan, replica_room
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_states as states
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_facts import Side
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_plan import Asked, Target, Work
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.replica_room import Room


@dataclass
class Ways:
    """The ways from the host of a task to where it replicates; each is tried once, whatever the number of machines."""

    call: Call
    tried: dict[Target, HypervError | None] = field(default_factory=dict)

    def reach(self, target: Target) -> None:
        """Have the host reach a replica server. Raises HypervError ``connection_test_failed``."""
        if target not in self.tried:
            self.tried[target] = self._test(target)
        problem = self.tried[target]
        if problem is not None:
            raise problem

    def _test(self, target: Target) -> HypervError | None:
        try:
            replica_apply.test_connection(self.call.reader, target, self.call.clock, self.call.progress)
        except HypervError as error:
            return error
        return None


@dataclass
class Peer:
    """The host that receives; what it has is read once, and only when it matters."""

    call: Call
    host: Host
    side: Side

    @cached_property
    def server(self) -> ServerFacts:
        """It as a replica server; three requests."""
        return replica_server.read(self.host.reader, self.side.system.build)

    @cached_property
    def room(self) -> Room:
        """Its volumes; one request."""
        return replica_room.read_room(self.host.reader, self.side.name)

    def check(self, sender: Side, work: Work, asked: Asked) -> Authorization | None:
        """What it would refuse. Returns the entry under which a copy that it has becomes a replica, None when none does.

        Raises HypervError as ``replica_plan.refuse_peer``.
        """
        if work.target is None:
            return None
        replica_plan.refuse_peer(sender, work, asked, self.side, self.server)
        if not replica_plan.is_server(self.side, work.target.server):
            self.call.warn(f"{work.machine.name}: the peer calls itself {self.side.name}, and not {work.target.server}. What it says is "
                           "taken to hold for that server, as for a node behind a Replica Broker.")
        seeded = asked.copy == replica_plan.EXISTING and states.CREATE in work.steps
        return self.server.entry_for(sender.name) if seeded else None

    def take_room(self, sender: Side, work: Work, asked: Asked) -> None:
        """Room for the disks that it gets. Raises HypervError ``no_room_on_replica``."""
        copied = work.copied(asked)
        if not copied:
            return
        entry = self.server.entry_for(sender.name)
        said = self.room.take(work.machine.name, entry.storage if entry is not None else "",
                              replica_room.read_need(self.call.reader, copied))
        if said is not None:
            self.call.warn(said)
