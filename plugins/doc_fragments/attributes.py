# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is the same for every module: attributes, requirements and the notes on the connection."""
from __future__ import annotations


class ModuleDocFragment:
    """``agentless.hyperv.attributes`` for modules that change something, ``.info`` beside it for those that do not."""

    DOCUMENTATION = r"""
requirements:
  - pywinrm >= 0.5.0 on the controller; C(pywinrm[kerberos]) or C(pywinrm[credssp]) for those transports
  - WinRM on the host, and an account that is a local administrator there
notes:
  - The module runs on the controller and speaks CIM over WS-Management to the host. It starts no PowerShell and installs nothing.
  - Address, account and every other detail come from the connection plugin of the task, V(winrm) or V(psrp), exactly as for other
    tasks on the host. There are no options for credentials.
  - O(ignore:gather_facts) of a play starts PowerShell on the host; set it to V(false) where that is not wanted.
options: {}
attributes:
  action:
    description: Indicates this has a corresponding action plugin, so that it runs in process on the controller.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: none
    details:
      - Ansible would look for the job on the Windows host. Long work goes on by itself on the host; use O(ignore:timeout).
  become:
    description: Is usable with the C(become) keyword.
    support: none
    details:
      - The rights are those of the account of the connection.
  delegation:
    description: Can be used in conjunction with C(delegate_to) and related keywords.
    support: full
    details:
      - Delegation to another Hyper-V host uses the connection of that host. Delegation to V(localhost) is refused.
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: windows
"""

    WRITES = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
    details:
      - The whole preflight runs; the host sees no request that would change it.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying the target.
    support: full
    details:
      - This module does not modify state.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: N/A
    details:
      - This module does not modify state.
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/agentless.hyperv.hyperv) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - agentless.hyperv.hyperv
"""
