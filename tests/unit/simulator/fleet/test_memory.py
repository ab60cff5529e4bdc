# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of its memory is what its machines have left."""
from __future__ import annotations

from pathlib import Path

from simulator.cim.model import Account, Caller
from simulator.clock import SimClock
from simulator.host import SimHost
from simulator.hyperv.spec import HyperVSettings, VmSpec
from simulator.spec import HostSpec
from simulator.windows.spec import VolumeSpec

ADMINISTRATOR = Caller(Account("Administrator", "secret", "HV1"), "ntlm", True)


def test_free_memory(tmp_path: Path) -> None:
    def told(**options: object) -> tuple[object, object]:
        machines = VmSpec("a", memory_mb=600), VmSpec("b", memory_mb=600, state="off")
        spec = HostSpec("HV1", volumes=(VolumeSpec("C:"),), vms=machines, **options)  # type: ignore[arg-type]
        host = SimHost.create(spec, tmp_path / str(len(options)), SimClock())
        [row] = host.repository.enumerate("root/cimv2", "Win32_OperatingSystem", ADMINISTRATOR)
        return row["TotalVisibleMemorySize"], row["FreePhysicalMemory"]

    assert told() == (64 * 1024**2, 64 * 1024**2 // 3)
    assert told(hyperv=HyperVSettings(memory_mb=1024)) == (1024 * 1024, 424 * 1024)
