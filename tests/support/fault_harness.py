# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The fault harness: an operation with each fault at each of its requests, and with the controller killed at each.

An author describes an operation once (:class:`Operation`) and says what must hold: ``after`` the run that met the fault, and
``healed`` after the next run, which meets none and follows whenever the first did not succeed. Each case has a host of its own that
looks the same at each start, so that the numbers and names of a recorded clean run are those of the run that meets the fault.

An example: a copy that runs as a scheduled task and writes to a share, and the clean-up that comes an hour after a fault::

    def prepare(host: SimHost) -> Others:
        host.shadows.add_foreign("D:\\")
        return others_of(host, "\\\\NAS\\backup")

    def after(seen: Seen) -> Iterator[str]:      # the run that met the fault told no lie, and touched nobody's
        yield from touched(seen.host, seen.witness)
        yield from false_successes(seen.host, seen.ending)

    def healed(seen: Seen) -> Iterator[str]:     # nothing of ours is left but complete copies
        yield from problems_on(seen.host, seen.witness, destinations=["\\\\NAS\\backup"], ending=seen.ending)

    COPY = Operation("a copy to a share", spec, hyperv_vss_copy.run, validated(hyperv_vss_copy, name="sql01", ...),
                     clean=healed, after=after, healed=healed, prepare=prepare, file_servers=(NAS,),
                     next_run=NextRun(hyperv_cleanup.run, validated(hyperv_cleanup, remove=True, older_than="10m"), pause=3600))

    @pytest.mark.parametrize("fault", FAULTS, ids=str)
    def test_copy(recorded, fault):              # recorded: a fixture of the module, record(COPY)
        check(COPY, recorded, fault, most=6)

Sampling: without more, a fault is tried at ``most`` requests spread evenly over the run, three times as many for a thorough
one, and each fault begins at another request, so that together they reach nearly all. A number as ``FAULT_HARNESS`` in the environment
takes another sample, each number its own; ``FAULT_HARNESS=all`` tries every fault at every request.
"""
from __future__ import annotations

import html
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Lane
from simulator.fileserver import FileServer, FileServerSpec
from simulator.fleet import Fleet, RunningHost
from simulator.host import SimHost
from simulator.net.contract import RESET
from simulator.soap import rules
from simulator.soap.rules import Effect, RequestView
from simulator.spec import HostSpec
from support import in_process
from support.in_process import Ending

MORE_REQUESTS = 60
"""How many requests a run may send beyond twice those of the clean run."""
ENDLESS = 100_000
_SHOWN = 12
_COMMAND = re.compile(r"<(?:\w+:)?Command>([^<]*)</")
_STABLE = re.compile(r"[a-z][a-z0-9_]{2,60}\Z")
_NOT_STABLE = frozenset({"internal_error", "failed"})


class ControllerKilled(BaseException):
    """The controller is gone: no handler of the collection may survive this, and nothing is sent any more."""


class TooManyRequests(BaseException):
    """A run does not end."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong at one request. ``effect`` makes the rule's effect for a host; ``kill`` ends the controller instead.

    ``forever``: every later request meets it, too, so that nothing can be cleaned up.
    """

    name: str
    effect: Callable[[SimHost], Effect] | None = None
    kill: Literal["before", "after"] | None = None
    forever: bool = False
    thorough: bool = False
    """One of those that most of the others come to, seen from an operation: tried at more requests."""

    def __str__(self) -> str:
        return self.name.replace(" ", "_")


def restart_management(host: SimHost) -> Effect:
    """The management service restarts just before the request."""
    def restart() -> None:
        host.hyperv.restart_vmms()
        host.writer.restart()

    return Effect("management restarts", before=restart)


def restart_host(host: SimHost) -> Effect:
    """The whole host restarts in place of the request: what :meth:`SimHost.restart` ends is gone; tasks and files stay."""
    return Effect("host restarts", executed=False, before=host.restart, status=500, transport=RESET)


def restart_winrm(host: SimHost) -> Effect:
    """The WinRM service restarts in place of the request: shells with their programs and enumerations are gone, running tasks go on."""
    return Effect("WinRM restarts", executed=False, before=host.restart_winrm, status=500, transport=RESET)


FAULTS: tuple[Fault, ...] = (
    Fault("controller killed before it sends", kill="before"),
    Fault("controller killed before the answer arrives", kill="after", thorough=True),
    Fault("lost before", lambda host: rules.lost_before()),
    Fault("lost after", lambda host: rules.lost_after(), thorough=True),
    Fault("time-out, not carried out", lambda host: rules.timeout(executed=False)),
    Fault("time-out, carried out", lambda host: rules.timeout(executed=True)),
    Fault("access denied", lambda host: rules.access_denied(), thorough=True),
    Fault("unreachable from here on", lambda host: rules.lost_before(), forever=True),
    Fault("host restarts", restart_host),
    Fault("management restarts", restart_management),
    Fault("WinRM restarts", restart_winrm),
    Fault("enumerations expire", lambda host: rules.expire_contexts()),
    Fault("401", lambda host: rules.unauthorized()),
    Fault("empty 400", lambda host: rules.http_status(400)),
    Fault("empty 500", lambda host: rules.http_status(500)),
    Fault("empty 500, carried out", lambda host: rules.http_status(500, executed=True)),
    Fault("503", lambda host: rules.http_status(503)),
    Fault("quota", lambda host: rules.quota()),
    Fault("unknown fault", lambda host: rules.fault("internal_error")),
    Fault("no SOAP", lambda host: rules.garbage()),
)


@dataclass(frozen=True)
class Case:
    """One fault at one request of one operation."""

    operation: str
    number: int
    request: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.operation}, request {self.number} ({self.request}), {self.fault.name}"


@dataclass(frozen=True)
class Seen:
    """What a check may look at. ``witness`` is what ``prepare`` returned; ``first`` is the run that met the fault (in ``after``
    the same as ``ending``); ``servers`` are the file servers by name. The host is at rest.
    """

    case: Case | None
    ending: Ending
    first: Ending
    host: SimHost
    witness: Any
    servers: Mapping[str, FileServer] = field(default_factory=dict)
    others: Mapping[str, SimHost] = field(default_factory=dict)
    """Every host by its name."""


Check = Callable[[Seen], Iterable[str]]
"""Yields what is wrong, as sentences."""


@dataclass(frozen=True)
class NextRun:
    """What follows a fault, when it is not the operation itself: another run, ``pause`` simulated seconds later.

    Tasks that still run on the host go on in the pause, and leases expire.
    """

    run: Callable[[Call], dict[str, Any]]
    params: Mapping[str, Any]
    pause: float = 0.0


@dataclass(frozen=True)
class Operation:
    """An operation and its contract. ``spec`` describes the host (our administrator is added to its accounts), ``file_servers`` the
    machines with shares, ``prepare`` does to the host what a spec cannot say.

    ``clean`` judges the recorded run without a fault, ``after`` the run that met one, ``healed`` the next run. What holds for every
    operation is checked by the harness: an end with a result or an error of the family, a stable error code, a bounded
    number of requests, and a next run that succeeds. ``healed`` None: what only reads needs no next run. ``next_run`` None: the next
    run is the operation itself, at once. ``always_next``: it follows a success, too.
    """

    name: str
    spec: Callable[[], HostSpec]
    run: Callable[[Call], dict[str, Any]]
    params: Mapping[str, Any]
    clean: Check
    after: Check
    healed: Check | None = None
    prepare: Callable[[SimHost], Any] = lambda host: None
    file_servers: Sequence[FileServerSpec] = ()
    next_run: NextRun | None = None
    always_next: bool = False
    peers: Callable[[], Sequence[HostSpec]] = tuple
    """Other hosts, which the operation reaches as ``peer`` under their names in lower case."""
    faulty: str | None = None
    """The name of the host whose requests meet the faults, when it is a peer."""


@dataclass
class _Watch:
    """What all lanes of one controller share: when it is killed none of them sends, and runs that never end are ended."""

    limit: int
    number: int = 0
    kill: Literal["before", "after"] | None = None
    dead: bool = False
    sent: int = 0


class _Watched(in_process.WrappedLane):
    """A lane of a watched controller; ``counted``: it may be killed at a message of this one."""

    def __init__(self, lane: Lane, watch: _Watch, *, counted: bool) -> None:
        super().__init__(lane)
        self._watch = watch
        self._counted = counted

    def send(self, envelope: bytes, deadline: Deadline, *, repeatable: bool) -> bytes:
        """See Lane."""
        watch = self._watch
        if watch.dead:
            raise ControllerKilled
        if not self._counted:
            return super().send(envelope, deadline, repeatable=repeatable)
        watch.sent += 1
        if watch.sent > watch.limit:
            raise TooManyRequests(f"{watch.sent} messages")
        watch.dead = watch.kill is not None and watch.sent == watch.number
        if watch.dead and watch.kill == "before":
            raise ControllerKilled
        answer = super().send(envelope, deadline, repeatable=repeatable)
        if watch.dead:
            raise ControllerKilled
        return answer


@dataclass(frozen=True)
class Recorded:
    """The clean run: the names of its requests in order."""

    requests: tuple[str, ...]

    @property
    def limit(self) -> int:
        """The most that any run may send."""
        return 2 * len(self.requests) + MORE_REQUESTS


def record(operation: Operation) -> Recorded:
    """Run without faults and check that the operation works at all. AssertionError with the problems."""
    with _started(operation) as (fleet, running, witness):
        ending, names = _run(operation, operation.run, operation.params, fleet, running, limit=ENDLESS)
        problems = [] if ending.succeeded else [f"the clean run {ending}"]
        with fleet.locked():
            problems += operation.clean(Seen(None, ending, ending, running.host, witness, fleet.file_servers, fleet.simulated))
    if problems:
        raise AssertionError(f"{operation.name} without any fault: " + "; ".join(problems))
    return Recorded(tuple(names))


class Recordings(dict[str, Recorded]):
    """The clean runs of operations by a name, each recorded when somebody first asks: a worker records what it tries, and nothing else."""

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        super().__init__()
        self._operations = operations

    def __missing__(self, name: str) -> Recorded:
        found = self[name] = record(self._operations[name])
        return found


def cases(operation: Operation, recorded: Recorded, fault: Fault, most: int) -> list[Case]:
    """The cases of one fault, at about ``most`` requests (see the head of this file)."""
    count = len(recorded.requests)
    step = max(1, -(-count // (3 * most if fault.thorough else most)))
    alike = [other for other in FAULTS if other.thorough == fault.thorough]
    first = alike.index(fault) * step // len(alike) if fault in alike else 0
    sample = os.environ.get("FAULT_HARNESS", "0")
    chosen = range(count) if sample == "all" else range((first + int(sample)) % step, count, step)
    return [Case(operation.name, index + 1, recorded.requests[index], fault) for index in chosen]


def check(operation: Operation, recorded: Recorded, fault: Fault, *, most: int) -> int:
    """Try one fault at the requests of an operation; the number of cases. AssertionError that shows the first of the failed ones."""
    chosen = cases(operation, recorded, fault, most)
    failures = []
    for case in chosen:
        problems = try_case(operation, recorded, case)
        if problems:
            failures.append("\n    ".join((f"{case}:", *problems)))
    if failures:
        raise AssertionError(f"{len(failures)} of {len(chosen)} cases failed:\n" + "\n".join(failures[:_SHOWN]))
    return len(chosen)


def try_case(operation: Operation, recorded: Recorded, case: Case) -> list[str]:
    """What is wrong with one case; empty when nothing is."""
    with _started(operation) as (fleet, running, witness):
        host, fault = running.host, case.fault
        faulty = fleet.simulated[operation.faulty or host.name]
        if fault.effect is not None:
            with fleet.locked():
                faulty.rules.add(fault.effect(faulty), nth=case.number, times=None if fault.forever else 1)
        first, sent = _run(operation, operation.run, operation.params, fleet, running, limit=recorded.limit, number=case.number,
                           kill=fault.kill)
        problems = [] if fault.effect is None or _fired(faulty) else ["the fault did not come: the run is not the recorded one"]
        with fleet.locked():
            faulty.rules.clear()
            problems += _judge(first, killed=fault.kill is not None)
            problems += operation.after(Seen(case, first, first, host, witness, fleet.file_servers, fleet.simulated))
        problems = [f"after the fault ({_short(first)}): {problem}" for problem in problems]
        if len(sent) > recorded.limit:
            problems.append(f"{len(sent)} requests, the clean run needs {len(recorded.requests)}")
        if operation.healed is None or (first.succeeded and not operation.always_next):
            return problems
        following = operation.next_run or NextRun(operation.run, operation.params)
        with fleet.locked():
            host.clock.advance(following.pause)
        second, _unused = _run(operation, following.run, following.params, fleet, running, limit=recorded.limit)
        with fleet.locked():
            later = [] if second.succeeded else [f"it {second}"]
            later += operation.healed(Seen(case, second, first, host, witness, fleet.file_servers, fleet.simulated))
        return problems + [f"after the next run: {problem}" for problem in later]


def _judge(ending: Ending, *, killed: bool) -> list[str]:
    """What holds for every operation."""
    if ending.killed is not None:
        return [] if killed and isinstance(ending.killed, ControllerKilled) else [str(ending)]
    if killed:
        return ["the run went on after the controller was killed"]
    if ending.defect is not None:
        return [str(ending)]
    if ending.succeeded:
        return []
    return [f"{code!r} is no stable error code" for code in ending.error_codes if not isinstance(code, str) or not _STABLE.match(code)
            or code in _NOT_STABLE]


def _short(ending: Ending) -> str:
    text = str(ending)
    return text if len(text) < 240 or ending.defect is not None else text[:240] + "..."


def _name_of(view: RequestView) -> str:
    """What a request asks, with the class or the command line."""
    if view.operation == "Shell Command":
        command = _COMMAND.search(view.document)
        return f"{view.operation} {html.unescape(command.group(1))}" if command else view.operation
    if view.operation in ("Enumerate", "Pull", "Get", "Delete"):
        return f"{view.operation} {view.request.resource_uri.rpartition('/')[2]}"
    return view.operation


def _fired(host: SimHost) -> bool:
    return any(rule.fired for rule in host.rules.rules)


@contextmanager
def _started(operation: Operation) -> Iterator[tuple[Fleet, RunningHost, Any]]:
    """A host as the operation wants it, listening; gone at the end. An error of the simulator itself is raised."""
    spec = operation.spec()
    others = tuple(account for account in spec.accounts if account.name != in_process.ADMINISTRATOR.name)
    spec = replace(spec, accounts=(in_process.ADMINISTRATOR, *others))
    with tempfile.TemporaryDirectory(prefix="fault-harness-") as folder:
        peers = [replace(peer, accounts=(in_process.ADMINISTRATOR,)) for peer in operation.peers()]
        fleet = Fleet([spec, *peers], Path(folder), file_servers=operation.file_servers)
        host = fleet.simulated[spec.name]
        witness = operation.prepare(host)
        for one in fleet.simulated.values():
            one.changes = 0
            one.recent_changes.clear()
        with fleet:
            yield fleet, fleet.hosts[spec.name], witness


def validated(module: Any, **params: Any) -> Mapping[str, Any]:
    """The parameters of a module with its defaults, as a task's. ValueError for what it does not take."""
    checked = ModuleArgumentSpecValidator(module.ARGUMENT_SPEC, **module.RULES).validate(params)
    if checked.error_messages:
        raise ValueError("; ".join(checked.error_messages))
    values: dict[str, Any] = checked.validated_parameters
    return values


def _run(operation: Operation, function: Callable[[Call], dict[str, Any]], params: Mapping[str, Any], fleet: Fleet,
         running: RunningHost, *, limit: int, number: int = 0,
         kill: Literal["before", "after"] | None = None) -> tuple[Ending, Sequence[str]]:
    """One run, and the names of the requests that reached the host that meets faults."""
    names: list[str] = []

    def note(view: RequestView) -> bool:
        names.append(_name_of(view))
        return False

    with fleet.locked():
        fleet.simulated[operation.faulty or running.host.name].rules.rules.insert(0, rules.FaultRule(Effect("note"), when=note))
    watch = _Watch(limit, number, kill)
    ending = in_process.run(function, params, fleet, running,
                            wrap=lambda lane: _Watched(lane, watch, counted=operation.faulty is None),
                            wrap_peer=lambda lane: _Watched(lane, watch, counted=operation.faulty is not None))
    return ending, names
