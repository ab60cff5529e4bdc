# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which copies and exports stay."""
from __future__ import annotations


class ModuleDocFragment:
    """``agentless.hyperv.retention`` for modules that remove older copies or exports by rules."""

    DOCUMENTATION = r"""
options:
  keep:
    description:
      - Which copies of a virtual machine stay. Without it, all do. Of exports the same is true; both may lie in one destination, and are
        counted and removed by themselves.
      - Each rule looks at all verified copies that one host made of the virtual machine below O(destination) by itself, and keeps the
        newest copy of each of the last so many periods that hold one. A copy that any rule keeps stays; the others go.
      - They go after the virtual machine was protected, or when that was not needed. Nothing is removed when its newest run failed,
        and one verified copy is always kept.
      - Only what has a readable manifest in its place and all its files counts. Incomplete copies, those that say they are from the future,
        and what is not ours are neither counted nor removed.
      - Only the files that a manifest lists are removed. The manifest is renamed first. A removal that was interrupted is ended by the next
        run with O(keep).
      - A folder that holds other files stays, with these files, and a warning tells.
    type: dict
    suboptions:
      last: {description: The newest so many., type: int}
      hourly: {description: The newest of each of so many hours., type: int}
      daily: {description: The newest of each of so many days., type: int}
      weekly: {description: The newest of each of so many ISO weeks., type: int}
      monthly: {description: The newest of each of so many months., type: int}
      yearly: {description: The newest of each of so many years., type: int}
  timezone:
    description:
      - The IANA name of the time zone whose hours, days and so on O(keep) means, such as V(Europe/Berlin).
    type: str
    default: UTC
"""
