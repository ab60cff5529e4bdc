# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""Intents for checkpoints: ``<state folder>\intents\<run>_<token>.checkpoint``, one for a run, whatever the number of its machines.

A checkpoint has no name of ours before it is there, and its kind follows from a policy of its machine that may have to be another one for a
moment (operations 2.2, 0.8). So the intent says first: which machines, which policy each has, and which one it gets. It goes at the end of
the run. One that is still there when its run holds no lease any more says what has to be put back, and which checkpoints are suspect.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import as_guid
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.intent_store import Head, IntentStore

WINDOW = timedelta(hours=1)
"""An unmarked checkpoint that is at most so much younger than an intent for its machine may have come of it."""

_CLASS = re.compile(r"(?:Msvm|CIM)_[A-Za-z]{1,60}\Z")
_LONGEST = 200
_POLICIES = ("disabled", "production", "production_only", "standard")


@dataclass(frozen=True)
class BegunJob:
    """The job of a creation that was begun and not waited for."""

    class_name: str
    job_id: str


@dataclass(frozen=True)
class MachineIntent:
    """One machine: the policy that it has, and the one it gets until its checkpoint is there; the same when nothing changes, None when
    the host has no policies. ``job``: a creation that goes on, and ``level`` the consistency that it reaches without memory."""

    vm_id: str
    was: str | None
    now: str | None
    job: BegunJob | None = None
    level: str | None = None

    def as_data(self) -> dict[str, Any]:
        """What its part of the file says."""
        data: dict[str, Any] = {"vm_id": self.vm_id, "was": self.was, "now": self.now}
        if self.job is not None:
            data.update({"job_class": self.job.class_name, "job": self.job.job_id, "level": self.level})
        return data


@dataclass(frozen=True)
class CheckpointIntent:
    """What a run is about to do. ``token`` tells the intents of one run apart, also those of a retry. ``checkpoint``: the name that the
    task gives."""

    run_id: str
    token: str
    host_time: datetime
    machines: tuple[MachineIntent, ...]
    checkpoint: str | None = None

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return STORE.file_name(self)

    def of(self, vm_id: str) -> MachineIntent | None:
        """What it says of one machine."""
        return next((one for one in self.machines if one.vm_id == vm_id), None)

    def data(self) -> dict[str, Any]:
        """What its file says beside run and time."""
        return {"checkpoint": self.checkpoint, "machines": [one.as_data() for one in self.machines]}


def _of_data(head: Head, data: Mapping[str, Any]) -> CheckpointIntent:
    listed = data.get("machines")
    if not isinstance(listed, list):
        raise ValueError("the machines are missing")
    return CheckpointIntent(head.run_id, head.token, head.host_time, tuple(_machine(one) for one in listed), _short(data.get("checkpoint")))


def _machine(one: Any) -> MachineIntent:
    vm_id = as_guid(one.get("vm_id")) if isinstance(one, dict) and isinstance(one.get("vm_id"), str) else None
    if vm_id is None or any(one.get(key) not in (None, *_POLICIES) for key in ("was", "now")):
        raise ValueError("a machine or its policy cannot be read")
    job_id, class_name = _short(one.get("job")), _short(one.get("job_class"))
    job = BegunJob(class_name, job_id) if job_id and class_name and _CLASS.match(class_name) else None
    return MachineIntent(vm_id, one.get("was"), one.get("now"), job, _short(one.get("level")))


def _short(value: Any) -> str | None:
    """A text of one line; None for anything else."""
    return value if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST else None


STORE = IntentStore("checkpoint", "create_checkpoint", _of_data)
"""Where they stand."""


def may_have_made(intents: Sequence[CheckpointIntent], vm_id: str, created: datetime | None) -> CheckpointIntent | None:
    """The intent that an unmarked checkpoint of this age may have come of."""
    for intent in intents:
        if intent.of(vm_id) is not None and created is not None and intent.host_time <= created <= intent.host_time + WINDOW:
            return intent
    return None
