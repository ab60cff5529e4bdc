# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The counter-test: the same disk copied while its guest writes, with the same robocopy but without a shadow copy.

The connection is pywinrm's own shell client, so this has nothing in common with the collection.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from simulator.disks import proof
from simulator.disks.proof import Proof
from simulator.fleet import Fleet
from winrm.protocol import Protocol

from demo.site import ACCOUNT, LIVE_HOST, LIVE_VM

TRIES = 3
FOLDER = "E:\\Live"
ROBOCOPY_COPIED = 1


@dataclass(frozen=True)
class LiveCopy:
    """The last try: robocopy's exit code, where the copy is, and what the reader says of it."""

    tries: int
    exit_code: int
    path: str
    real: Path
    found: Proof | None

    @property
    def torn(self) -> bool:
        """The copy is complete and is not the disk at any one instant."""
        return self.found is not None and self.found.fault is None and not self.found.consistent


def copy_live(fleet: Fleet, drives: Path, show: Callable[[str], None]) -> LiveCopy:
    """Copy the live disk until the reader finds the copy torn, at most ``TRIES`` times.

    One try is enough as long as the guest writes faster than robocopy reads: several writes for each piece of the file, spread over
    all pieces. More are allowed because this runs in real time.
    """
    host = fleet.hosts[LIVE_HOST]
    with fleet.locked():
        machine = host.host.hyperv.find(LIVE_VM)
        source = PureWindowsPath(machine.vhd_files()[0].path)
    client = Protocol(host.url, transport="ntlm", username=ACCOUNT.name, password=ACCOUNT.password, message_encryption="always", proxy=None)
    try:
        for number in range(1, TRIES):
            result = _copy(client, source, number, drives, show)
            if result.torn:
                return result
        return _copy(client, source, TRIES, drives, show)
    finally:
        client.transport.close_session()


def _copy(client: Protocol, source: PureWindowsPath, number: int, drives: Path, show: Callable[[str], None]) -> LiveCopy:
    target = PureWindowsPath(FOLDER, f"{LIVE_VM}-{number}")
    line = f'robocopy.exe "{source.parent}" "{target}" "{source.name}" /R:0 /W:0 /NP /NJH /NJS'
    show(f"{LIVE_HOST}> {line}")
    code = _run(client, line)
    real = drives.joinpath(target.drive[0], *target.parts[1:], source.name)
    return LiveCopy(number, code, str(target / source.name), real, proof.inspect(real) if code == ROBOCOPY_COPIED else None)


def _run(client: Protocol, line: str) -> int:
    shell = client.open_shell(codepage=65001)
    try:
        command = client.run_command(shell, line)
        try:
            _stdout, _stderr, code = client.get_command_output(shell, command)
        finally:
            client.cleanup_command(shell, command)
    finally:
        client.close_shell(shell)
    return int(code)
