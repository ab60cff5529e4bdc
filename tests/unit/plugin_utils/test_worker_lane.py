# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker that outlives its ansible-playbook sends nothing any more."""
from __future__ import annotations

import multiprocessing
import os
import signal
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline, SystemClock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Endpoint
from ansible_collections.agentless.hyperv.plugins.plugin_utils import worker_lane
from ansible_collections.agentless.hyperv.plugins.plugin_utils.worker_lane import WorkerLane

FORK = multiprocessing.get_context("fork")


def ask(told: Any) -> None:
    """Ask a host that does not listen; tell how that ended."""
    lane = WorkerLane(Endpoint(scheme="http", host="127.0.0.1", port=1, transport="ntlm", username="x", password="x"), SystemClock())
    try:
        lane.send(b"<x/>", Deadline(SystemClock(), 5), repeatable=False)
    except HypervError as error:
        told.send(error.error_code)
    except SystemExit as end:
        told.send(end.code)


def worker(told: Any, killed: Any) -> None:
    """A session of its own, as a worker of ansible is; asks again when its parent is gone."""
    os.setsid()
    ask(told)
    killed.recv()
    ask(told)


def playbook(told: Any, killed: Any) -> None:
    FORK.Process(target=worker, args=(told, killed)).start()
    signal.pause()


def test_a_worker_whose_run_was_killed_asks_no_host() -> None:
    here, told = FORK.Pipe(duplex=False)
    waiting, killed = FORK.Pipe(duplex=False)
    run = FORK.Process(target=playbook, args=(told, waiting))
    run.start()
    assert here.poll(30)
    assert here.recv() == "unreachable"
    run.kill()
    run.join(30)
    killed.send(None)
    assert here.poll(30)
    assert here.recv() == 1


@pytest.mark.parametrize(("parent", "orphan"), [(None, False), (os.getppid(), False), (-1, True)])
def test_who_is_no_worker_is_no_orphan(monkeypatch: pytest.MonkeyPatch, parent: int | None, orphan: bool) -> None:
    class Parent:
        pid = parent

    monkeypatch.setattr(worker_lane.multiprocessing, "parent_process", lambda: None if parent is None else Parent())
    assert worker_lane.is_orphan() is orphan
