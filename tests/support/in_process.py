# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs an operation of the collection in this process against a simulated host: real lane, real sockets, simulated time."""
from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader, CimWriter
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Host
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Endpoint, Lane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.lane import PywinrmLane
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from simulator.cim.model import Account
from simulator.fleet import Fleet, RunningHost

ADMINISTRATOR = Account("Administrator", "Pa55-w0rd", groups=frozenset({"Administrators"}), builtin_administrator=True)


class HostTime:
    """The controller's clock: always the host's simulated time. Sleeping moves it, and what the host does takes time here, too."""

    def __init__(self, fleet: Fleet, running: RunningHost) -> None:
        self._fleet = fleet
        self._clock = running.host.clock

    def monotonic(self) -> float:
        """See Clock. Between two requests the simulated time stands still, so that it can be read without a lock."""
        return self._clock.now().timestamp()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        with self._fleet.locked():
            self._clock.advance(seconds)

    def utcnow(self) -> datetime:
        """See Clock."""
        return self._clock.now().astimezone(UTC)


class WrappedLane:
    """A lane around another one, to be derived from: whoever only overrides ``send`` keeps what else a lane tells."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane

    @property
    def encrypted(self) -> bool:
        """As PywinrmLane tells it; a password of a task is sent over nothing else."""
        return getattr(self.lane, "encrypted", False) is True

    def send(self, envelope: bytes, deadline: Deadline, *, repeatable: bool) -> bytes:
        """See Lane."""
        return self.lane.send(envelope, deadline, repeatable=repeatable)

    def close(self) -> None:
        """See Lane."""
        self.lane.close()


@dataclass
class Ending:
    """How a run ended: with exactly one of ``result``, ``error``, ``defect`` and ``killed``."""

    result: dict[str, Any] | None = None
    error: HypervError | None = None
    defect: Exception | None = None
    """An exception outside the collection's family: a bug, whatever caused it."""
    killed: BaseException | None = None
    warnings: list[str] = field(default_factory=list)
    progress: list[str] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        """The task would be reported as ok."""
        return self.result is not None and not self.result.get("failed")

    @property
    def error_code(self) -> str | None:
        """The stable code of the failure."""
        if self.error is not None:
            return self.error.error_code
        return self.result.get("error_code") if self.result is not None else None

    @property
    def error_codes(self) -> list[str | None]:
        """The codes of the failure and of every failed entry of its results."""
        entries = (self.result or {}).get("results", ())
        return [self.error_code, *(entry.get("error_code") for entry in entries if entry["failed"])]

    @property
    def leftovers(self) -> list[dict[str, str]]:
        """Everything that the result or the error names as left over."""
        if self.error is not None:
            return [leftover.as_result() for leftover in self.error.leftovers]
        if self.result is None:
            return []
        return [item for entry in (self.result, *self.result.get("results", ())) for item in entry.get("leftovers", ())]

    def __str__(self) -> str:
        if self.result is not None:
            return f"failed with {self.error_code}: {self.result.get('msg')}" if self.result.get("failed") else "succeeded"
        if self.error is not None:
            return f"raised {self.error_code}: {self.error.message}"
        if self.defect is not None:
            return "a defect: " + "".join(traceback.format_exception(self.defect)[-3:]).strip()
        return f"ended by {self.killed!r}"


def run(function: Callable[[Call], dict[str, Any]], params: Mapping[str, Any], fleet: Fleet, running: RunningHost, *,
        wrap: Callable[[Lane], Lane] | None = None, check_mode: bool = False,
        wrap_peer: Callable[[Lane], Lane] | None = None) -> Ending:
    """Call a module's ``run`` with validated ``params`` over one lane a host, with NTLM and sealed messages. Never raises what it raised.

    The other hosts of the fleet are its peers, under their names in lower case.
    """
    clock = HostTime(fleet, running)
    lanes: list[PywinrmLane] = []

    def opened(one: RunningHost, wrapping: Callable[[Lane], Lane] | None) -> Host:
        own = PywinrmLane(Endpoint(scheme="http", host="127.0.0.1", port=one.port, transport="ntlm", username=ADMINISTRATOR.name,
                                   password=ADMINISTRATOR.password), clock)
        lanes.append(own)
        session = WsmanSession(wrapping(own) if wrapping is not None else own, clock)
        return Host(one.host.name, CimReader(session, clock), lambda: CimWriter(session, clock))

    def peer(name: str) -> Host:
        return opened(next(one for one in fleet.hosts.values() if one.host.name.lower() == name), wrap_peer)

    ending = Ending()
    call = Call(params, opened(running, wrap), clock, check_mode, ending.progress.append, ending.warnings.append, peer)
    try:
        ending.result = function(call)
    except HypervError as error:
        ending.error = error
    except Exception as defect:  # noqa: BLE001  # whatever it is, it is what the run came to
        ending.defect = defect
    except BaseException as end:
        if isinstance(end, KeyboardInterrupt):
            raise
        ending.killed = end
    finally:
        for lane in lanes:
            lane.close()
    return ending
