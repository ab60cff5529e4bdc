# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many runs write to one share at the same time."""
from __future__ import annotations


class ModuleDocFragment:
    """``agentless.hyperv.target_limit`` for modules that write to destinations."""

    DOCUMENTATION = r"""
options:
  target_limit:
    description:
      - How many hosts may write to the share of the destination at the same time. V(0) is no limit, V(32) the largest.
      - The slots lie at the share, in C(agentless.hyperv\\slots), so that the limit holds for all plays, controllers and AWX job slices
        that name the same one. It means nothing for a folder of the host.
      - A slot is taken only when something is to be copied. One of a run that died ends by itself within half an hour.
    type: int
    default: 0
  target_wait:
    description: Seconds to wait for a slot; then the task fails with C(target_busy) and nothing was begun.
    type: int
    default: 3600
"""
