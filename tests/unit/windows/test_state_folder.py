# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The state folder on a simulated host: made once, looked at with few requests, and never believed when a user had a hand in it."""
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import state
from simulator.soap.rules import lost_after
from simulator.windows import acl, cmdline, cmdparse
from simulator.windows.acl import Ace, Acl
from simulator.windows.errors import Win32Error
from simulator.windows.planting import FilesAs
from support.windows_host import WindowsHost, windows_host

STATE = "C:\\ProgramData\\agentless.hyperv"
ABOVE = "C:\\ProgramData"
PARTS = ["intents", "jobs", "leases", "s"]
CLOSED = Acl(tuple(Ace(sid, acl.FULL, frozenset({"OI", "CI"})) for sid in (acl.SYSTEM, acl.ADMINISTRATORS)), protected=True)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[WindowsHost]:
    with windows_host(tmp_path, ready=False) as host:
        yield host


def asked(hv: WindowsHost, action: Callable[[], object]) -> dict[str, int]:
    """Requests by operation, without those that an answer in several pieces takes."""
    with hv.fleet.locked():
        before = hv.host.counters.snapshot()
    action()
    with hv.fleet.locked():
        used = hv.host.counters.since(before).by_operation
    used["Shell Receive"] = min(used["Shell Receive"], used["Shell Command"])
    return used


def beside(hv: WindowsHost) -> list[str]:
    """What there is of ours but for the folder itself: folders under another name, saved access lists."""
    return [name for name in hv.names(ABOVE) + hv.names("C:\\Windows\\Temp") if "agentless" in name and name != state.FOLDER]


def ensure(hv: WindowsHost) -> None:
    state.ensure(hv.writer, hv.folder)


def test_it_is_made_closed_and_looked_at_with_one_program(bare: WindowsHost) -> None:
    made = asked(bare, lambda: ensure(bare))
    assert made == {"Shell Create": 1, "Shell Command": 5, "Shell Receive": 5, "Shell Signal": 4, "Shell Delete": 1}
    assert (bare.names(STATE), beside(bare)) == (PARTS, [])
    with bare.fleet.locked():
        files = bare.host.files
        assert files.owner(files.resolve(STATE)) == acl.ADMINISTRATORS
    assert asked(bare, lambda: ensure(bare)) == {"Shell Create": 1, "Shell Command": 1, "Shell Receive": 1, "Shell Delete": 1}
    assert (bare.names(STATE), beside(bare)) == (PARTS, [])


def test_a_part_that_is_missing_is_made(bare: WindowsHost) -> None:
    ensure(bare)
    with bare.fleet.locked():
        bare.host.files.remove_directory(bare.host.files.resolve(f"{STATE}\\jobs"))
    ensure(bare)
    assert bare.names(STATE) == PARTS


@pytest.mark.parametrize("locale", ["de-DE", "fr-FR", "ja-JP"])
def test_no_word_of_the_host_matters(tmp_path: Path, locale: str) -> None:
    with windows_host(tmp_path, locale=locale) as hv:
        ensure(hv)
        assert hv.names(STATE) == PARTS


@pytest.mark.parametrize("number", range(1, 6))
def test_an_answer_that_is_lost_leaves_nothing_that_the_next_run_minds(bare: WindowsHost, number: int) -> None:
    with bare.fleet.locked():
        bare.host.rules.add(lost_after(), operation="Shell Command", nth=number)
    with pytest.raises(HypervError):
        ensure(bare)
    with bare.fleet.locked():
        bare.host.rules.clear()
    ensure(bare)
    assert (bare.names(STATE), beside(bare)) == (PARTS, [])


def test_a_folder_that_cannot_be_made_is_an_error_and_leaves_nothing(bare: WindowsHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "MAKE", state.Command(state.MAKE.line.replace("/grant:r", "/granted")))
    with pytest.raises(HypervError) as refused:
        ensure(bare)
    assert refused.value.error_code == "state_dir_not_made"
    assert (bare.names(STATE), beside(bare)) == ([], [])


# -- a user who knows what we do --------------------------------------------------------------------------------------


def plant_folder(joe: FilesAs) -> None:
    joe.make_folder(STATE)
    joe.make_folder(STATE + "\\s")
    joe.write(STATE + "\\evil.cmd")


def plant_closed(joe: FilesAs) -> None:
    plant_folder(joe)
    joe.files.set_acl(joe.files.resolve(STATE), CLOSED, joe.token)


def plant_link(joe: FilesAs) -> None:
    if not joe.files.exists("C:\\ProgramData\\mine"):
        joe.make_folder("C:\\ProgramData\\mine")
        joe.write("C:\\ProgramData\\mine\\evil.cmd")
    joe.link(STATE, "C:\\ProgramData\\mine")


def plant_inside(joe: FilesAs) -> None:
    """Into whatever folder of ours is there, under any name."""
    for name in joe.names(ABOVE):
        if name.startswith(state.FOLDER):
            with suppress(Win32Error):
                joe.write(f"C:\\ProgramData\\{name}\\evil.cmd")


def take_away(joe: FilesAs) -> None:
    with suppress(Win32Error):
        joe.remove(STATE)
    with suppress(Win32Error):
        joe.rename(STATE, f"C:\\ProgramData\\moved{len(joe.names(ABOVE))}")


class Attacker:
    """An ordinary user who acts just before one command of a line of ours, whatever he may do then."""

    def __init__(self, hv: WindowsHost, attack: Callable[[FilesAs], None]) -> None:
        self.hv = hv
        self.joe = hv.host.files_as("clerk")
        self.attack = attack
        self.number = 0
        self.seen = 0

    def act(self) -> None:
        """One attempt; a refusal ends it."""
        if self.attack is not plant_inside:
            take_away(self.joe)
        with suppress(Win32Error):
            self.attack(self.joe)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """See every command as it begins."""
        run = cmdline.Shell.run

        def watched(shell: cmdline.Shell, tree: Any, context: Any) -> Any:
            if isinstance(tree, cmdparse.Simple):
                self.seen += 1
                if self.seen == self.number:
                    self.act()
            return run(shell, tree, context)

        monkeypatch.setattr(cmdline.Shell, "run", watched)

    def begin(self, number: int) -> None:
        """The host as it was, and the attack before command ``number``; never for 0."""
        self.number, self.seen = number, 0
        with self.hv.fleet.locked():
            files = self.hv.host.files
            for place in files.children(files.resolve(ABOVE)):
                self._remove(place)

    def _remove(self, place: Any) -> None:
        files = self.hv.host.files
        if not place.is_directory:
            files.remove_file(place)
            return
        if place.link is None:
            for inner in files.children(place):
                self._remove(inner)
        files.remove_directory(place)


Attack = Callable[[FilesAs], None]


@pytest.mark.parametrize(("first", "attack"), [
    *((None, attack) for attack in (plant_folder, plant_closed, plant_link, plant_inside)),
    (plant_closed, plant_link), (plant_closed, plant_inside), (plant_link, plant_folder), (plant_link, plant_closed),
])
def test_whenever_a_user_acts_his_folder_is_refused(
        bare: WindowsHost, monkeypatch: pytest.MonkeyPatch, attack: Attack, first: Attack | None) -> None:
    """Before each command of each line: what is trusted at the end is a folder that only we have ever written to."""
    attacker = Attacker(bare, attack)
    attacker.watch(monkeypatch)
    outcomes = []
    for number in itertools.count():
        attacker.begin(number)
        if first is not None:
            with bare.fleet.locked():
                first(attacker.joe)
        try:
            ensure(bare)
        except HypervError as error:
            outcomes.append(error.error_code)
        else:
            outcomes.append("trusted")
            with bare.fleet.locked():
                files = bare.host.files
                place = files.resolve(STATE, follow_last=False)
                assert (place.link, files.owner(place), attacker.joe.may(STATE, acl.READ_DATA)) == (None, acl.ADMINISTRATORS, False)
            assert bare.names(STATE) == PARTS
        if number > attacker.seen:
            break
    alone = "trusted" if first is None else "state_dir_untrusted"
    assert (outcomes[0], outcomes[-1], "state_dir_untrusted" in outcomes) == (alone, alone, True), "0: no attack; the last: too late"
    assert set(outcomes) <= {"trusted", "state_dir_untrusted", "state_dir_not_made"}
    assert len(outcomes) >= 10
