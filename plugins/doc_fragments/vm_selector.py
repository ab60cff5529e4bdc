# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options that say which one virtual machine is meant."""
from __future__ import annotations


class ModuleDocFragment:
    """``agentless.hyperv.vm_selector``. What ``names`` means differs from module to module, so it is theirs to document."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - Name of the one virtual machine, compared without case.
      - The task fails when there is none, and when there are several; the message lists their GUIDs.
    type: str
  vm_id:
    description: GUID of the one virtual machine. Takes precedence over O(name).
    type: str
"""
