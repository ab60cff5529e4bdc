# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated fleets and controllers for the end-to-end tests."""
from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from simulator.cim.model import Account
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec
from xdist.scheduler import LoadScopeScheduling

sys.path.insert(0, str(Path(__file__).parent))
from controller import CHECKOUT, Controller

PASSWORD = "S3cret-Pässwörd-🔐"
ADMIN = Account("Administrator", PASSWORD, groups=frozenset({"Administrators"}), builtin_administrator=True)
OPERATOR = Account("operator", "0perator-pw", groups=frozenset({"Remote Management Users"}))
NOBODY = Account("nobody", "n0body-pw")
LOCAL_ADMIN = Account("localadmin", "l0cal-pw", groups=frozenset({"Administrators"}))
GIB = 1024**3
SHARING = frozenset(path.name for path in Path(__file__).parent.glob("test_*.py") if 'scope="module"' in path.read_text(encoding="utf-8"))
"""Files whose tests look at one play."""


class ByPlay(LoadScopeScheduling):
    """Tests that look at one play stay together and begin first; every other test goes to whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if Path(file).name in SHARING else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByPlay:
    return ByPlay(config, log)


def host(name: str, *vms: VmSpec, **changes: Any) -> HostSpec:
    """A healthy host: system volume, a volume for machines, one for copies."""
    spec = HostSpec(
        name, accounts=(ADMIN, OPERATOR, NOBODY, LOCAL_ADMIN),
        volumes=(VolumeSpec("C:", free=60 * GIB), VolumeSpec("D:", label="VMs", free=60 * GIB),
                 VolumeSpec("E:", label="Backup", free=90 * GIB)),
        vms=vms)
    return replace(spec, **changes)


def vm(name: str, **changes: Any) -> VmSpec:
    """A healthy running machine on D:."""
    return VmSpec(name=name, folder=f"D:\\VMs\\{changes.pop('directory', name)}", **changes)


@pytest.fixture()
def start_fleet(tmp_path: Path) -> Iterator[Callable[..., Fleet]]:
    """Starts fleets that end with the test; an error of the simulator itself fails the test.

    Time goes on by itself: a scheduled task works while nobody asks, and a playbook looks at it now and then.
    """
    with contextlib.ExitStack() as stack:
        def start(*specs: HostSpec, speed: float = 1.0, file_servers: Sequence[FileServerSpec] = ()) -> Fleet:
            return stack.enter_context(Fleet(specs, tmp_path / "fleet", speed=speed, file_servers=file_servers))

        yield start


@pytest.fixture()
def controller(tmp_path: Path) -> Controller:
    """An empty controller."""
    folder = tmp_path / "controller"
    folder.mkdir()
    return Controller(folder, CHECKOUT / ".build" / "path")


def winrm(fleet: Fleet, **changes: Any) -> dict[str, dict[str, Any]]:
    """Inventory hosts of a fleet over the winrm connection: NTLM with sealed messages on HTTP."""
    return {
        name.lower(): {
            "ansible_connection": "winrm", "ansible_host": "127.0.0.1", "ansible_port": running.port, "ansible_winrm_scheme": "http",
            "ansible_winrm_transport": "ntlm", "ansible_user": ADMIN.name, "ansible_password": PASSWORD, **changes}
        for name, running in fleet.hosts.items()
    }


def psrp(fleet: Fleet, **changes: Any) -> dict[str, dict[str, Any]]:
    """The same over the psrp connection."""
    return {
        name.lower(): {
            "ansible_connection": "psrp", "ansible_host": "127.0.0.1", "ansible_port": running.port, "ansible_psrp_protocol": "http",
            "ansible_psrp_auth": "ntlm", "ansible_user": ADMIN.name, "ansible_password": PASSWORD, **changes}
        for name, running in fleet.hosts.items()
    }
