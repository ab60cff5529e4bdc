# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As whom work runs on a host: the options ``run_as``, ``run_as_user`` and ``run_as_password`` of a task."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import tasks
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import check_value
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.tasks import RunAs

ARGUMENT_SPEC: dict[str, Any] = {
    "run_as": {"type": "str", "choices": ["system", "account", "session"], "default": "system"},
    "run_as_user": {"type": "str"},
    "run_as_password": {"type": "str", "no_log": True},
}
REQUIRED_IF = [("run_as", "account", ("run_as_user", "run_as_password"))]


@dataclass(frozen=True)
class Identity:
    """As whom a task's work runs. ``task``: what a scheduled task runs as; None for work in the session of the connection."""

    task: RunAs | None

    def at_share(self, host: str) -> str:
        """Who knocks at a share, for a message: an account, never a password."""
        if self.task is None:
            return "the account of the connection, which cannot reach another machine"
        return self.task.account or f"the computer account {host.upper()}$"


SYSTEM_IDENTITY = Identity(tasks.SYSTEM)


def read(params: Mapping[str, Any]) -> Identity:
    """The identity that a task's options name. Raises HypervError ``run_as_incomplete``, UnsafeText for an account's name."""
    kind = params["run_as"]
    account, password = params["run_as_user"], params["run_as_password"]
    if kind == "account":
        if not account or not password:
            raise HypervError("run_as: account needs run_as_user and run_as_password.", error_code="run_as_incomplete")
        return Identity(RunAs(check_value(str(account), "run_as_user"), str(password)))
    if account or password:
        raise HypervError(f"run_as_user and run_as_password belong to run_as: account, not to {kind}.", error_code="run_as_incomplete",
                          hint="Set run_as: account, or leave them out.")
    return Identity(tasks.SYSTEM if kind == "system" else None)
