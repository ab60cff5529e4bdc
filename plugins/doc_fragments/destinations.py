# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Places of copies, each with the identity that copies go there as."""
from __future__ import annotations


class ModuleDocFragment:
    """``agentless.hyperv.destinations`` for modules that look at several places."""

    DOCUMENTATION = r"""
options:
  destinations:
    description:
      - Where copies and exports go. The filter P(agentless.hyperv.backup_destinations#filter) makes this list of backup policies.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: A folder on a volume of the host, or one below a share.
        type: str
        required: true
      run_as:
        description: As whom copies go there, as in M(agentless.hyperv.hyperv_vss_copy).
        type: str
        choices: [system, account, session]
        default: system
      run_as_user:
        description: The account of O(destinations[].run_as=account).
        type: str
      run_as_password:
        description: Its password.
        type: str
"""
