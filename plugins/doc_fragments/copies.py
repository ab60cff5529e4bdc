# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What modules that leave copies or exports of virtual machines at a destination have in common."""
from __future__ import annotations


class ModuleDocFragment:
    """``agentless.hyperv.copies``. What consistency a module reaches is its own to document."""

    DOCUMENTATION = r"""
options:
  names:
    description:
      - Names or GUIDs of the virtual machines that are meant, or V(all).
      - One virtual machine's failure never stops the others. The task fails at the end, and RV(results) says what became of each.
    type: list
    elements: str
  destination:
    description:
      - Folder of the host, on another volume than the disks, which is made when it is missing. Or a share, or a folder in one, that is
        there, such as V(\\\\backup01\\hyperv); O(run_as) says who knocks there.
      - What is made lies in C(<destination>\<host>\<name>_<first 8 of the GUID>\<UTC time>_<run id>).
    type: str
    required: true
  max_age:
    description:
      - What this module made and verified, and that is younger than this, counts as present, and nothing is done. For example V(90m),
        V(20h) or V(7d).
      - Only when all files are there, with the sizes that the manifest says, and the consistency is one that the task accepts.
      - The age is that of the data, by the clock of the host.
      - Without it, and without O(run_id), each run makes a new one.
    type: str
  run_id:
    description:
      - Name of this run, of letters, digits and hyphens. What the same run made counts as present, so that a retry does nothing twice.
      - It is made up when it is not given.
    type: str
  consistency_fallback:
    description:
      - What to accept when O(consistency) cannot be reached.
    type: str
    choices: [fail, crash, image]
    default: fail
"""
