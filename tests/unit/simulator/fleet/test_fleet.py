# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet as a whole: ports, locking, shared surroundings, faults over the wire, and the command line."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from simulator.cim.model import Account
from simulator.fleet import Fleet, RunningHost, SimulatorFailure
from simulator.hyperv.spec import VmSpec
from simulator.net import contract
from simulator.soap import rules
from simulator.spec import ClusterSpec, HostSpec, Limits, ListenerSpec
from simulator.windows.spec import ShareSpec, VolumeSpec
from winrm.exceptions import WinRMOperationTimeoutError, WinRMTransportError, WSManFaultError
from winrm.protocol import Protocol

TESTS = Path(__file__).resolve().parents[3]
ADMINISTRATOR = Account("Administrator", "secret", builtin_administrator=True, groups=frozenset({"Administrators"}))


def spec(name: str = "HV1", **values: object) -> HostSpec:
    return HostSpec(name, accounts=(ADMINISTRATOR,), **{"volumes": (VolumeSpec("C:"),), **values})  # type: ignore[arg-type]


def client(running: RunningHost, **values: object) -> Protocol:
    return Protocol(running.url, **{"transport": "ntlm", "username": "Administrator", "password": "secret", "proxy": None,  # type: ignore[arg-type]
                                    "operation_timeout_sec": 5, "read_timeout_sec": 8, **values})


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with Fleet([spec(vms=(VmSpec("web"),))], tmp_path) as running:
        yield running


def test_each_host_has_its_port_and_its_folder(tmp_path: Path) -> None:
    fleet = Fleet([spec("HV1"), spec("HV2")], tmp_path)
    with fleet:
        ports = {running.port for running in fleet.hosts.values()}
        assert len(ports) == 2
        assert {running.url for running in fleet.hosts.values()} == {f"http://127.0.0.1:{port}/wsman" for port in ports}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["HV1", "HV2"]
    for port in ports:
        with pytest.raises(requests.ConnectionError):
            requests.post(f"http://127.0.0.1:{port}/wsman", timeout=2)


def test_two_hosts_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one name"):
        Fleet([spec("HV1"), spec("hv1")], tmp_path)


def test_a_port_that_is_taken(tmp_path: Path, one: Fleet) -> None:
    taken = one.hosts["HV1"].port
    other = Fleet([spec("HV2", listener=ListenerSpec(port=taken))], tmp_path / "other")
    with pytest.raises(OSError):
        other.start()
    other.stop()


def test_hosts_have_their_own_time(tmp_path: Path) -> None:
    late = datetime(2026, 3, 1, 23, tzinfo=UTC)
    fleet = Fleet([spec("HV1", start=late), spec("HV2", start=late - timedelta(hours=1))], tmp_path)
    assert fleet.simulated["HV1"].clock.now() - fleet.simulated["HV2"].clock.now() == timedelta(hours=1)


def test_state_can_be_changed_while_the_fleet_runs(one: Fleet) -> None:
    running = one.hosts["HV1"]
    session = client(running)
    shell = session.open_shell()
    with one.locked():
        running.host.service.shells.close_all()
        assert running.host.counters.by_operation == {"Shell Create": 1}
    with pytest.raises(WSManFaultError) as caught:
        session.run_command(shell, "echo")
    assert caught.value.wsman_fault_code == 2150858843


def test_a_program_that_changes_a_file_is_a_writing_request(one: Fleet) -> None:
    running = one.hosts["HV1"]
    session = client(running)
    shell = session.open_shell()
    with one.locked():
        before = running.host.counters.snapshot()
    command = session.run_command(shell, "mkdir", ["C:\\new"])
    assert session.get_command_output(shell, command) == (b"", b"", 0)
    with one.locked():
        assert running.host.counters.since(before).writing >= 1
        assert running.host.files.exists("C:\\new")
        assert any("new" in what for what in running.host.recent_changes)


def test_an_error_of_the_simulator_fails_the_test_that_met_it(tmp_path: Path) -> None:
    def break_it() -> None:
        raise ZeroDivisionError("a mistake")

    fleet = Fleet([spec()], tmp_path)
    with pytest.raises(SimulatorFailure, match="a mistake"), fleet:
        fleet.hosts["HV1"].host.rules.add(rules.vanish(break_it))
        with pytest.raises((requests.RequestException, WinRMTransportError)):
            client(fleet.hosts["HV1"]).open_shell()


def test_an_error_of_the_simulator_is_told_beside_another(tmp_path: Path) -> None:
    fleet = Fleet([spec()], tmp_path)
    with pytest.raises(RuntimeError) as caught, fleet:  # pylint: disable=confusing-with-statement  # two managers, as meant
        fleet.simulated["HV1"].bugs.append(ZeroDivisionError("a mistake"))
        raise RuntimeError("the test itself")
    assert caught.value.__notes__ == ["error of the simulator itself: ZeroDivisionError('a mistake')"]


@pytest.mark.parametrize(("effect", "error"), [
    (rules.lost_before(), requests.ConnectionError), (rules.lost_after(), requests.ConnectionError),
    (rules.unauthorized(), WinRMTransportError),  # the library logs on again and repeats a body sealed with the old key: 400 (wire 6.4)
    (rules.timeout(executed=False), WinRMOperationTimeoutError),
    (rules.http_status(400), WinRMTransportError), (rules.http_status(413), WinRMTransportError),
    (rules.http_status(500), WinRMTransportError), (rules.http_status(503), WinRMTransportError), (rules.quota(), WSManFaultError),
    (rules.broken(contract.TRUNCATE), requests.RequestException), (rules.broken(contract.STALL), requests.ReadTimeout)],
    ids=lambda value: getattr(value, "name", None))
def test_faults_over_the_wire(one: Fleet, effect: rules.Effect, error: type[Exception]) -> None:
    running = one.hosts["HV1"]
    session = client(running, read_timeout_sec=2, operation_timeout_sec=1)
    shell = session.open_shell()
    with one.locked():
        running.host.rules.add(effect, operation="Shell Command")
    with pytest.raises(error):
        session.run_command(shell, "echo", ["x"])
    with one.locked():
        running.host.rules.clear()
        executed = bool(running.host.processes.processes)
    assert executed == effect.executed
    again = client(running)
    assert again.open_shell() != shell


def test_large_answers_and_requests_over_the_limit(one: Fleet) -> None:
    running = one.hosts["HV1"]
    session = client(running)
    with pytest.raises(WinRMTransportError) as caught:
        session.open_shell(env_vars={"BIG": "x" * 600_000})
    assert caught.value.code == 413


def test_hosts_of_a_fleet_reach_each_others_shares(tmp_path: Path) -> None:
    filer = spec("FS1", shares=(ShareSpec("backup", "C:\\backup", grants=("Everyone",)),))
    with Fleet([spec("HV1"), filer], tmp_path) as fleet, fleet.locked():
        host = fleet.hosts["HV1"].host
        host.files.write_file("\\\\FS1\\backup\\a.txt", b"data")
        assert fleet.hosts["FS1"].host.files.read_file("C:\\backup\\a.txt") == b"data"


def test_nodes_of_a_cluster_share_their_volumes_and_their_roles(tmp_path: Path) -> None:
    cluster = ClusterSpec("CL", ("HV1", "HV2"))
    csv = "C:\\ClusterStorage\\Volume1"
    nodes = [spec(name, cluster=cluster, volumes=(VolumeSpec("C:"), VolumeSpec(csv, filesystem="CSVFS", owned=name == "HV1")),
                  vms=(VmSpec(f"vm-{name}", clustered=True, folder=f"{csv}\\vm-{name}"),)) for name in ("HV1", "HV2")]
    fleet = Fleet(nodes, tmp_path)
    first, second = fleet.simulated["HV1"], fleet.simulated["HV2"]
    first.files.write_file(csv + "\\note.txt", b"shared")
    assert second.files.read_file(csv + "\\note.txt") == b"shared"
    assert first.hyperv.cluster is second.hyperv.cluster
    caller = first.accounts.log_on(ADMINISTRATOR, "ntlm", False)
    found = second.repository.query("root/MSCluster", "SELECT * FROM MSCluster_Resource WHERE Type = 'Virtual Machine'", caller).instances
    assert sorted((str(row["Name"]), str(row["OwnerNode"])) for row in found) == [
        ("Virtual Machine vm-HV1", "HV1"), ("Virtual Machine vm-HV2", "HV2")]


def test_shadow_copies_of_other_products_are_there_from_the_start(tmp_path: Path) -> None:
    host = Fleet([spec(foreign_shadow_copies=("C:\\",))], tmp_path).simulated["HV1"]
    assert [(copy.foreign, copy.volume.mount_path) for copy in host.shadows.copies] == [(True, "C:\\")]
    assert host.changes == 0


def test_stopping_vmms_loses_all_jobs(tmp_path: Path) -> None:
    host = Fleet([spec(vms=(VmSpec("web", busy="exporting"),))], tmp_path).simulated["HV1"]
    caller = host.accounts.log_on(ADMINISTRATOR, "ntlm", False)
    jobs = "SELECT * FROM Msvm_ConcreteJob"
    assert len(host.repository.query("root/virtualization/v2", jobs, caller).instances) == 1
    host.repository.invoke("root/cimv2", "Win32_Service", {"Name": "vmms"}, "StopService", {}, caller)
    assert host.repository.query("root/virtualization/v2", jobs, caller).instances == []


# -- command line


FLEET_FILE = """
hosts:
  - name: HV1
    accounts: [{name: Administrator, password: very-secret, builtin_administrator: true, groups: [Administrators]}]
    volumes: [{path: 'C:'}]
    vms: [{name: web}]
"""


def wait_for(path: Path, process: subprocess.Popen[str]) -> dict[str, object]:
    """The state file of a process that starts."""
    for _unused in range(300):
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no state file")


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "fleet.yml").write_text(FLEET_FILE, encoding="utf-8")
    state = tmp_path / "state.json"
    command = [sys.executable, "-m", "simulator", str(tmp_path / "fleet.yml"), "--root", str(tmp_path / "root"), "--state", str(state)]
    process = subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        description = wait_for(state, process)
        host = description["hosts"]["HV1"]  # type: ignore[index]
        assert (host["fqdn"], host["accounts"], host["virtual_machines"]) == ("HV1", ["Administrator"], ["web"])
        assert Path(host["volumes"]["C:\\"]).is_dir()
        session = Protocol(host["url"], transport="ntlm", username="Administrator", password="very-secret", proxy=None)
        shell = session.open_shell()
        assert session.get_command_output(shell, session.run_command(shell, "echo", ["x"]))[0] == b"x\r\n"
        session.close_shell(shell)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        if process.poll() is None:
            process.kill()
    assert (process.returncode, err) == (0, "")
    assert json.loads(out) == description
    ended = json.loads(state.read_text(encoding="utf-8"))
    assert ended["counters"]["HV1"]["by_operation"]["Shell Command"] == 1
    assert ended["bugs"] == []
    assert "very-secret" not in out + state.read_text(encoding="utf-8")


def test_limits_of_the_spec_reach_the_listener(tmp_path: Path) -> None:
    with Fleet([spec(limits=Limits(max_envelope_kb=64))], tmp_path) as fleet:
        with pytest.raises(WinRMTransportError) as caught:
            client(fleet.hosts["HV1"]).open_shell(env_vars={"BIG": "x" * 70_000})
        assert caught.value.code == 413
