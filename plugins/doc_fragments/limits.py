# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many runs work on one host, out of one volume and into one share at the same time."""
from __future__ import annotations


class ModuleDocFragment:
    """``agentless.hyperv.limits`` for modules that write to destinations."""

    DOCUMENTATION = r"""
options:
  host_limit:
    description:
      - How many runs may protect virtual machines of this host at the same time, such as two jobs of AWX. V(0) is no limit, V(32) the
        largest.
      - The slots lie in the state folder of the host, so that the limit holds for all plays and controllers that name the same one.
      - A run holds one slot of each limit or none at all, and only when there is something to do. One of a run that died ends by itself
        within half an hour; with O(run_as=session) that is O(timeout) later. What goes on on the host after its task is over holds none.
    type: int
    default: 0
  volume_limit:
    description:
      - How many runs may read from one volume at the same time. V(0) is no limit, V(32) the largest.
      - The slots lie in the state folder of the host. Those of a cluster shared volume lie at the share of the destination, in
        C(agentless.hyperv\\slots), so that the limit holds for all nodes that copy to that share. With a local destination, and for runs
        that copy to different shares, it holds for each node, or each share, by itself.
    type: int
    default: 0
  target_limit:
    description:
      - How many hosts may write to the share of the destination at the same time. V(0) is no limit, V(32) the largest.
      - The slots lie at the share, in C(agentless.hyperv\\slots), so that the limit holds for all plays, controllers and AWX job slices
        that name the same one. It means nothing for a folder of the host.
    type: int
    default: 0
  target_wait:
    description:
      - Seconds to wait for the slots of O(host_limit), O(volume_limit) and O(target_limit). Then the task fails with C(host_limit_reached),
        C(volume_limit_reached) or C(target_busy), and nothing was begun. The time counts for O(timeout), too.
      - A task that had to wait reads the host again and decides anew; what another run has done meanwhile is not done twice.
    type: int
    default: 3600
"""
