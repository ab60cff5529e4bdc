# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The course of the demo: start the fleet, run the playbook, prove the copies, try it the wrong way, kill a run and clean up, restore."""
from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from simulator.fleet import Fleet
from simulator.host import SimHost
from simulator.hyperv.spec import MIB
from simulator.soap.counters import Counters
from simulator.windows.programs.base import Speeds

from demo import checks, interrupted, left, live_copy, playbook, proofs, restored, site, summary
from demo.guests import Guests
from demo.left import Left
from demo.live_copy import LiveCopy
from demo.playbook import BACKUP, CHECKOUT, CONFIGURATION, FOLDER, INVENTORY, PlaybookRun
from demo.proofs import CopyProof
from demo.site import HostPlan
from demo.summary import HostOutcome, Outcome, Refusal, Requests

_QUIET = re.compile(r"(ok|skipping): \[[^\]]*\](?: => \(item=\w+\))?$|\[WARNING\]")
LOCK = Path(".build/demo.lock")
COPY_SPEED = Speeds(copy_bytes_per_second=20 * MIB)
"""20 MiB/s: slow enough that a guest writes several times while one piece of a file is read."""


class DemoRunning(Exception):
    """The folder of the demo belongs to a demo that has not ended."""


def say(text: str = "") -> None:
    """Print a line now."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def heading(text: str) -> None:
    """Begin a part."""
    say(f"\n== {text}\n")


def _indented(text: str) -> None:
    say(f"  | {text}" if text else "  |")


class Brief:
    """Shows the output of ansible-playbook without the tasks that only say ``ok`` or ``skipping``, and without warnings."""

    def __init__(self) -> None:
        self._heading = ""

    def __call__(self, line: str) -> None:
        """One line."""
        if line.startswith(("TASK [", "PLAY")):
            self._heading = line
        elif line and not _QUIET.match(line):
            if self._heading:
                _indented(self._heading)
                self._heading = ""
            _indented(line)


@dataclass
class Demo:
    """A running demo."""

    plans: Sequence[HostPlan]
    fleet: Fleet
    guests: Mapping[str, Guests]
    foreign: Mapping[str, frozenset[str]]
    began: float
    problems: list[str] = field(default_factory=list)
    plays: int = 0

    def hosts(self) -> Iterator[tuple[HostPlan, SimHost]]:
        """Each host with its plan."""
        for plan in self.plans:
            yield plan, self.fleet.hosts[plan.spec.name].host

    # -- the parts ---------------------------------------------------------------------------------------------

    def play(self, which: Path, relay: Callable[[str], None], *arguments: str) -> tuple[PlaybookRun, dict[str, Requests]]:
        """Run a playbook; what it asked of each host."""
        before = self.counters()
        self.plays += 1
        run = playbook.run(FOLDER / f"run-{self.plays}", relay, which, *arguments)
        after = self.counters()
        asked = {name: after[name].since(before[name]) for name in after}
        return run, {name: Requests(counters.requests, counters.writing) for name, counters in asked.items()}

    def counters(self) -> dict[str, Counters]:
        """How much each host was asked so far."""
        with self.fleet.locked():
            return {plan.spec.name: host.counters.snapshot() for plan, host in self.hosts()}

    def prove(self) -> list[CopyProof]:
        """Find the copies of all hosts and judge them."""
        return [proofs.prove(copy, self.guests[plan.spec.name])
                for plan, host in self.hosts() for copy in proofs.find_copies(self.fleet, host, FOLDER / plan.spec.name)]

    def left(self) -> dict[str, Left]:
        """What is on each host now beside finished copies."""
        with self.fleet.locked():
            return {plan.spec.name: left.look(host, self.foreign[plan.spec.name]) for plan, host in self.hosts()}

    def run(self) -> Outcome:
        """All parts in turn; when nothing was copied at all, only the first."""
        heading("1. The shipped playbook against three simulated hosts, while their guests write")
        first, asked = self.play(BACKUP, _indented)
        self.problems += checks.first_run(self.plans, first)
        _print(["", *summary.exit_lines(first.code, checks.expected_exit(self.plans))])
        if not first.copies:
            return Outcome((), (), (), None, time.monotonic() - self.began, self.problems)
        heading("2. What it found: the facts of every VM")
        _print(summary.facts_table(first.facts))
        heading("3. What it made: the copies on the hosts, each with its manifest")
        found = self.prove()
        for proof in found:
            _print(summary.copy_lines(proof))
        self.problems += checks.copies(self.plans, found)
        heading("4. The counter-test: the same disk, the same robocopy, no shadow copy")
        live = self._copy_live()
        self.problems += checks.nothing_left(self.left(), "after the first run")
        made, again = interrupted.show(self, heading, _print, Brief)
        self.problems += checks.copies(self.plans, made)
        everything = self.prove()
        exports, made_exports = restored.show(self, heading, _print, Brief)
        heading("11. And once more: every copy is younger than backup_max_age, so nothing is done")
        last, asked_last = self.play(BACKUP, Brief())
        self.problems += checks.idle_run(self.plans, again, last, asked_last)
        self.problems += checks.same_copies(everything, self.prove())
        self.problems += checks.same_exports(made_exports, last) + checks.same_copies(exports, restored.prove_exports(self))
        restored.report(self, heading, _print, Brief)
        at_the_end = self.left()
        self.problems += checks.nothing_left(at_the_end, "at the end")
        hosts = [HostOutcome(plan.spec.name, plan.spec.os_version, plan.spec.locale, len(plan.spec.vms), asked[plan.spec.name],
                             asked_last[plan.spec.name], at_the_end[plan.spec.name]) for plan in self.plans]
        return Outcome(hosts, [*found, *made, *exports], self._refusals(first), live, time.monotonic() - self.began, self.problems)

    def _copy_live(self) -> LiveCopy:
        _print([f"{site.LIVE_HOST} lets others read the disk of {site.LIVE_VM} while it is in use; newer hosts may refuse that.",
                f"The connection is pywinrm's own shell client. At most {live_copy.TRIES} tries, until the reader finds the copy mixed.",
                ""])
        live = live_copy.copy_live(self.fleet, FOLDER / site.LIVE_HOST, _indented)
        _print(summary.live_lines(live))
        self.problems += checks.live(live)
        return live

    def _refusals(self, run: PlaybookRun) -> list[Refusal]:
        return [Refusal(plan.spec.name, name, entry["error_code"], entry["msg"]) for plan in self.plans for name in plan.refused
                if (entry := run.entry(plan.spec.name, name)) is not None and entry["failed"]]


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        say(line)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One demo in a checkout at a time: the next one would take the files away from under it. Raises DemoRunning."""
    LOCK.parent.mkdir(exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DemoRunning from error
        yield


@contextlib.contextmanager
def started() -> Iterator[Demo]:
    """A fleet with writing guests in an empty folder; everything has ended afterwards, the files stay."""
    began = time.monotonic()
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
    FOLDER.mkdir()
    plans = site.plan(datetime.now(UTC))
    fleet = Fleet([plan.spec for plan in plans], FOLDER / "fleet", speed=1.0)
    with contextlib.ExitStack() as stack:
        guests: dict[str, Guests] = {}
        foreign: dict[str, frozenset[str]] = {}
        for plan in plans:
            name, host = plan.spec.name, fleet.simulated[plan.spec.name]
            host.files.locked_live_disks = name != site.LIVE_HOST
            host.processes.speeds = COPY_SPEED
            if name == site.EXPORT_HOST:
                restored.make_brisk(host)
            guests[name] = Guests(host, plan.guests)
            stack.callback(guests[name].stop)
            guests[name].start()
            foreign[name] = frozenset(host.shadows.add_foreign("D:").shadow_id for _number in range(plan.foreign))
            _link_drives(FOLDER / name, host)
        stack.enter_context(fleet)
        playbook.write_inventory(fleet, plans)
        playbook.write_configuration()
        yield Demo(plans, fleet, guests, foreign, began)


def _link_drives(folder: Path, host: SimHost) -> None:
    """A link for each drive letter, so that the volumes, which are named by GUID, can be looked at."""
    folder.mkdir()
    for volume in host.files.volumes:
        (folder / volume.mount_path[0]).symlink_to(volume.root.resolve(), target_is_directory=True)


def show(stay: bool) -> int:
    """The whole demo; the exit code. ``stay``: leave the fleet running until Ctrl-C."""
    with contextlib.chdir(CHECKOUT), _alone(), started() as demo:
        heading("The fleet")
        with demo.fleet.locked():
            _print(summary.fleet_table(demo.plans, {name: running.url for name, running in demo.fleet.hosts.items()}))
        say(f"\nInventory: {INVENTORY}. Drives of the hosts: {FOLDER}/HV01/C, D, E and so on.")
        outcome = demo.run()
        heading("Summary")
        _print(summary.summary(outcome))
        if stay:
            _stay()
    return 1 if outcome.problems else 0


def _stay() -> None:
    say(f"\nThe fleet stays until Ctrl-C. In another terminal, from the top of the checkout:\n"
        f"  ANSIBLE_CONFIG={CONFIGURATION} .venv/bin/ansible-playbook -i {INVENTORY} YOUR-PLAYBOOK.yml")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
