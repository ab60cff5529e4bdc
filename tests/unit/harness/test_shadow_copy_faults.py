# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``hyperv_shadow_copy`` and ``hyperv_cleanup`` through the fault harness.

The contract: foreign shadow copies stay, whatever happens; a success is true; what a failed creation leaves is known to be ours, or
told as suspect; and what the clean-up could not finish, its next run does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_cleanup, hyperv_shadow_copy, hyperv_shadow_copy_info
from simulator.fileserver import FileServerSpec
from simulator.host import SimHost
from simulator.spec import HostSpec
from simulator.windows import acl
from simulator.windows.acl import Ace, Acl
from simulator.windows.shadows import ShadowCopy
from simulator.windows.spec import ShareSpec, VolumeSpec
from support.fault_harness import FAULTS, Fault, NextRun, Operation, Recorded, Seen, check, record, validated

STATE = "C:\\ProgramData\\agentless.hyperv"
MACHINE = "E:\\Backup\\HV01\\sql01_01234567"
INCOMPLETE = MACHINE + "\\20260101T000000Z_old-1"
COMPLETE = MACHINE + "\\20250101T000000Z_old-1"
AT_SHARE = "\\\\NAS\\backup\\HV01\\sql01_01234567"
NAS = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV01$",)),))


def spec() -> HostSpec:
    return HostSpec("HV01", domain="example.test", volumes=(VolumeSpec("C:"), VolumeSpec("D:"), VolumeSpec("E:")))


@dataclass(frozen=True)
class Witness:
    """What was on the host before."""

    foreign: tuple[ShadowCopy, ...]
    ours: tuple[str, ...] = ()


def only_foreign(host: SimHost) -> Witness:
    return Witness((host.shadows.add_foreign("D:\\"), host.shadows.add_foreign("D:\\", context="ClientAccessible")))


def make_state_folder(host: SimHost) -> None:
    """As the collection leaves it."""
    host.files.create_directory(STATE)
    aces = tuple(Ace(sid, acl.FULL, frozenset({"OI", "CI"})) for sid in (acl.SYSTEM, acl.ADMINISTRATORS))
    host.files.set_acl(host.files.resolve(STATE), Acl(aces, protected=True))
    host.files.set_owner(host.files.resolve(STATE), acl.ADMINISTRATORS)
    for part in ("s", "intents", "jobs", "leases"):
        host.files.create_directory(f"{STATE}\\{part}")


def intent(host: SimHost, name: str, before: Iterable[ShadowCopy], folders: tuple[str, ...] = ()) -> None:
    """An intent of the run ``old-1`` for a shadow copy of D:, written now."""
    lines = {
        "format": 1,
        "action": '"create_shadow_copy"',
        "run_id": '"old-1"',
        "host_time": host.clock.now().strftime('"%Y-%m-%dT%H:%M:%SZ"'),
        "volume": '"' + host.shadows.files.volume_of("D:\\").device_id.replace("\\", "\\\\") + '"',
        "shadows_before": "[" + ", ".join(f'"{copy.shadow_id}"' for copy in before) + "]",
        "folders": "[" + ", ".join('"' + folder.replace("\\", "\\\\") + '"' for folder in folders) + "]",
    }
    text = "{\r\n" + ",\r\n".join(f' "{key}": {value}' for key, value in lines.items()) + "\r\n}\r\n"
    host.files.write_file(f"{STATE}\\intents\\{name}.json", text.encode("ascii"))


def shadow_of_d(host: SimHost) -> ShadowCopy:
    code, shadow_id = host.shadows.create("D:\\", "ClientAccessible")
    assert (code, shadow_id is not None) == (0, True)
    found = host.shadows.find(str(shadow_id))
    assert found is not None
    return found


def remains(host: SimHost) -> Witness:
    """Two interrupted runs: one that copied, and one that had not linked yet; a dead link, and a copy that is complete."""
    witness = only_foreign(host)
    make_state_folder(host)
    first = shadow_of_d(host)
    intent(host, f"old-1_00000001.{first.shadow_id}", witness.foreign, (MACHINE,))
    host.files.make_link(f"{STATE}\\s\\{first.shadow_id}", first.device_object + "\\", "symlinkd")
    host.files.make_link(f"{STATE}\\s\\{{00000000-0000-0000-0000-000000000000}}", "C:\\gone", "symlinkd")
    for folder in ("E:\\Backup", "E:\\Backup\\HV01", MACHINE):
        host.files.create_directory(folder)
    for folder in (INCOMPLETE, COMPLETE):
        host.files.create_directory(folder)
        host.files.create_directory(folder + "\\disks")
        host.files.write_file(folder + "\\disks\\a.vhdx", b"disk")
    host.files.write_file(COMPLETE + "\\manifest.json", b"{}")
    host.clock.advance(600)
    intent(host, "old-1_00000002", (*witness.foreign, first))
    second = shadow_of_d(host)
    host.clock.advance(7200)
    return Witness(witness.foreign, (first.shadow_id, second.shadow_id))


def names(host: SimHost, path: str) -> list[str]:
    if not host.files.exists(path):
        return []
    return [place.parts[-1] for place in host.files.children(host.files.resolve(path))]


def own(host: SimHost) -> list[str]:
    return [copy.shadow_id for copy in host.shadows.copies if not copy.foreign]


def links(host: SimHost) -> list[str]:
    return names(host, STATE + "\\s")


def intents(host: SimHost) -> list[str]:
    return names(host, STATE + "\\intents")


def of_others(seen: Seen) -> Iterator[str]:
    for copy in seen.witness.foreign:
        if copy not in seen.host.shadows.copies:
            yield f"the foreign shadow copy {copy.shadow_id} is gone"


class Making:
    """``state: present`` with a run of its own."""

    def clean(self, seen: Seen) -> Iterable[str]:
        yield from self.true_success(seen)
        if (len(own(seen.host)), len(intents(seen.host))) != (1, 1):
            yield f"{own(seen.host)} {intents(seen.host)}"

    def after(self, seen: Seen) -> Iterable[str]:
        yield from of_others(seen)
        yield from self.true_success(seen)
        assert seen.case is not None
        if seen.ending.succeeded or seen.case.fault.kill is not None:
            yield from self.accounted(seen)
        elif seen.case.fault.forever or seen.ending.error_code == "outcome_unknown":
            yield from self.accounted(seen, {item["id"] for item in seen.ending.leftovers})
        else:
            named = {item["id"] for item in seen.ending.leftovers}
            yield from (f"left over and not named: {shadow}" for shadow in own(seen.host) if shadow not in named)

    def healed(self, seen: Seen) -> Iterable[str]:
        yield from of_others(seen)
        yield from self.true_success(seen)
        yield from self.accounted(seen, {item["id"] for item in seen.first.leftovers})

    def true_success(self, seen: Seen) -> Iterator[str]:
        if not seen.ending.succeeded:
            return
        assert seen.ending.result is not None
        made = seen.ending.result["shadow_copy"]
        if made["id"] not in own(seen.host) or made["id"] not in links(seen.host) or (made["owner"], made["linked"]) != ("ours", True):
            yield f"a success with {made}, the host has {own(seen.host)}, links {links(seen.host)}"

    def accounted(self, seen: Seen, told: Iterable[str] = ()) -> Iterator[str]:
        """Each shadow copy of ours has a link, an intent that is named by it, an open intent, or was told."""
        open_ones = [name for name in intents(seen.host) if "{" not in name and name.endswith(".json")]
        for shadow in own(seen.host):
            if shadow not in links(seen.host) and not any(shadow in name for name in intents(seen.host)) and not open_ones \
                    and shadow not in set(told):  # fmt: skip
                yield f"nothing on the host tells of {shadow}"


class Deleting:
    """``state: absent`` of a foreign shadow copy by its ID; the other foreign one stays."""

    def clean(self, seen: Seen) -> Iterable[str]:
        yield from self.gone(seen)

    def after(self, seen: Seen) -> Iterable[str]:
        if seen.witness.foreign[0] not in seen.host.shadows.copies:
            yield "another foreign shadow copy is gone"
        if seen.ending.succeeded:
            yield from self.gone(seen)

    def healed(self, seen: Seen) -> Iterable[str]:
        yield from self.after(seen)
        yield from self.gone(seen)

    def gone(self, seen: Seen) -> Iterator[str]:
        if any(copy.shadow_id == CHOSEN for copy in seen.host.shadows.copies):
            yield "the shadow copy is still there"
        if names(seen.host, STATE):
            yield "a state folder was made for nothing"


CHOSEN = "{12345678-1234-1234-1234-123456789ABC}"


def chosen(host: SimHost) -> Witness:
    first = host.shadows.add_foreign("D:\\", context="ClientAccessible")
    host.shadows.add_foreign("D:\\", shadow_id=CHOSEN)
    return Witness((first,))


AT_SHARE_INTENT = "old-1_00000003.{00000000-0000-0000-0000-000000000001}.json"


def remains_everywhere(host: SimHost) -> Witness:
    """The same, with a lease, a job and its task, a copy at a share; and a run that is at work."""
    witness = remains(host)
    for place in ("\\\\NAS\\backup\\HV01", AT_SHARE, f"{AT_SHARE}\\20260101T000000Z_old-1", f"{AT_SHARE}\\20260101T000000Z_old-1\\disks"):
        host.files.create_directory(place)
    host.files.write_file(f"{AT_SHARE}\\20260101T000000Z_old-1\\disks\\a.vhdx", b"disk")
    intent(host, AT_SHARE_INTENT.removesuffix(".json"), witness.foreign, (AT_SHARE,))
    host.files.create_directory(f"{STATE}\\jobs\\host_old-1")
    host.files.write_file(f"{STATE}\\jobs\\host_old-1\\result.txt", b"x")
    host.tasks.add_foreign("\\agentless.hyperv\\host_old-1")
    lease(host, "old-1")
    host.clock.advance(7200)
    host.files.create_directory(f"{STATE}\\jobs\\host_new-1")
    lease(host, "new-1", 600)
    return witness


def lease(host: SimHost, run_id: str, minutes: float = 20) -> None:
    """One that the run has just taken."""
    host.files.create_directory(f"{STATE}\\leases\\{run_id}")
    expires = (host.clock.now() + timedelta(minutes=minutes)).strftime("%Y%m%dT%H%M%SZ")
    host.files.write_file(f"{STATE}\\leases\\{run_id}\\{expires}_{run_id}_aaaaaaaaaaaa.lease", b"lease")


class CleaningUp:
    """``remove: true`` after interrupted runs, beside one that is at work."""

    def clean(self, seen: Seen) -> Iterable[str]:
        yield from self.after(seen)
        assert seen.ending.result is not None
        kinds = sorted(item["kind"] for item in seen.ending.result["removed"])
        each = ["incomplete_copy", "intent", "shadow_copy"]
        if kinds != sorted([*each, *each, "intent", "job", "lease", "link", "task"]):
            yield f"removed {kinds}"

    def after(self, seen: Seen) -> Iterable[str]:
        yield from of_others(seen)
        if names(seen.host, COMPLETE) != ["disks", "manifest.json"]:
            yield "the complete copy was touched"
        if "host_new-1" not in names(seen.host, STATE + "\\jobs") or "new-1" not in names(seen.host, STATE + "\\leases"):
            yield "the run at work was touched"
        left = {*own(seen.host), *links(seen.host), *intents(seen.host), *(name for name in names(seen.host, MACHINE) if "2026" in name)}
        left |= {*names(seen.host, AT_SHARE), *(task.name for task in seen.host.tasks.tasks() if task.path == "\\agentless.hyperv\\")}
        left |= {name for part in ("jobs", "leases") for name in names(seen.host, f"{STATE}\\{part}") if "new-1" not in name}
        if seen.ending.succeeded and left:
            yield f"a success, and there is still {left}"
        if seen.ending.result is not None and seen.ending.result.get("failed"):
            yield from self.told(seen, left)

    def healed(self, seen: Seen) -> Iterable[str]:
        return self.after(seen)

    def told(self, seen: Seen, left: set[str]) -> Iterator[str]:
        named = " ".join(item["id"].lower() for item in seen.ending.leftovers)
        # a share that nobody could look at is told as a place: what lies there has no name yet, and its intent stays to tell of it
        unseen = {*names(seen.host, AT_SHARE), AT_SHARE_INTENT} if AT_SHARE.lower() in named.split() else set()
        for item in left - unseen:
            if item.partition(".{")[0].removesuffix(".json").lower() not in named:
                yield f"left over and not told: {item}"


def params(**changes: Any) -> dict[str, Any]:
    return {"state": "present", "volume": None, "id": None, "run_id": None, "max_age": None, "vss_wait": 600, **changes}


def operations() -> list[Operation]:
    making, deleting, cleaning = Making(), Deleting(), CleaningUp()
    return [
        Operation(
            "hyperv_shadow_copy present", spec, hyperv_shadow_copy.run, params(volume="D:\\", run_id="night-1"), making.clean, making.after,
            making.healed, only_foreign),
        Operation(
            "hyperv_shadow_copy absent", spec, hyperv_shadow_copy.run, params(state="absent", id=CHOSEN), deleting.clean, deleting.after,
            deleting.healed, chosen),
        Operation(
            "hyperv_cleanup", spec, hyperv_cleanup.run, validated(hyperv_cleanup, remove=True), cleaning.clean, cleaning.after,
            cleaning.healed, remains_everywhere, (NAS,), NextRun(hyperv_cleanup.run, validated(hyperv_cleanup, remove=True), 7200)),
    ]  # fmt: skip


@pytest.fixture(scope="module", params=operations(), ids=lambda operation: operation.name.replace(" ", "_"))
def writing(request: pytest.FixtureRequest) -> tuple[Operation, Recorded]:
    return request.param, record(request.param)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_operations_that_write(writing: tuple[Operation, Recorded], fault: Fault) -> None:
    assert check(*writing, fault, most=1) >= 1


class Listing:
    """What only reads says the same whenever it succeeds, and changes nothing."""

    def judge(self, seen: Seen) -> Iterable[str]:
        yield from of_others(seen)
        if seen.host.changes or seen.host.counters.writing:
            yield f"something was changed: {list(seen.host.recent_changes)}"
        if seen.ending.succeeded:
            assert seen.ending.result is not None
            listed = {entry["id"]: (entry["owner"], entry["run_id"]) for entry in seen.ending.result["shadow_copies"]}
            expected = {copy.shadow_id: ("foreign", None) for copy in seen.witness.foreign}
            expected |= dict.fromkeys(seen.witness.ours, ("ours", "old-1"))
            if listed != expected:
                yield f"it listed {listed}"


def listing() -> Operation:
    contract = Listing()
    return Operation("hyperv_shadow_copy_info", spec, hyperv_shadow_copy_info.run, {"volume": None}, contract.judge, contract.judge,
                     None, remains)  # fmt: skip


@pytest.fixture(scope="module")
def reading() -> tuple[Operation, Recorded]:
    made = listing()
    return made, record(made)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_what_only_reads(reading: tuple[Operation, Recorded], fault: Fault) -> None:
    assert check(*reading, fault, most=1) >= 1
