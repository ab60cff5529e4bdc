# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As whom work that outlives the connection runs on the host."""
from __future__ import annotations


class ModuleDocFragment:
    """``agentless.hyperv.run_as`` for modules that copy or look at destinations."""

    DOCUMENTATION = r"""
options:
  run_as:
    description:
      - As whom the work on the host is done.
      - V(system) runs it as a scheduled task of SYSTEM in the folder C(\agentless.hyperv\). It goes on when the connection or the
        controller is lost. At a share it knocks as the computer account of the host, C(DOMAIN\HOST$), which needs the right to change
        files on the share and in its folder.
      - V(account) runs the same task as O(run_as_user), for shares that know no computer accounts. The account must be an administrator
        of the host, and may log on as a batch job there.
      - V(session) runs it in the WinRM session. It ends with the connection, and reaches local folders only.
    type: str
    choices: [system, account, session]
    default: system
  run_as_user:
    description: The account of O(run_as=account), as C(DOMAIN\name) or C(name@domain).
    type: str
  run_as_password:
    description:
      - Its password. It travels only inside the registration of the task, and only on an encrypted connection. The Task Scheduler
        of the host keeps it until the task is deleted, which is as soon as its result was read.
    type: str
"""
