# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything of Replica on one host."""
from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.hyperv.replica.knobs import ReplicaKnobs
from simulator.hyperv.replica.server import ReplicaServer

if TYPE_CHECKING:
    from simulator.hyperv.role import HyperV


class Replica:
    """The parts of Replica on one host."""

    def __init__(self, role: HyperV) -> None:
        self.knobs = ReplicaKnobs()
        self.server = ReplicaServer(role)
