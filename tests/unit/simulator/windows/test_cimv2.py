# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes and root/cimv2, through a repository that checks every instance against the schema."""
from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from simulator.cim.model import CimError, CimValue, Instance, Ref
from simulator.cim.repository import Repository
from simulator.cim.schema import Schema
from simulator.windows.cimv2 import registration
from simulator.windows.programs.base import HostFacts, Speeds
from simulator.windows.spec import VolumeSpec
from unit.simulator.windows.helpers import ADMINISTRATOR, GIB, ORDINARY, Rig

NS = "root/cimv2"
VOLUMES = (VolumeSpec("C:", 100 * GIB, free=40 * GIB), VolumeSpec("D:", 50 * GIB, label="Data"), VolumeSpec("C:\\Mounts\\X"),
           VolumeSpec("C:\\ClusterStorage\\Volume1", filesystem="CSVFS"))
CLASSES = ("Win32_Volume", "Win32_LogicalDisk", "Win32_MountPoint", "Win32_Share", "Win32_ShadowCopy", "Win32_ShadowStorage",
           "Win32_ShadowProvider", "Win32_ShadowContext", "Win32_ShadowVolumeSupport", "Win32_ShadowDiffVolumeSupport", "Win32_ShadowFor",
           "Win32_ShadowBy", "Win32_ShadowOn", "Win32_OperatingSystem", "Win32_ComputerSystem", "Win32_Service", "Win32_Process")


class Wmi:
    """The repository of a rig."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.repository = Repository(Schema.load(), rig.facts.os_version)
        self.services = registration.register(self.repository, rig.processes, rig.shadows)

    def query(self, wql: str) -> list[Instance]:
        return self.repository.query(NS, wql, ADMINISTRATOR).instances

    def one(self, class_name: str) -> Instance:
        (found,) = self.repository.enumerate(NS, class_name, ADMINISTRATOR)
        return found

    def invoke(self, class_name: str, method: str, selectors: Mapping[str, str] | None = None,
               **parameters: CimValue) -> dict[str, CimValue]:
        answer = self.repository.invoke(NS, class_name, selectors or {}, method, parameters, ADMINISTRATOR)
        return {parameter.name: value for parameter, value in answer}


@pytest.fixture
def wmi(tmp_path: Path) -> Wmi:
    """A host with four volumes."""
    return Wmi(Rig(tmp_path, VOLUMES, facts=HostFacts("hv-node-01", "corp.example", utc_offset_minutes=60)))


@pytest.mark.parametrize("version", ["2012R2", "2016", "2019", "2022", "2025"])
def test_every_class_fits_the_schema_of_every_release(tmp_path: Path, version: str) -> None:
    wmi = Wmi(Rig(tmp_path, VOLUMES, facts=HostFacts("HV1", os_version=version)))
    wmi.rig.put("D:\\x")
    wmi.rig.shadows.create("D:\\", None)
    counts = {name: len(wmi.repository.enumerate(NS, name, ADMINISTRATOR)) for name in CLASSES}
    assert all(counts.values()), counts
    assert counts["Win32_Volume"] == 4
    assert counts["Win32_LogicalDisk"] == 2
    builds = {"2012R2": "9600", "2016": "14393", "2019": "17763", "2022": "20348", "2025": "26100"}
    assert wmi.one("Win32_OperatingSystem")["BuildNumber"] == builds[version]


def test_volumes(wmi: Wmi) -> None:
    rows = {str(row["Name"]): row for row in wmi.repository.enumerate(NS, "Win32_Volume", ADMINISTRATOR)}
    assert {name: (row["DriveLetter"], row["FileSystem"], row["FreeSpace"]) for name, row in rows.items()} == {
        "C:\\": ("C:", "NTFS", 40 * GIB), "D:\\": ("D:", "NTFS", 50 * GIB), "C:\\Mounts\\X\\": (None, "NTFS", 100 * GIB),
        "C:\\ClusterStorage\\Volume1\\": (None, "CSVFS", 100 * GIB)}
    device = str(rows["D:\\"]["DeviceID"])
    assert device.startswith("\\\\?\\Volume{")
    assert wmi.repository.get(NS, "Win32_Volume", {"DeviceID": device}, ADMINISTRATOR)["Label"] == "Data"
    mounts = {(point["Directory"].keys["Name"], point["Volume"].keys["DeviceID"])  # type: ignore[union-attr]
              for point in wmi.repository.enumerate(NS, "Win32_MountPoint", ADMINISTRATOR)}
    assert ("C:\\Mounts\\X", rows["C:\\Mounts\\X\\"]["DeviceID"]) in mounts
    assert ("D:\\", device) in mounts


def test_a_shadow_copy_from_creation_to_deletion(wmi: Wmi) -> None:
    made = wmi.invoke("Win32_ShadowCopy", "Create", Volume="D:\\", Context="ClientAccessible")
    assert made["ReturnValue"] == 0
    (copy,) = wmi.query(f'SELECT * FROM Win32_ShadowCopy WHERE ID="{made["ShadowID"]}"')
    (volume,) = wmi.query("SELECT * FROM Win32_Volume WHERE DriveLetter='D:'")
    assert (copy["VolumeName"], copy["State"], copy["Count"]) == (volume["DeviceID"], 12, 1)
    assert copy["DeviceObject"] == "\\\\?\\GLOBALROOT\\Device\\HarddiskVolumeShadowCopy1"
    assert copy["OriginatingMachine"] == "hv-node-01.corp.example"
    flags = ("Persistent", "ClientAccessible", "NoAutoRelease", "NoWriters", "Differential", "HardwareAssisted")
    assert [copy[name] for name in flags] == [True, True, True, True, True, False]
    assert copy["InstallDate"] == wmi.rig.clock.now()
    assert copy["InstallDate"].utcoffset() == timedelta(hours=1)  # type: ignore[union-attr]
    area = wmi.one("Win32_ShadowStorage")
    assert area["Volume"] == area["DiffVolume"] == Ref(NS, "Win32_Volume", {"DeviceID": str(volume["DeviceID"])})
    assert (area["UsedSpace"], area["MaxSpace"]) == (0, 5 * GIB)
    found = wmi.query(f'ASSOCIATORS OF {{Win32_ShadowCopy.ID="{made["ShadowID"]}"}} WHERE AssocClass=Win32_ShadowFor')
    assert [row["DeviceID"] for row in found] == [volume["DeviceID"]]
    wmi.repository.delete(NS, "Win32_ShadowCopy", {"ID": str(made["ShadowID"]).lower()}, ADMINISTRATOR)
    assert wmi.repository.enumerate(NS, "Win32_ShadowCopy", ADMINISTRATOR) == []
    assert wmi.rig.changes == [f"create shadow copy {made['ShadowID']} of D:\\", f"delete shadow copy {made['ShadowID']}"]
    with pytest.raises(CimError) as caught:
        wmi.repository.delete(NS, "Win32_ShadowCopy", {"ID": str(made["ShadowID"])}, ADMINISTRATOR)
    assert caught.value.kind == "not_found"


def test_a_copy_in_use_or_a_failing_provider_refuses_the_deletion(wmi: Wmi) -> None:
    copy = wmi.rig.shadows.add_foreign("D:", provider="{11111111-0000-0000-0000-000000000000}")
    copy.locked = True
    wmi.rig.shadows.delete_errors = [None, 0x80042306]
    codes = []
    for _n in range(2):
        with pytest.raises(CimError) as caught:
            wmi.repository.delete(NS, "Win32_ShadowCopy", {"ID": copy.shadow_id}, ADMINISTRATOR)
        codes.append(caught.value.hresult)
    assert codes == [0x80042307, 0x80042306]
    assert wmi.one("Win32_ShadowCopy")["HardwareAssisted"] is True


def test_an_ordinary_account_neither_sees_nor_makes_copies(wmi: Wmi) -> None:
    answer = wmi.repository.invoke(NS, "Win32_ShadowCopy", {}, "Create", {"Volume": "D:\\"}, ORDINARY)
    assert answer[-1][1] == 1
    for name in ("Win32_ShadowCopy", "Win32_ShadowStorage", "Win32_ShadowProvider"):
        with pytest.raises(CimError) as caught:
            wmi.repository.enumerate(NS, name, ORDINARY)
        assert caught.value.kind == "access_denied"


def test_files_by_name_and_by_folder(wmi: Wmi) -> None:
    wmi.rig.put("D:\\Dir\\Disk 1.VHDX", b"12345")
    wmi.rig.put("D:\\Dir\\Sub\\x", b"")
    (row,) = wmi.query(r'SELECT * FROM CIM_DataFile WHERE Name="d:\\dir\\DISK 1.vhdx"')
    assert [row[name] for name in ("Name", "Drive", "Path", "FileName", "Extension", "FileSize")] == [
        "d:\\dir\\disk 1.vhdx", "d:", "\\dir\\", "disk 1", "vhdx", 5]
    assert [row["Name"] for row in wmi.query(r'SELECT * FROM CIM_DataFile WHERE Drive="d:" AND Path="\\dir\\"')] == ["d:\\dir\\disk 1.vhdx"]
    assert [row["Name"] for row in wmi.query(r'SELECT * FROM Win32_Directory WHERE Drive="D:" AND Path="\\Dir\\"')] == ["d:\\dir\\sub"]
    assert wmi.query(r'SELECT * FROM CIM_DataFile WHERE Name="D:\\Dir\\Sub"') == []
    assert wmi.query(r'SELECT * FROM CIM_DataFile WHERE Name="D:\\none\\x"') == []
    assert wmi.query('SELECT * FROM CIM_DataFile WHERE Name="nonsense"') == []
    assert wmi.repository.get(NS, "Win32_Directory", {"Name": "D:\\Dir\\Sub"}, ADMINISTRATOR)["FileName"] == "sub"


@pytest.mark.parametrize("wql", ["SELECT * FROM CIM_DataFile", "SELECT * FROM CIM_DataFile WHERE Extension='vhdx'",
                                 "SELECT * FROM CIM_DataFile WHERE Drive='d:'",
                                 "SELECT Name FROM Win32_Directory WHERE FileName LIKE 'a%'"])
def test_a_walk_over_the_disks_fails(wmi: Wmi, wql: str) -> None:
    with pytest.raises(CimError) as caught:
        wmi.query(wql)
    assert caught.value.kind == "failed"


@pytest.mark.parametrize(("class_name", "name", "method", "parameters", "code"), [
    ("CIM_DataFile", "D:\\a\\f", "Delete", {}, 0), ("CIM_DataFile", "D:\\a\\locked", "Delete", {}, 15),
    ("CIM_DataFile", "D:\\a\\f", "Rename", {"FileName": "D:\\a\\g"}, 0), ("CIM_DataFile", "D:\\a\\f", "Rename", {"FileName": "C:\\g"}, 13),
    ("CIM_DataFile", "D:\\a\\f", "Rename", {"FileName": "D:\\a\\locked"}, 10),
    ("CIM_DataFile", "D:\\a\\f", "Rename", {"FileName": "g"}, 21),
    ("CIM_DataFile", "D:\\a\\f", "Copy", {"FileName": "C:\\g"}, 0), ("CIM_DataFile", "D:\\a\\f", "Copy", {"FileName": "D:\\no\\g"}, 9),
    ("CIM_DataFile", "D:\\a\\f", "Copy", {"FileName": "D:\\a\\locked"}, 10), ("Win32_Directory", "D:\\b", "Delete", {}, 0),
    ("Win32_Directory", "D:\\a", "Delete", {}, 15), ("Win32_Directory", "D:\\b", "Rename", {"FileName": "D:\\c"}, 0),
])
def test_return_values_of_file_methods(wmi: Wmi, class_name: str, name: str, method: str, parameters: dict[str, CimValue],
                                       code: int) -> None:
    for path in ("D:\\a\\f", "D:\\a\\locked", "D:\\b\\inner\\x"):
        wmi.rig.put(path)
    wmi.rig.files.hold_live_disk("D:\\a\\locked", "vm")
    assert wmi.invoke(class_name, method, {"Name": name}, **parameters)["ReturnValue"] == code


def test_the_system_and_its_clock(wmi: Wmi) -> None:
    wmi.rig.clock.advance(90)
    system, computer = wmi.one("Win32_OperatingSystem"), wmi.one("Win32_ComputerSystem")
    assert system["LocalDateTime"] == wmi.rig.clock.now()
    assert system["LocalDateTime"].utcoffset() == timedelta(hours=1)  # type: ignore[union-attr]
    assert system["LastBootUpTime"] == wmi.rig.clock.now() - timedelta(days=3, seconds=90)
    assert [computer[name] for name in ("Name", "DNSHostName", "Domain", "PartOfDomain", "DomainRole", "Workgroup")] == [
        "HV-NODE-01", "hv-node-01", "corp.example", True, 3, None]


def test_a_workgroup_host_has_its_workgroup_as_domain(tmp_path: Path) -> None:
    computer = Wmi(Rig(tmp_path)).one("Win32_ComputerSystem")
    assert [computer[name] for name in ("Domain", "PartOfDomain", "DomainRole", "Workgroup")] == ["WORKGROUP", False, 2, "WORKGROUP"]


def test_a_stopped_service_tells_its_listeners(wmi: Wmi) -> None:
    told: list[str] = []
    wmi.services["vmms"].listeners.append(told.append)
    codes = [wmi.invoke("Win32_Service", method, {"Name": "VMMS"})["ReturnValue"] for method in
             ("StopService", "StopService", "StartService", "StartService")]
    assert (codes, told) == ([0, 5, 0, 10], ["Stopped", "Running"])
    assert wmi.rig.changes == ["service vmms: Stopped", "service vmms: Running"]


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("line", "directory", "code"), [
    ("cmd.exe /d /c echo x>D:\\made", None, 0), ("C:\\Windows\\System32\\robocopy.exe C:\\a D:\\b", None, 0), ("mkdir D:\\x", None, 9),
    ("nosuch.exe", None, 9), ("", None, 21), (None, None, 21), ("cmd.exe /c rem", "D:\\nowhere", 9), ("cmd.exe /c rem", "D:\\", 0),
])
def test_return_values_of_process_creation(wmi: Wmi, line: str | None, directory: str | None, code: int) -> None:
    answer = wmi.invoke("Win32_Process", "Create", CommandLine=line, CurrentDirectory=directory)
    assert (answer["ReturnValue"], answer["ProcessId"] is not None) == (code, code == 0)


def test_a_created_process_outlives_every_shell_and_reports_through_a_file(tmp_path: Path) -> None:
    rig = Rig(tmp_path, speeds=Speeds(copy_bytes_per_second=1000, chunk=1000))
    wmi = Wmi(rig)
    rig.put("C:\\s\\f", b"x" * 10_000)
    child = rig.start("robocopy C:\\s D:\\child f", job="shell")
    answer = wmi.invoke("Win32_Process", "Create", CommandLine='cmd.exe /d /c "robocopy C:\\s D:\\d f & call echo %^errorlevel%>D:\\done"')
    rows = wmi.query(f"SELECT * FROM Win32_Process WHERE ProcessId={answer['ProcessId']}")
    assert [(row["Name"], row["Handle"]) for row in rows] == [("cmd.exe", str(answer["ProcessId"]))]
    rig.clock.advance(2)
    rig.processes.kill_job("shell")
    rig.clock.advance(60)
    assert child.exit_code == 1
    assert rig.files.read_file("D:\\done") == b"1\r\n"
    assert wmi.query(f"SELECT * FROM Win32_Process WHERE ProcessId={answer['ProcessId']}") == []


def test_an_error_level_on_the_same_line_is_that_of_before(wmi: Wmi) -> None:
    wmi.invoke("Win32_Process", "Create", CommandLine='cmd.exe /c "nosuch & echo [%errorlevel%]>D:\\done & echo %errorlevel%>D:\\empty"')
    assert wmi.rig.files.read_file("D:\\done") == b"[0] \r\n"
    assert wmi.rig.files.read_file("D:\\empty") == b""  # a digit before the sign is the handle to redirect


def test_a_process_can_be_ended(tmp_path: Path) -> None:
    rig = Rig(tmp_path, speeds=Speeds(copy_bytes_per_second=1000, chunk=1000))
    wmi = Wmi(rig)
    rig.put("C:\\s\\f", b"x" * 10_000)
    pid = str(wmi.invoke("Win32_Process", "Create", CommandLine="robocopy C:\\s D:\\d f")["ProcessId"])
    assert wmi.invoke("Win32_Process", "Terminate", {"Handle": pid}, Reason=3)["ReturnValue"] == 0
    rig.clock.advance(60)
    assert rig.files.entry(rig.files.resolve("D:\\d\\f")).size == 1000


def test_a_profile_belongs_to_its_account(rig: Rig) -> None:
    assert rig.run("echo x>%TEMP%\\t & cd", caller=ORDINARY).out == "C:\\Users\\clerk\r\n"
    assert rig.changes == ["write C:\\Users\\clerk\\AppData\\Local\\Temp\\t"]
    assert rig.run("dir C:\\Users\\Administrator", caller=ORDINARY).code == 1
