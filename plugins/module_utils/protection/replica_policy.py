# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a VM whose policy is ``replica`` counts as protected: by what its host says of its replication, and nothing is changed."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ansible_collections.agentless.hyperv.plugins.module_utils.protection import replica_lag
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.replica_lag import Standing
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.report_facts import REPLICAS

USUAL_MAX_AGE = "1h"
"""How far a replica may be behind where the policy does not say it: four of the longest cycles."""


@dataclass(frozen=True)
class Refusal:
    """Why it does not count."""

    error_code: str
    hint: str
    sentence: str = ""


_LOOK = "hyperv_replica_info has the details of both sides."
_RESUME = "The role replica, or hyperv_replica with state: present, goes on with it."
_REPLICA = Refusal("replica_vm", "Protect the primary on its own host.", "It is a replica itself.")
_NONE = Refusal("not_replicated", "Replicate it with the role replica, or give it a policy that copies it.", "It has no replication.")
_FAILOVER = Refusal("failover_in_progress", "Finish it with hyperv_replica_failover.", "A failover of it is not finished.")
_ILL: Mapping[str, Refusal] = {
    "critical": Refusal("replica_critical", _LOOK), "warning": Refusal("replica_warning", _LOOK),
    "not_copied": Refusal("replica_not_copied", _RESUME), "not_replicating": Refusal("not_replicating", _RESUME),
    "lag": Refusal("replica_lag", _LOOK), "lag_unknown": Refusal("replica_lag_unknown", _LOOK),
}


def refusal(mode: str, one: Standing) -> Refusal | None:
    """None for a VM that counts as protected. ``one.interval``: how old its last replication may be, in seconds."""
    if mode in REPLICAS:
        return _REPLICA
    if one.state == "none":
        return _NONE
    if one.state in replica_lag.FAILOVERS:
        return _FAILOVER
    for word in replica_lag.ills(one):
        return replace(_ILL[word], sentence=replica_lag.sentence(word, one))
    return None if one.health == "ok" else replace(_ILL["warning"], sentence=f"The health of its replication is {one.health}.")
