# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preflight reads: each part by itself, so that one refusal hides nothing else. Nothing here changes the host."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.available import says_not_available
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Clock
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import AccessDenied, ConnectionFailed, HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks, machines, replica_server
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import Disk
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.machines import Machine
from ansible_collections.agentless.hyperv.plugins.module_utils.operations import replica_server_plan
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import (
    cluster,
    files,
    firewall,
    services,
    shadow_copies,
    state,
    system,
    tasks,
    volumes,
    winrm_config,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.cluster import Cluster
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import Command, reading_programs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.services import Service
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import HostSystem
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.winrm_config import WinrmConfig
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.endpoint import Endpoint

T = TypeVar("T")
_NEWEST = 26100
"""The build of a host that did not tell its own."""
_LOOK = Command('dir /B /AL "%AGH_STATE%*" & echo [there]& if exist "%AGH_STATE%" echo yes', reads_only=True)


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What one part of the host told, or why it did not."""

    value: T | None = None
    error: HypervError | None = None

    @property
    def denied(self) -> bool:
        """The account may not see it."""
        return isinstance(self.error, AccessDenied)

    @property
    def absent(self) -> bool:
        """The host does not have it."""
        return self.error is not None and not self.denied and says_not_available(self.error)


@dataclass(frozen=True)
class Connection:
    """How this host was reached. ``validated``: its certificate was checked; None without TLS. Unknown parts are empty."""

    scheme: str
    port: int
    transport: str
    encrypted: bool
    validated: bool | None


@dataclass(frozen=True)
class StateLook:
    """What reading shows of the state folder: whether it is there, and whether it is a link. Its access list takes writing."""

    exists: bool
    is_link: bool


@dataclass(frozen=True)
class ReplicaListener:
    """The host as a replica server. ``closed``: ports of its listeners that no firewall rule of theirs lets in; empty when it is none."""

    enabled: bool
    listening: bool | None = None
    closed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Everything; ``cluster`` holds None for a host that is in none."""

    connection: Connection
    config: Answer[WinrmConfig]
    system: Answer[HostSystem]
    services: Answer[Mapping[str, Service]]
    machines: Answer[tuple[Machine, ...]]
    disks: Answer[tuple[Disk, ...]]
    volumes: Answer[tuple[Volume, ...]]
    shadow_copies: Answer[int]
    tasks: Answer[int]
    cluster: Answer[Cluster]
    state_folder: Answer[StateLook]
    replica: Answer[ReplicaListener]


def attempt(look: Callable[[], T]) -> Answer[T]:
    """What ``look`` returns, or the error of the host. A lost connection is raised: there is nobody left to ask."""
    try:
        return Answer(look())
    except ConnectionFailed:
        raise
    except HypervError as error:
        return Answer(error=error)


def _cluster(reader: CimReader) -> Cluster:
    """The cluster of the host, ``Cluster(None)`` for none."""
    return cluster.read_cluster(reader) or Cluster(None)


def _state_folder(reader: CimReader, drive: str) -> StateLook:
    with reading_programs(reader, {"STATE": state.state_folder(drive).path}) as programs:
        shown = programs.run(_LOOK, timeout=files.SHORT).stdout.decode("utf-8", "replace")
    links, _mark, there = shown.partition("[there]")
    return StateLook("yes" in there.split(), any(line.strip().lower() == state.FOLDER for line in links.splitlines()))


def _replica(reader: CimReader, build: int) -> ReplicaListener:
    """Settings and status of the listeners, and for each that is on its rule; three requests for a host that is no replica server."""
    found = replica_server.read(reader, build)
    openings = replica_server_plan.openings(found.settings)
    rules = [firewall.read_rule(reader, one.in_box) if one.in_box else firewall.read_ours(reader, one.port) for one in openings]
    closed = tuple(one.port for one, rule in zip(openings, rules, strict=True) if rule is None or not rule.lets_in)
    return ReplicaListener(bool(found.settings.get("enabled")), found.listening, closed)


def read(reader: CimReader, clock: Clock) -> Facts:
    """Ask for every part; some twenty-five requests and the pages of enumerations. Raises ConnectionFailed only."""
    config = attempt(lambda: winrm_config.read_config(reader))
    host = attempt(lambda: system.read_system(reader, clock))
    drive = host.value.system_drive if host.value is not None else "C:"
    return Facts(
        connection=connection(reader), config=config, system=host, services=attempt(lambda: services.read_services(reader)),
        machines=attempt(lambda: machines.read_machines(reader).machines), disks=attempt(lambda: disks.read_virtual_disks(reader)),
        volumes=attempt(lambda: volumes.read_volumes(reader)),
        shadow_copies=attempt(lambda: len(shadow_copies.read_shadow_copies(reader))),
        tasks=attempt(lambda: len(tasks.list_ours(reader))), cluster=attempt(lambda: _cluster(reader)),
        state_folder=attempt(lambda: _state_folder(reader, drive)),
        replica=attempt(lambda: _replica(reader, host.value.build if host.value is not None else _NEWEST)))


def connection(reader: CimReader) -> Connection:
    """The way that the requests before took."""
    endpoint = getattr(reader.session.lane, "endpoint", None)
    if not isinstance(endpoint, Endpoint):
        return Connection("", 0, "", reader.session.encrypted, None)
    validated = endpoint.validate if endpoint.scheme == "https" else None
    return Connection(endpoint.scheme, endpoint.port, endpoint.transport, reader.session.encrypted, validated)
