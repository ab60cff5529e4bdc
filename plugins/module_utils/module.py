# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module shares: the call, the plan, and the one place that decides whether anything is written.

A module's ``run(call)`` reads facts through ``call.reader``, makes a :class:`Plan` with a pure function and ends with
``call.conclude(plan, apply)``. Only ``apply`` is handed a writer, and in check mode it is not called: check mode cannot be forgotten.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock

RUNS_IN_PROCESS = (
    "This module runs on the controller, through the action plugin of its own name and the connection of the task. "
    "It cannot be sent to a host or started by itself."
)

Looked = TypeVar("Looked")


@dataclass(frozen=True)
class Step:
    """One thing that a plan does: ``action`` is a stable verb, ``target`` names the object for people."""

    action: str
    target: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_result(self) -> dict[str, Any]:
        """The form in a diff and in a result."""
        return {"action": self.action, "target": self.target, **self.detail}


@dataclass(frozen=True)
class Plan:
    """The steps from the present state to the wanted one; ``changed`` is what the plan says, never a guess.

    ``before`` and ``after`` are the diff. ``predicted`` holds the result keys that check mode returns.
    """

    steps: tuple[Step, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    predicted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """True when there is anything to do."""
        return bool(self.steps)

    def diff(self) -> dict[str, Any]:
        """``before`` and ``after`` as ansible shows them."""
        after = dict(self.after)
        if self.steps:
            after["steps"] = [step.as_result() for step in self.steps]
        return {"before": dict(self.before), "after": after}


class Host:
    """One host of the call: a reader at once, a writer only for ``apply``.

    ``open_writer`` is called at most once; the writer shares the reader's connection.
    """

    def __init__(self, name: str, reader: CimReader, open_writer: Callable[[], CimWriter]) -> None:
        self.name = name
        self.reader = reader
        self._open_writer = open_writer
        self._writer: CimWriter | None = None

    @property
    def touched(self) -> bool:
        """True when a request that may change the host was sent: a lost connection is then a failure, not *unreachable*."""
        return self._writer is not None and self._writer.touched

    def _write(self) -> CimWriter:
        if self._writer is None:
            self._writer = self._open_writer()
        return self._writer


@dataclass
class Call:
    """One execution of a module for one host."""

    params: Mapping[str, Any]
    host: Host
    clock: Clock
    check_mode: bool
    progress: Callable[[str], None]
    warn: Callable[[str], None]
    open_peer: Callable[[str], Host]
    """Opens a second lane to another inventory host, with that host's own connection options."""

    @property
    def reader(self) -> CimReader:
        """The read-only client of the task's host."""
        return self.host.reader

    def through_host(self, look: Callable[[CimWriter], Looked]) -> Looked | None:
        """What ``look`` sees; None in check mode. For what can only be read by something that is put onto the host for a moment, such as a
        task that reaches a share: nothing of it stays, but the host is written to."""
        return None if self.check_mode else look(self.host._write())

    def conclude(self, plan: Plan, apply: Callable[[CimWriter], dict[str, Any]]) -> dict[str, Any]:
        """Run ``apply`` unless nothing is to be done or check mode forbids it; returns the task's result."""
        result: dict[str, Any] = {"changed": plan.changed, "diff": plan.diff()}
        if plan.changed and not self.check_mode:
            result.update(apply(self.host._write()))  # the only door to a writer
        else:
            result.update(plan.predicted)
        return result

    def conclude_with(self, plan: Plan, peer: Host | None,
                      apply: Callable[[CimWriter, CimWriter | None], dict[str, Any]]) -> dict[str, Any]:
        """As :meth:`conclude`, for what is done on two hosts: ``apply`` is handed a writer of each, the second one None without a peer."""
        return self.conclude(plan, lambda writer: apply(writer, None if peer is None else peer._write()))
