# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m simulator FLEET.yml``: run the hosts of a fleet file until told to end."""
from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from simulator.fleet import Fleet, RunningHost, load_file_servers, load_fleet


def describe(fleet: Fleet) -> dict[str, Any]:
    """What somebody needs to reach the hosts: ports, folders, account names; never a password."""
    servers = {name: {share.name: str(server.files.real_path(share.path)) for share in server.spec.shares}
               for name, server in fleet.file_servers.items()}
    return {"pid": os.getpid(), "root": str(fleet.root), "hosts": {name: _describe_host(running) for name, running in fleet.hosts.items()},
            "file_servers": servers}


def _describe_host(running: RunningHost) -> dict[str, Any]:
    host = running.host
    return {
        "url": running.url, "port": running.port, "name": host.name, "fqdn": host.fqdn, "os_version": host.os_version,
        "folder": str(host.root), "accounts": [account.display for account in host.spec.accounts],
        "volumes": {volume.mount_path: str(volume.root) for volume in host.files.volumes},
        "shares": sorted(spec.name for spec in host.spec.shares), "virtual_machines": [vm.name for vm in host.spec.vms]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the state file then also holds the counters."""
    parser = argparse.ArgumentParser(prog="python -m simulator", description="Run a fleet of simulated Hyper-V hosts on 127.0.0.1.")
    parser.add_argument("fleet", type=Path, help="YAML file with the hosts")
    parser.add_argument("--root", type=Path, help="folder for the hosts' volumes (default: a new temporary one, removed at the end)")
    parser.add_argument("--state", type=Path, help="file that gets the JSON description, and at the end the counters")
    parser.add_argument("--speed", type=float, default=1.0, help="simulated seconds for each second (0: time moves only when waited for)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fleet-") as temporary:
        fleet = Fleet(load_fleet(options.fleet), options.root or Path(temporary), speed=options.speed,
                      file_servers=load_file_servers(options.fleet))
        _run(fleet, options.state)
    return 1 if fleet.bugs() else 0


def _run(fleet: Fleet, state: Path | None) -> None:
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    previous = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        fleet.start()
        description = describe(fleet)
        _publish(description, state)
        sys.stdout.write(json.dumps(description, indent=2) + "\n")
        sys.stdout.flush()
        ended.wait()
    finally:
        with fleet.locked():
            counters = {name: running.host.counters.as_dict() for name, running in fleet.hosts.items()}
            bugs = [repr(bug) for bug in fleet.bugs()]
        if fleet.hosts:
            _publish({**describe(fleet), "counters": counters, "bugs": bugs}, state)
        fleet.close()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _publish(description: dict[str, Any], state: Path | None) -> None:
    """Write the file whole or not at all: somebody may be waiting for it."""
    if state is None:
        return
    staging = state.with_name(state.name + ".part")
    staging.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    staging.replace(state)


if __name__ == "__main__":
    sys.exit(main())
