# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots of hosts, volumes and shares: never more holders than the limit, one of each or none, a dead one ends by itself, lost answers make
no second holder."""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.module import Call, Host
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import run_slots
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import SYSTEM_IDENTITY
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_slots import HostBusy, Slots, TargetBusy, VolumeBusy, holder
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import slots
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume
from ansible_collections.agentless.hyperv.plugins.modules import hyperv_export, hyperv_vss_copy
from simulator.fileserver import FileServerSpec
from simulator.hyperv.spec import DiskSpec, VmSpec
from simulator.soap.rules import lost_after, lost_before
from simulator.windows.spec import ShareSpec, VolumeSpec
from support import in_process
from support.windows_host import WindowsHost, windows_host

SHARE = Destination("\\\\NAS\\backup", None, None)
SLOTS = "E:\\backup\\agentless.hyperv\\slots"
NAS = FileServerSpec("NAS", "example.test", (VolumeSpec("C:"), VolumeSpec("E:")), (ShareSpec("backup", "E:\\backup", ("EXAMPLE\\HV01$",)),))


class Kept:
    """The lease of the run, which is not what is tested here."""

    def __init__(self) -> None:
        self.times = 0

    def keep(self) -> None:
        self.times += 1


class Site:
    """One host; the runs of others are the same host under other names: what counts is at the share."""

    def __init__(self, hv: WindowsHost) -> None:
        self.hv = hv
        self.warnings: list[str] = []
        self.progress: list[str] = []
        self.kept = Kept()

    def slot(self, host: str = "HV01", run_id: str = "night", *, limit: int = 1, on_host: int = 0, on_volume: int = 0,
             volumes: tuple[Volume, ...] = (), wait: float = 0.0, destination: Destination = SHARE) -> Slots:
        params = {"host_limit": on_host, "volume_limit": on_volume, "target_limit": limit, "target_wait": wait}
        call = Call(params, Host("hv", self.hv.writer, lambda: self.hv.writer), self.hv.clock, False, self.progress.append,
                    self.warnings.append, lambda name: Host(name, self.hv.writer, lambda: self.hv.writer))
        return run_slots.for_task(call, self.hv.writer, self.hv.folder, destination, SYSTEM_IDENTITY, host=host, run_id=run_id,
                                  volumes=volumes, lease=self.kept)

    def on_host(self) -> dict[str, str]:
        """The slots in the state folder, and who holds them."""
        folder = self.hv.folder.leases
        return {name: entry.split("_")[1] for name in self.hv.names(folder) for entry in self.hv.names(f"{folder}\\{name}")}

    def held(self) -> list[str]:
        """Who holds slots at the share."""
        server = self.hv.fleet.file_servers["NAS"].files
        return [entry.split("_")[1] for name in self.hv.names(SLOTS, server) for entry in self.hv.names(f"{SLOTS}\\{name}", server)]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with windows_host(tmp_path, file_servers=[NAS]) as hv:
        yield Site(hv)
        assert hv.tasks() == []
        assert hv.names(f"{hv.folder.path}\\jobs") == []


def test_no_more_holders_than_the_limit(site: Site) -> None:
    with site.slot("HV01", limit=2), site.slot("HV02", limit=2):
        assert site.held() == [holder("HV01", "night"), holder("HV02", "night")]
        with pytest.raises(TargetBusy) as busy, site.slot("HV03", limit=2):
            pass
        assert holder("HV02", "night") in busy.value.details["slots"]
    assert site.held() == []
    with site.slot("HV03", limit=2):
        assert site.held() == [holder("HV03", "night")]
    assert site.warnings == []


def test_waiting_until_one_is_free_keeps_the_lease_of_the_run(site: Site) -> None:
    first = site.slot("HV01")
    first.__enter__()
    with pytest.raises(TargetBusy), site.slot("HV02", wait=60):
        pass
    assert (len(site.progress), site.progress[0].rpartition(" in ")[2], site.kept.times) == (4, "5 s", 4)
    first.__exit__(None, None, None)
    with site.slot("HV02", wait=300):
        assert site.held() == [holder("HV02", "night")]


def test_a_run_that_died_is_outlived_and_its_retry_goes_on(site: Site) -> None:
    site.slot("HV01").__enter__()  # and never comes back
    with site.slot("HV01"):  # the same run again
        assert site.held() == [holder("HV01", "night")]
    site.slot("HV01", "other").__enter__()
    with pytest.raises(TargetBusy), site.slot("HV02"):
        pass
    site.hv.advance(timedelta(minutes=26).total_seconds())
    with site.slot("HV02"):
        assert site.held() == [holder("HV02", "night")]


def test_it_is_renewed_while_the_run_works(site: Site) -> None:
    with site.slot("HV01") as slot:
        for _unused in range(6):
            site.hv.advance(660)
            slot.keep()
        with pytest.raises(TargetBusy), site.slot("HV02"):
            pass
    assert (site.held(), site.warnings) == ([], [])


def test_one_that_was_lost_is_a_warning(site: Site) -> None:
    with site.slot("HV01") as slot:
        site.hv.advance(1600)
        with site.slot("HV02"):
            slot.keep()
            assert site.held() == [holder("HV02", "night")]
    assert [warning.split(":")[0] for warning in site.warnings] == ["The slot of \\\\NAS\\backup was lost"]
    assert site.held() == []


def test_what_is_not_ours_takes_a_slot_and_stays(site: Site) -> None:
    server = site.hv.fleet.file_servers["NAS"].files
    site.hv.put(f"{SLOTS}\\slot1\\theirs.txt", b"x", server)
    with site.slot("HV01", limit=2):
        server_names = site.hv.names(f"{SLOTS}\\slot2", server)
        assert [name.split("_")[1] for name in server_names] == [holder("HV01", "night")]
    with pytest.raises(TargetBusy) as busy, site.slot("HV01"):
        pass
    assert "1 of them hold something that is not ours" in busy.value.message
    assert site.hv.read(f"{SLOTS}\\slot1\\theirs.txt", server) == b"x"


def test_an_empty_folder_is_nobodys(site: Site) -> None:
    server = site.hv.fleet.file_servers["NAS"].files
    site.hv.put(f"{SLOTS}\\slot1\\x", b"x", server)
    with site.hv.fleet.locked():
        server.remove_file(server.resolve(f"{SLOTS}\\slot1\\x"))
    with site.slot("HV01"):
        assert site.held() == [holder("HV01", "night")]


def test_a_share_that_refuses(site: Site) -> None:
    with pytest.raises(HypervError) as refused, site.slot(destination=Destination("\\\\NAS\\none", None, None)):
        pass
    assert refused.value.error_code == "destination_unreachable"


LOCAL = Destination("E:\\Backup", Volume("\\\\?\\Volume{1}\\", "E:\\", "NTFS", 10, 10), 10)


@pytest.mark.parametrize(("limit", "destination", "on_volume"), [(0, SHARE, 0), (3, LOCAL, 0), (0, SHARE, 3)],
                         ids=["no limit", "local", "nothing to read"])
def test_where_there_is_no_limit_nobody_is_asked(site: Site, limit: int, destination: Destination, on_volume: int) -> None:
    before = site.hv.host.counters.requests
    with site.slot(limit=limit, destination=destination, on_volume=on_volume) as slot:
        slot.keep()
    assert site.hv.host.counters.requests == before


@pytest.mark.parametrize("limits", [{"limit": 33}, {"on_host": -1}, {"on_volume": 33}])
def test_a_limit_that_is_none(site: Site, limits: dict[str, int]) -> None:
    with pytest.raises(HypervError) as refused:
        site.slot(**limits)  # type: ignore[arg-type]
    assert refused.value.error_code == "invalid_limit"


# -- hosts and volumes ---------------------------------------------------------------------------------------------------

DISK = Volume("\\\\?\\Volume{AAAAAAAA-0000-4000-8000-00000000000D}\\", "D:\\", "NTFS", 10, 10)
CSV = tuple(Volume(f"\\\\?\\Volume{{0000000{n}-0000-4000-8000-00000000000c}}\\", f"C:\\ClusterStorage\\Volume{n}\\", "CSVFS", 10, 10)
            for n in (1, 2))


def test_a_host_has_no_more_runs_than_its_limit(site: Site) -> None:
    with site.slot(run_id="one", on_host=2, limit=0), site.slot(run_id="two", on_host=2, destination=LOCAL):
        assert site.on_host() == {"host.slot1": "one", "host.slot2": "two"}
        with pytest.raises(HostBusy) as busy, site.slot(run_id="three", on_host=2, limit=0, wait=30):
            pass
        assert [part.split()[0] for part in busy.value.details["slots"].split(", ")] == ["one", "two"]
        assert (len(site.progress), site.progress[0]) == (3, "the host HV01: all 2 slots are taken, looking again in 5 s")
    with site.slot(run_id="three", on_host=2, limit=0):
        assert site.on_host() == {"host.slot1": "three"}
    assert (site.on_host(), site.warnings) == ({}, [])


def test_the_slot_of_a_host_is_renewed_adopted_broken_and_lost_like_every_lease(site: Site) -> None:
    with site.slot(run_id="one", on_host=1, limit=0) as mine:
        for _unused in range(4):
            site.hv.advance(660)
            mine.keep()
        with site.slot(run_id="one", on_host=1, limit=0):  # the retry of a run that is not dead after all
            site.hv.advance(660)
            mine.keep()
        assert [warning.split(":")[0] for warning in site.warnings] == ["The slot of the host HV01 was lost"]
    site.slot(run_id="dead", on_host=1, limit=0).__enter__()
    with pytest.raises(HostBusy), site.slot(run_id="two", on_host=1, limit=0):
        pass
    site.hv.advance(timedelta(minutes=26).total_seconds())
    with site.slot(run_id="two", on_host=1, limit=0):
        assert site.on_host() == {"host.slot1": "two"}
    assert site.on_host() == {}


def test_a_volume_of_the_host_is_counted_there_and_a_shared_one_at_the_share(site: Site) -> None:
    volumes = (CSV[1], DISK, CSV[0], DISK)
    with site.slot(run_id="one", on_volume=1, volumes=volumes):
        assert site.on_host() == {"volume-aaaaaaaa-0000-4000-8000-00000000000d.slot1": "one"}
        server = site.hv.fleet.file_servers["NAS"].files
        assert site.hv.names(SLOTS, server) == ["slot1", *(f"volume-0000000{n}-0000-4000-8000-00000000000c.slot1" for n in (1, 2))]
        with pytest.raises(VolumeBusy) as busy, site.slot("HV02", "two", limit=0, on_volume=1, volumes=(CSV[1],)):
            pass
        assert busy.value.message.startswith("All 1 slots of the volume C:\\ClusterStorage\\Volume2\\ were taken")
        with site.slot("HV02", "two", limit=0, on_volume=1, volumes=(CSV[1],), destination=LOCAL):
            assert site.on_host()["volume-00000002-0000-4000-8000-00000000000c.slot1"] == "two"
    assert (site.held(), site.on_host(), site.warnings) == ([], {}, [])


def test_a_run_holds_one_of_each_or_none_while_it_waits(site: Site) -> None:
    """What is full is the last of all, at the share; what was taken before goes back, there in the same task."""
    with site.slot("HV02", "two", limit=0, on_volume=1, volumes=(CSV[1],)):
        theirs = site.held()
        registered = site.hv.host.counters.snapshot()
        with pytest.raises(VolumeBusy), site.slot(run_id="one", on_host=1, on_volume=1, volumes=CSV):
            pass
        used = site.hv.host.counters.since(registered).by_operation
        assert used["Invoke PS_ScheduledTask.RegisterByXml"] == 1
        assert (site.held(), site.on_host()) == (theirs, {})
    assert site.warnings == []


def test_a_limit_that_is_full_of_dead_runs_is_free_whatever_stands_before_it(site: Site) -> None:
    for number, volume in enumerate(CSV):
        site.slot("HV02", f"dead{number}", on_volume=1, volumes=(volume,), limit=0).__enter__()
    site.hv.advance(timedelta(minutes=26).total_seconds())
    with site.slot(run_id="one", on_volume=1, volumes=CSV):
        assert site.held() == [holder("HV01", "one")] * 3
    assert site.held() == []


def test_slots_of_a_share_are_renewed_and_lost_one_by_one(site: Site) -> None:
    server = site.hv.fleet.file_servers["NAS"].files
    with site.slot(run_id="one", on_volume=1, volumes=(CSV[0],)) as mine:
        entry, = site.hv.names(f"{SLOTS}\\slot1", server)
        with site.hv.fleet.locked():
            server.remove_file(server.resolve(f"{SLOTS}\\slot1\\{entry}"))
        site.hv.advance(660)
        mine.keep()
        assert site.held() == [holder("HV01", "one")]
        assert [warning.split(":")[0] for warning in site.warnings] == ["The slot of \\\\NAS\\backup was lost"]
        site.hv.advance(660)
        mine.keep()
        with pytest.raises(VolumeBusy), site.slot("HV02", limit=0, on_volume=1, volumes=(CSV[0],)):
            pass
    assert (site.held(), len(site.warnings)) == ([], 1)


def test_a_share_that_refuses_leaves_no_slot_on_the_host(site: Site) -> None:
    with pytest.raises(HypervError), site.slot(on_host=1, destination=Destination("\\\\NAS\\none", None, None)):
        pass
    assert (site.on_host(), site.warnings) == ({}, [])


@pytest.mark.parametrize("device", ["", "..\\..\\x", "\\\\?\\Volume{1}\\", "a" * 500, "\ud800"])
def test_a_volume_of_another_name_has_slots_of_a_safe_one(device: str) -> None:
    name, = (place.name for place in slots.places("C:\\x", slots.of_volume(device), 1))
    assert (len(name), name.replace("-", "").replace(".", "").isalnum(), slots.of_volume(device.upper())) == (49, True, name[:-1])


EVERY = range(1, 25)


@pytest.mark.parametrize("effect", [lost_before(), lost_after()], ids=lambda one: one.name)
@pytest.mark.parametrize("nth", EVERY if os.environ.get("FAULT_HARNESS") == "all" else (1, 5, 10, 16))
def test_a_lost_answer_never_makes_two_holders(site: Site, effect: Any, nth: int) -> None:
    wanted: dict[str, Any] = {"on_host": 1, "on_volume": 1, "volumes": (CSV[0],)}
    site.hv.host.rules.add(effect, nth=nth)
    first = site.slot("HV01", **wanted)
    try:
        first.__enter__()
    except HypervError:
        site.hv.host.rules.clear()
        first = site.slot("HV01", **wanted)  # the retry of the run
        first.__enter__()
    site.hv.host.rules.clear()
    assert (site.held(), site.on_host()) == ([holder("HV01", "night")] * 2, {"host.slot1": "night"})
    for other, busy in (({"on_host": 1, "limit": 0}, HostBusy), ({"limit": 1}, TargetBusy)):
        with pytest.raises(busy), ExitStack() as stack:
            stack.enter_context(site.slot("HV02", "other", **other))  # type: ignore[arg-type]
    first.__exit__(None, None, None)
    assert (site.held(), site.on_host()) == ([], {})


@pytest.mark.parametrize(("module", "limit", "held", "code"), [
    (hyperv_vss_copy, {"target_limit": 1}, {}, "target_busy"),
    (hyperv_export, {"host_limit": 1, "target_limit": 1}, {"limit": 0, "on_host": 1}, "host_limit_reached")], ids=["copy", "export"])
def test_what_protects_takes_its_turn(tmp_path: Path, module: Any, limit: dict[str, int], held: dict[str, int], code: str) -> None:
    vms = (VmSpec("sql01", folder="D:\\VMs\\sql01", disks=(DiskSpec("D:\\VMs\\sql01\\a.vhdx"),)),)
    with windows_host(tmp_path, file_servers=[NAS], vms=vms) as hv:
        site = Site(hv)
        params = ModuleArgumentSpecValidator(module.ARGUMENT_SPEC, **module.RULES).validate(
            {"name": "sql01", "destination": SHARE.path, "target_wait": 60, "consistency_fallback": "crash", "volume_limit": 1,
             **limit}).validated_parameters
        with site.slot("HV02", "theirs", **held):  # type: ignore[arg-type]
            refused = in_process.run(module.run, params, hv.fleet, hv.running)
        assert refused.error_code == code
        assert hv.names("E:\\backup\\HV01", hv.fleet.file_servers["NAS"].files) == []
        done = in_process.run(module.run, params, hv.fleet, hv.running)
        assert done.succeeded, str(done)
        assert (site.held(), site.on_host(), hv.tasks()) == ([], {}, [])
