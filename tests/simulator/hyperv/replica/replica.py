# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything of Replica on one host."""
from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.hyperv.model import Machine, Relation
from simulator.hyperv.replica.adapters import Adapters
from simulator.hyperv.replica.drills import Drills
from simulator.hyperv.replica.failover import Failovers
from simulator.hyperv.replica.knobs import ReplicaKnobs
from simulator.hyperv.replica.media import Media
from simulator.hyperv.replica.network import ReplicaNetwork
from simulator.hyperv.replica.receiver import Receiver
from simulator.hyperv.replica.requests import StateRequests
from simulator.hyperv.replica.sender import Sender
from simulator.hyperv.replica.server import ReplicaServer
from simulator.hyperv.replica.service import Relations
from simulator.hyperv.replica.state import REPLICATING, RESYNC_REQUIRED

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV


class Replica:
    """The parts of Replica on one host."""

    def __init__(self, role: HyperV, network: ReplicaNetwork | None = None) -> None:
        self._role = role
        self.knobs = ReplicaKnobs()
        self.server = ReplicaServer(role)
        self.receiver = Receiver(role)
        self.relations = Relations(role)
        self.media = Media(role)
        self.requests = StateRequests(role)
        self.failovers = Failovers(role)
        self.drills = Drills(role)
        self.adapters = Adapters(role)
        self.network = network or ReplicaNetwork()
        self.network.register(role)
        self.stopped = False
        """The management service does not run: nothing is sent and nobody is let in."""
        self._senders: dict[int, Sender] = {}
        """By identity of the relation."""

    def sender(self, machine: Machine, relation: Relation) -> Sender | None:
        """The sending side of a relation; None for one that receives, and for a description."""
        if relation.inbound is not None or not relation.live:
            return None
        found = self._senders.get(id(relation))
        if found is None:
            found = self._senders[id(relation)] = Sender(self._role, machine, relation)
            self.network.clocks.add(self._role.clock)
        return found

    def crashed(self, machine: Machine) -> None:
        """The host lost its power while a machine ran: what was being tracked for its replica is not known any more (F-42)."""
        for relation in machine.relations:
            if relation.inbound is None and relation.live and relation.state == REPLICATING and self.knobs.crash_needs_resync:
                relation.state = RESYNC_REQUIRED

    def machine_removed(self, machine: Machine) -> None:
        """A machine left the host."""
        for relation in machine.relations:
            self.drop_sender(relation)
            if relation.inbound is not None and relation.inbound.timer is not None:
                relation.inbound.timer.cancel()
        self.drills.machine_removed(machine)

    def drop_sender(self, relation: Relation) -> None:
        """Nothing is sent any more."""
        sender = self._senders.pop(id(relation), None)
        if sender is not None:
            sender.stop()

    def service_restarted(self) -> None:
        """The management service restarted: relations go on, what was under way begins anew."""
        for sender in list(self._senders.values()):
            sender.service_restarted()
        for machine in self._role.machines.values():
            for relation in machine.relations if "relations" in machine.__dict__ else ():
                self.failovers.service_restarted(relation)
                if relation.inbound is not None and relation.inbound.waiting:
                    self.receiver.apply(machine, relation)
