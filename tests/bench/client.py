# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One execution of a module in this process, measured; and the same answers played again, without host and network."""
from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wscim
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline, SystemClock
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Host
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import inventory
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import xml
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Endpoint, Lane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_vm_info

from bench.hosts import ADMINISTRATOR

T = TypeVar("T")
_MESSAGE_ID = re.compile(rb"<a:MessageID>([^<]+)</a:MessageID>")
_RELATES_TO = re.compile(rb"(RelatesTo[^>]*>)[^<]*(<)")


@dataclass(frozen=True)
class Cost:
    """What one execution cost this process: seconds, and the growth of its largest memory in bytes."""

    wall: float
    cpu: float
    memory: int


def lane_to(port: int) -> PywinrmLane:
    """A lane with NTLM and sealed messages."""
    return PywinrmLane(Endpoint(scheme="http", host="127.0.0.1", port=port, username=ADMINISTRATOR.name, password=ADMINISTRATOR.password))


def information(lane: Lane, gather: Sequence[str] = inventory.DEFAULT_SUBSETS) -> dict[str, Any]:
    """``hyperv_vm_info`` for all VMs of a host."""
    clock = SystemClock()
    session = WsmanSession(lane, clock)
    params = {"name": None, "vm_id": None, "names": None, "gather": list(gather)}
    host = Host("host", CimReader(session, clock), lambda: CimWriter(session, clock))
    return hyperv_vm_info.run(Call(params, host, clock, False, _silent, _silent, _no_peer))


def _silent(message: str) -> None:
    """Progress and warnings are not what is measured."""


def _no_peer(name: str) -> Host:
    raise ValueError(f"no peer {name} here")


def measure(port: int, gather: Sequence[str]) -> Cost:
    """Gather once over the wire. To be called in a fresh process, where the largest memory means something."""
    own = lane_to(port)
    before = _memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    information(own, gather)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    own.close()
    return Cost(wall, cpu, max(0, _memory("VmHWM") - before))


def _memory(name: str) -> int:
    """A figure of the kernel about this process in bytes: ``VmRSS`` is the memory now, ``VmHWM`` the most so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


class Recorder:
    """A lane that keeps every answer."""

    def __init__(self, own: Lane) -> None:
        self._own = own
        self.answers: list[bytes] = []

    def send(self, envelope: bytes, deadline: Deadline, *, repeatable: bool) -> bytes:
        """See Lane."""
        self.answers.append(self._own.send(envelope, deadline, repeatable=repeatable))
        return self.answers[-1]

    def close(self) -> None:
        """See Lane."""
        self._own.close()


class Player:
    """A lane that gives recorded answers in their order, as answers to the requests that come."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self._answers = iter(answers)

    def send(self, envelope: bytes, deadline: Deadline, *, repeatable: bool) -> bytes:
        """See Lane."""
        asked = _MESSAGE_ID.search(envelope)
        name = asked.group(1) if asked is not None else b""
        return _RELATES_TO.sub(lambda found: found.group(1) + name + found.group(2), next(self._answers), count=1)

    def close(self) -> None:
        """See Lane."""


def record(port: int, gather: Sequence[str] = inventory.DEFAULT_SUBSETS) -> list[bytes]:
    """The answers of one host."""
    recorder = Recorder(lane_to(port))
    information(recorder, gather)
    recorder.close()
    return recorder.answers


def parse(answers: Sequence[bytes]) -> int:
    """Parse and decode answers as the client does; the number of instances."""
    found = 0
    for answer in answers:
        body = xml.child(xml.parse(answer), "Body")
        response = body[0] if body is not None and len(body) else None
        items = None if response is None else xml.child(response, "Items")
        for item in (() if response is None else (response,)) if items is None else items:
            wscim.decode_instance(item)
            found += 1
    return found


def cpu_of(function: Callable[[], object], rounds: int) -> float:
    """The median of the processor seconds of a call."""
    spent = []
    for _unused in range(rounds):
        before = time.process_time()
        function()
        spent.append(time.process_time() - before)
    return sorted(spent)[len(spent) // 2]


def operations(by_operation: Mapping[str, int]) -> tuple[int, int]:
    """Requests without the pages of enumerations, and those pages."""
    pages = by_operation.get("Pull", 0)
    return sum(by_operation.values()) - pages, pages
