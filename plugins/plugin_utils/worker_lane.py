# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lane of a task: it ends with the ansible-playbook that the task belongs to."""
from __future__ import annotations

import multiprocessing
import os

from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane


def is_orphan() -> bool:
    """True in a worker process whose ansible-playbook is gone."""
    parent = multiprocessing.parent_process()
    return parent is not None and parent.pid != os.getppid()


class WorkerLane(PywinrmLane):
    """Sends nothing any more for a run that was killed.

    From ansible-core 2.19 on each worker is a session of its own, so that whoever kills the group of processes of a run - as ansible-runner
    does to a job that is cancelled - does not reach the workers. One that is waiting for a host would go on for hours, beside the run
    that is started again.
    """

    def _attempt(self, envelope: bytes, deadline: Deadline) -> bytes:
        if is_orphan():
            raise SystemExit(1)  # no error of the task: there is nobody to tell it to, and nothing may be cleaned up on the host
        return super()._attempt(envelope, deadline)
