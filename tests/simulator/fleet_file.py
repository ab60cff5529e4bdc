# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Specs of hosts from YAML: every field of the dataclasses may be written, unknown ones are refused by name."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from simulator.building import BuildError, build, mapping
from simulator.fileserver import FileServerSpec
from simulator.spec import HostSpec

FleetError = BuildError
"""A fleet file says something that no spec has; the message names the place."""


def load_fleet(path: Path) -> list[HostSpec]:
    """The hosts of a YAML file ``{defaults: {...}, hosts: [{name: HV1, ...}]}``; ``defaults`` are fields of every host.

    Raises FleetError.
    """
    document = _document(path)
    defaults = document.get("defaults") or {}
    if not isinstance(defaults, dict):
        raise FleetError("defaults: must be a mapping")
    return [build(HostSpec, {**defaults, **mapping(entry, f"hosts[{number}]")}, f"hosts[{number}]")
            for number, entry in enumerate(document["hosts"])]


def load_file_servers(path: Path) -> list[FileServerSpec]:
    """The file servers of the same file, under ``file_servers``. Raises FleetError."""
    entries = _document(path).get("file_servers") or []
    return [build(FileServerSpec, entry, f"file_servers[{number}]") for number, entry in enumerate(entries)]


def _document(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    known = {"defaults", "hosts", "file_servers"}
    if not isinstance(document, dict) or not isinstance(document.get("hosts"), list) or not set(document) <= known:
        raise FleetError("a fleet file holds 'hosts' (a list) and perhaps 'defaults' and 'file_servers'")
    return document
