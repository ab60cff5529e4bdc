# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running fleet of two hosts for the tests of the whole simulator."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from simulator.cim.model import Account
from simulator.fleet import Fleet
from simulator.hyperv.spec import VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec

PASSWORD = "Pä$$w0rd & <x>"

ACCOUNTS = (
    Account("Administrator", PASSWORD, builtin_administrator=True, groups=frozenset({"Administrators"})),
    Account("local", PASSWORD, groups=frozenset({"Administrators", "Remote Management Users"})),
    Account("operator", PASSWORD, groups=frozenset({"Hyper-V Administrators", "Remote Management Users"})),
    Account("guest", PASSWORD, groups=frozenset({"Remote Management Users"})),
    Account("nobody", PASSWORD),
    Account("backup", PASSWORD, domain="EXAMPLE", groups=frozenset({"Domain Admins"})),
)


def host_spec(name: str, os_version: str, **values: object) -> HostSpec:
    """A small host with two machines."""
    return HostSpec(name, domain="example.test", os_version=os_version, accounts=ACCOUNTS, volumes=(VolumeSpec("C:"), VolumeSpec("D:")),
                    vms=(VmSpec("web"), VmSpec("db & <co>", state="off")), **values)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two hosts; tests that change something restore it."""
    with Fleet([host_spec("HV1", "2012R2"), host_spec("HV2", "2022", seed=5)], tmp_path_factory.mktemp("fleet")) as running:
        yield running


@pytest.fixture
def password() -> str:
    """Of every account."""
    return PASSWORD
