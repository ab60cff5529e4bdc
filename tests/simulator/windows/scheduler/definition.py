# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task is: the content of its XML as plain data."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from xml.etree.ElementTree import Element

NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"

INSTANCE_POLICIES = ("Parallel", "Queue", "IgnoreNew", "StopExisting")
"""MultipleInstancesPolicy in the order of the CIM numbers 0 to 3."""
LOGON_TYPES = ("S4U", "Password", "InteractiveToken", "InteractiveTokenOrPassword")
RUN_LEVELS = ("LeastPrivilege", "HighestAvailable")


@dataclass(frozen=True)
class Exec:
    """One action: a program. Texts are as written; the Task Scheduler expands ``%NAME%`` in all three when the task runs."""

    command: str
    arguments: str | None = None
    directory: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Principal:
    """As whom the task runs: names and SIDs as written."""

    id: str | None = None
    user: str | None = None
    group: str | None = None
    logon_type: str | None = None
    """One of LOGON_TYPES."""
    highest: bool = False
    display_name: str | None = None
    privileges: tuple[str, ...] = ()


@dataclass(frozen=True)
class IdleSettings:
    """When the computer counts as idle; only carried along."""

    duration: str = "PT10M"
    wait_timeout: str = "PT1H"
    stop_on_end: bool = True
    restart: bool = False


@dataclass(frozen=True)
class Settings:
    """The defaults are those of the schema: 72 hours, no start on batteries, priority 7 (windows facts 1)."""

    allow_demand_start: bool = True
    instances: str = "IgnoreNew"
    disallow_start_on_batteries: bool = True
    stop_on_batteries: bool = True
    allow_hard_terminate: bool = True
    start_when_available: bool = False
    only_with_network: bool = False
    wake_to_run: bool = False
    enabled: bool = True
    hidden: bool = False
    delete_expired_after: str | None = None
    time_limit: str = "PT72H"
    """``PT0S``: no limit."""
    priority: int = 7
    only_if_idle: bool = False
    unified_engine: bool = False
    not_in_remote_app: bool = False
    restart_interval: str | None = None
    restart_count: int = 0
    idle: IdleSettings = IdleSettings()


@dataclass(frozen=True)
class TimeTrigger:
    """Starts the task once. Times without a zone are the host's own."""

    start: str
    end: str | None = None
    enabled: bool = True
    id: str | None = None
    time_limit: str | None = None
    random_delay: str | None = None


@dataclass(frozen=True)
class TaskDefinition:
    """One task. ``information`` holds the texts of RegistrationInfo by element name; ``root`` the tree as it was sent."""

    actions: tuple[Exec, ...]
    principal: Principal | None = None
    settings: Settings = Settings()
    triggers: tuple[TimeTrigger, ...] = ()
    information: Mapping[str, str] = field(default_factory=dict)
    version: str = "1.3"
    root: Element | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Moment:
    """A dateTime of the XML; ``when`` is naive when the text has no zone."""

    when: datetime

    def instant(self, host_offset: timedelta) -> datetime:
        """In UTC; a time without a zone is local time of a host that far east of UTC."""
        if self.when.tzinfo is not None:
            return self.when.astimezone(UTC)
        return (self.when - host_offset).replace(tzinfo=UTC)
