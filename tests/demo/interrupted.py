# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The second half of the demo: a run is killed while it copies, the clean-up finds what it left, the next run makes up for it."""
from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.hyperv.spec import MIB

from demo import checks, left, playbook, summary
from demo.playbook import CLEANUP, FOLDER, PlaybookRun
from demo.proofs import CopyProof

if TYPE_CHECKING:
    from demo.show import Demo

HOUR = 3600.0
DAY_LATER, HOURS_LATER = 24, 7
PAUSE, LOOKS = 0.25, 40
SLOW_COPY = 2 * MIB
"""Bytes a second for the run that is killed: every host takes some seconds for its first disk, so there is a middle to be hit."""
Say = Callable[[Sequence[str]], None]
Relay = Callable[[str], None]


def show(demo: Demo, heading: Callable[[str], None], say: Say, relay: Callable[[], Relay]) -> tuple[list[CopyProof], PlaybookRun]:
    """All of it; the copies that are there in addition at the end, judged, and the run that made (most of) them.

    ``relay`` makes what shows the output of one run.
    """
    before = {proof.copy.folder for proof in demo.prove()}

    heading(f"5. {DAY_LATER} hours later: the same playbook, killed in the middle")
    say(["The clocks of the hosts are put forward, so every VM needs a new copy. As soon as every host is copying, ansible-playbook and",
         "its workers get SIGKILL: nobody can tidy up. From here on, tasks that only say ok are left out.", ""])
    _later(demo, DAY_LATER)
    code = _kill(demo, relay())
    found = demo.left()
    say(["", "Killed. What is on the hosts now:" if code < 0 else f"It ended with {code}.", *summary.left_table(found)])
    demo.problems += checks.killed_run(code, found)

    heading(f"6. {HOURS_LATER} hours later: playbooks/shadow_cleanup.yml, which only looks unless told otherwise")
    _later(demo, HOURS_LATER)
    found = demo.left()
    looked, asked = demo.play(CLEANUP, relay())
    demo.problems += checks.audit(looked, found, asked)

    heading("7. The same with shadow_cleanup_remove=true")
    cleaned, _unused = demo.play(CLEANUP, relay(), "-e", "shadow_cleanup_remove=true")
    found = demo.left()
    say(["", "What is on the hosts now:", *summary.left_table(found)])
    demo.problems += checks.clean_up(looked, cleaned) + checks.nothing_left(found, "after the clean-up")

    heading("8. The backup again: it makes the copies that the killed run did not")
    finished = _finished(demo, before)
    again, _unused = demo.play(playbook.BACKUP, relay())
    demo.problems += checks.next_run(demo.plans, again, finished)
    return [proof for proof in demo.prove() if proof.copy.folder not in before], again


def _kill(demo: Demo, relay: Relay) -> int:
    """The exit code of a run that is killed while every host is copying. The hosts copy slowly meanwhile, and at their speed afterwards."""
    hosts = [(host, demo.foreign[plan.spec.name]) for plan, host in demo.hosts()]

    def all_copying() -> bool:
        with demo.fleet.locked():
            return all(left.is_copying(host, foreign) for host, foreign in hosts)

    usual = [host.processes.speeds for host, _unused in hosts]
    _set_speeds(demo, [replace(speeds, copy_bytes_per_second=SLOW_COPY) for speeds in usual])
    try:
        return playbook.run_and_kill(FOLDER / "run-killed", relay, all_copying)
    finally:
        _set_speeds(demo, usual)


def _set_speeds(demo: Demo, speeds: Sequence[object]) -> None:
    with demo.fleet.locked():
        for (_plan, host), each in zip(demo.hosts(), speeds, strict=True):
            host.processes.speeds = each  # type: ignore[assignment]  # those of the host itself, or changed copies of them


def _later(demo: Demo, hours: float) -> None:
    """Hours go by on every host at once. The guests rest meanwhile: they would write millions of blocks."""
    with demo.fleet.locked():
        for plan, host in demo.hosts():
            guests = demo.guests[plan.spec.name]
            guests.pause()
            host.clock.advance(hours * HOUR)
            guests.resume()
    _end_requests(demo)


def _end_requests(demo: Demo) -> None:
    """Wait until no host answers a request any more that a run had sent before it was killed: it would count for the next run."""
    before = demo.counters()
    for _unused in range(LOOKS):
        time.sleep(PAUSE)
        after = demo.counters()
        if all(after[name].requests == before[name].requests for name in after):
            return
        before = after
    demo.problems.append("the hosts are still asked something, and nobody runs")


def _finished(demo: Demo, before: Collection[str]) -> Mapping[str, list[str]]:
    """The machines by host of which the killed run has finished a copy."""
    found: dict[str, list[str]] = {plan.spec.name: [] for plan in demo.plans}
    for proof in demo.prove():
        if proof.copy.folder not in before:
            found[proof.copy.host].append(proof.copy.name)
    return found
