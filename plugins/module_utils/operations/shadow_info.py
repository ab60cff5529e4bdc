# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_shadow_copy_info``: every shadow copy of a host, with its owner, age and space."""
from __future__ import annotations

from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import shadow_facts


def run(call: Call) -> dict[str, Any]:
    """Read and tell; nothing is changed."""
    facts = shadow_facts.read(call.reader, storage=True)
    shadow_facts.warn_about_clock(call, facts)
    volume = shadow_facts.find_volume(facts, call.params["volume"]) if call.params["volume"] else None
    listed = shadow_facts.entries(facts, volume)
    return {"changed": False, "shadow_copies": listed, "counts": shadow_facts.counts(listed),
            "stale_links": list(facts.ownership.stale_links), "intents": len(facts.contents.intents)}
