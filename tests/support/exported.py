# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exports with manifests, put onto a simulated host without the collection: what a restore finds at a destination."""
from __future__ import annotations

import hashlib
import json
import ntpath
from collections.abc import Iterator
from datetime import UTC
from typing import Any

from simulator.host import SimHost
from simulator.hyperv.model import Machine
from simulator.hyperv.packing import ExportWish

_ROLES = {".vmcx": "configuration", ".xml": "configuration", ".vmrs": "state", ".vmgs": "guest_state"}


def machine_of(host: SimHost, name: str) -> Machine:
    """A machine by its name."""
    return next(one for one in host.hyperv.machines.values() if one.name == name)


def export(host: SimHost, name: str, destination: str, *, run_id: str = "nightly-1", hashes: bool = True, manifest: bool = True,
           mode: int = 1, live_state: int = 0, into: str | None = None, **changes: Any) -> str:
    """Export a machine as it is now; the folder. Hold the fleet's lock. ``changes``: keys of the manifest that lie.

    ``into``: a destination of another machine, by the host that sees it.
    """
    machine = machine_of(host, name)
    taken = host.clock.now().astimezone(UTC).replace(microsecond=0)
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in name).strip("._-") or "vm"
    folder = f"{destination}\\{host.name}\\{safe}_{machine.id[:8]}\\{taken:%Y%m%dT%H%M%SZ}_{run_id}"
    _make(host, folder)
    wish = ExportWish(machine, folder, subdirectory=False, mode=mode, storage=True, runtime=live_state == 1, live_state=live_state,
                      checkpoint=None, excluded=frozenset(), stubs=True)
    job = host.hyperv.exports.start(wish, "SYSTEM")
    for _unused in range(600):
        if machine.busy is None:
            break
        host.clock.advance(1.0)
    if machine.busy is not None or job.error_code:
        raise AssertionError(f"the export of {name} did not end well")
    if manifest:
        data = {**_manifest(host, machine, folder, taken.strftime("%Y-%m-%dT%H:%M:%SZ"), run_id, hashes=hashes), **changes}
        host.files.write_file(f"{folder}\\manifest.json", json.dumps(data, indent=1).replace("\n", "\r\n").encode("ascii") + b"\r\n")
    return folder


def _make(host: SimHost, folder: str) -> None:
    start = 4 if folder.startswith("\\\\") else 1
    parts = folder.split("\\")
    for count in range(start + 1, len(parts) + 1):
        path = "\\".join(parts[:count])
        if not host.files.exists(path):
            host.files.create_directory(path)


def walk(host: SimHost, folder: str) -> Iterator[str]:
    """All files below a folder, by their path from there."""
    for place in host.files.children(host.files.resolve(folder)):
        name = place.parts[-1]
        if place.is_directory:
            yield from (f"{name}\\{below}" for below in walk(host, f"{folder}\\{name}"))
        else:
            yield name


def digest(host: SimHost, path: str) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(host.files.resolve(path).real.read_bytes()).hexdigest()


def _manifest(host: SimHost, machine: Machine, folder: str, taken: str, run_id: str, *, hashes: bool) -> dict[str, Any]:
    files: list[dict[str, Any]] = []
    for path in sorted(walk(host, folder)):
        role = "checkpoint" if path.startswith("Snapshots\\") else _ROLES.get(ntpath.splitext(path)[1].lower(), "disk")
        entry = {"path": path, "size": host.files.resolve(f"{folder}\\{path}").real.stat().st_size, "role": role}
        files.append({**entry, "sha256": digest(host, f"{folder}\\{path}")} if hashes else entry)
    disks = []
    for configuration in machine.configurations()[:1]:
        for disk in configuration.disks:
            file = configuration.file_of(disk)
            for number, link in enumerate(file.chain() if file is not None else ()):
                chain = file.chain() if file is not None else []
                parent = chain[number + 1] if number + 1 < len(chain) else None
                disks.append({
                    "path": f"Virtual Hard Disks\\{ntpath.basename(link.path)}", "id": None, "source": link.path,
                    "controller": disk.controller, "controller_number": disk.bus, "location": disk.location,
                    "virtual_size": link.size, "format": "vhdx", "type": "differencing" if parent else "dynamic",
                    "parent": f"Virtual Hard Disks\\{ntpath.basename(parent.path)}" if parent else None})
    known = {file["path"].lower() for file in files}
    return {
        "format": 1, "kind": "export", "vm": {"id": machine.id, "name": machine.name, "generation": machine.spec.generation,
                                              "version": machine.version, "vtpm": machine.spec.tpm, "shielded": machine.spec.shielded},
        "host": host.name, "run_id": run_id, "method": "live_crash" if machine.live else "offline", "taken": taken, "completed": taken,
        "consistency": {"requested": "crash", "achieved": "crash", "evidence": "made for a test", "not_captured": [], "unknowns": []},
        "verified": "sha256" if hashes else "size", "files": files, "host_build": 20348, "checkpoint": None,
        "needs": {"memory": machine.spec.memory_mb << 20, "processors": machine.spec.processors,
                  "switches": [nic.switch for nic in machine.spec.nics if nic.switch]},
        "disks": [disk for disk in disks if disk["path"].lower() in known], "excluded_disks": []}
