# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots at a share: never more holders than the limit, a dead one ends by itself, lost answers make no second holder."""
from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ModuleArgumentSpecValidator
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.destinations import Destination
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import SYSTEM_IDENTITY
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.target_slots import TargetBusy, TargetSlot, holder
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

    def slot(self, host: str = "HV01", run_id: str = "night", *, limit: int = 1, wait: float = 0.0,
             destination: Destination = SHARE) -> TargetSlot:
        return TargetSlot(self.hv.writer, self.hv.clock, self.hv.folder, destination, SYSTEM_IDENTITY, host=host, run_id=run_id,
                          limit=limit, wait=wait, progress=self.progress.append, warn=self.warnings.append, lease=self.kept)

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
    with pytest.raises(TargetBusy), site.slot("HV02", wait=300):
        pass
    assert len(site.progress) == 5
    assert site.kept.times == 5
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
    assert [warning.split(":")[0] for warning in site.warnings] == ["The slot at \\\\NAS\\backup was lost"]
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


@pytest.mark.parametrize(("limit", "destination"), [(0, SHARE), (3, LOCAL)], ids=["no limit", "local"])
def test_where_there_is_no_limit_nobody_is_asked(site: Site, limit: int, destination: Destination) -> None:
    before = site.hv.host.counters.requests
    with site.slot(limit=limit, destination=destination) as slot:
        slot.keep()
    assert site.hv.host.counters.requests == before


def test_a_limit_that_is_none(site: Site) -> None:
    with pytest.raises(HypervError) as refused:
        site.slot(limit=33)
    assert refused.value.error_code == "invalid_target_limit"


EVERY = range(1, 25)


@pytest.mark.parametrize("effect", [lost_before(), lost_after()], ids=lambda one: one.name)
@pytest.mark.parametrize("nth", EVERY if os.environ.get("FAULT_HARNESS") == "all" else (1, 6, 10, 14))
def test_a_lost_answer_never_makes_two_holders(site: Site, effect: Any, nth: int) -> None:
    site.hv.host.rules.add(effect, nth=nth)
    first = site.slot("HV01")
    try:
        first.__enter__()
    except HypervError:
        site.hv.host.rules.clear()
        first = site.slot("HV01")  # the retry of the run
        first.__enter__()
    site.hv.host.rules.clear()
    assert site.held() == [holder("HV01", "night")]
    with pytest.raises(TargetBusy), site.slot("HV02"):
        pass
    first.__exit__(None, None, None)
    assert site.held() == []


@pytest.mark.parametrize("module", [hyperv_vss_copy, hyperv_export], ids=["copy", "export"])
def test_what_writes_to_the_share_takes_its_turn(tmp_path: Path, module: Any) -> None:
    vms = (VmSpec("sql01", folder="D:\\VMs\\sql01", disks=(DiskSpec("D:\\VMs\\sql01\\a.vhdx"),)),)
    with windows_host(tmp_path, file_servers=[NAS], vms=vms) as hv:
        site = Site(hv)
        params = ModuleArgumentSpecValidator(module.ARGUMENT_SPEC, **module.RULES).validate(
            {"name": "sql01", "destination": SHARE.path, "target_limit": 1, "target_wait": 60,
             "consistency_fallback": "crash"}).validated_parameters
        with site.slot("HV02"):
            refused = in_process.run(module.run, params, hv.fleet, hv.running)
        assert refused.error_code == "target_busy"
        assert hv.names("E:\\backup\\HV01", hv.fleet.file_servers["NAS"].files) == []
        done = in_process.run(module.run, params, hv.fleet, hv.running)
        assert done.succeeded, str(done)
        assert (site.held(), hv.tasks()) == ([], [])
