# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every example of the guides, in the order in which a reader would try them: inventories, commands, tasks and plays."""
from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ADMIN, host, vm, winrm
from controller import CHECKOUT, COMMAND, Controller
from simulator.cim.model import Account
from simulator.fileserver import FileServerSpec
from simulator.fleet import Fleet
from simulator.hyperv.spec import CheckpointSpec
from simulator.windows.spec import ShareSpec, VolumeSpec

DOCS = CHECKOUT / "docs"
FIRST = "first-backup.md"
GUIDES = (FIRST, "destinations.md", "other-tools.md", "troubleshooting.md")
BACKUP_ACCOUNT = Account("backup", "B4ckup-pw", groups=frozenset({"Administrators"}))
DRIVES = (VolumeSpec("C:"), VolumeSpec("E:"))
SERVERS = (
    FileServerSpec("backup01", "example.test", DRIVES, (ShareSpec("hyperv", "E:\\hyperv", ("EXAMPLE\\HV01$",)),)),
    FileServerSpec("nas01", None, DRIVES, (ShareSpec("backup", "E:\\backup", ("NAS01\\backup",)),), (BACKUP_ACCOUNT,)))
DEFAULT = {"backup_destination": "E:\\Backup", "backup_vms": ["sql01"], "backup_password": BACKUP_ACCOUNT.password}


def examples(page: Path) -> Iterator[tuple[str, Any]]:
    """What a page shows, in its order: ``yaml`` with its data, ``command`` with a playbook and its arguments."""
    text = page.read_text(encoding="utf-8")
    found = [(match.start(), "yaml", yaml.safe_load(match.group(1))) for match in re.finditer(r"```yaml\n(.*?)```", text, re.DOTALL)]
    found += [(match.start(), "command", (match["playbook"], shlex.split(match["arguments"]))) for match in COMMAND.finditer(text)]
    yield from ((kind, data) for _place, kind, data in sorted(found, key=lambda one: one[0]))


@pytest.mark.parametrize("guide", GUIDES)
def test_the_examples_of_a_guide_run(start_fleet: Callable[..., Fleet], controller: Controller, guide: str) -> None:
    old = CheckpointSpec("c", "before the patch", age_hours=200.0)
    fleet = start_fleet(host("HV01", vm("sql01"), vm("web01", checkpoints=(old,)), vm("scratch1"), domain="example.test",
                             accounts=(ADMIN, BACKUP_ACCOUNT), start=datetime.now(UTC)), file_servers=SERVERS)
    variables: dict[str, Any] = dict(DEFAULT)
    known = set() if guide == FIRST else {str(data) for kind, data in examples(DOCS / FIRST) if kind == "command"}
    tried = 0
    for kind, data in examples(DOCS / guide):
        if kind == "yaml" and isinstance(data, dict):  # an inventory: its hosts are simulated ones, and its connection is theirs
            variables = {key: value for key, value in data["hyperv"]["vars"].items() if not key.startswith("ansible_")}
            assert list(data["hyperv"]["hosts"]) == ["hv01.example.com"]
            continue
        if kind == "command" and str(data) in known:  # tried with the guide that comes first
            continue
        inventory = controller.inventory(winrm(fleet), variables)
        playbook, arguments = (data, []) if kind == "yaml" else (CHECKOUT / "playbooks" / f"{data[0]}.yml", data[1])
        run = controller.play(playbook, inventory, *arguments)
        assert run.code == 0, f"{data}\n{run.output}"
        tried += 1
    assert tried >= 1
