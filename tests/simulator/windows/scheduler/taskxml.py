# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the XML of a task as strictly as the Task Scheduler does, by the XSD that Microsoft publishes for it.

From that XSD: names, types, defaults, limits and how often a node may occur; the order inside most elements is free there. Inferred,
since no source says it: that an element which came with a later schema version is unexpected under an earlier ``version``, which
versions a release takes, and which of the documented codes belongs to a value that only the key rules of the schema forbid.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from xml.etree.ElementTree import Element

from simulator.cim.errors import SimulatorGap
from simulator.cim.xmltext import MalformedXml, local_name, namespace_of, parse
from simulator.windows.scheduler import codes
from simulator.windows.scheduler.codes import TaskError
from simulator.windows.scheduler.definition import (
    INSTANCE_POLICIES,
    LOGON_TYPES,
    NAMESPACE,
    RUN_LEVELS,
    Exec,
    IdleSettings,
    Moment,
    Principal,
    Settings,
    TaskDefinition,
    TimeTrigger,
)

MAX_PATH: Final = 260
MAX_ACTIONS: Final = 32
MAX_TRIGGERS: Final = 48
NEWEST: Final = {"2012R2": (1, 4)}
"""The newest schema version of a release; 1.6 for later ones."""

_DECLARATION = re.compile(r"\ufeff?<\?xml[^>]*?encoding\s*=\s*[\"']([^\"']*)[\"']")
_DURATION = re.compile(r"P(?=.)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?\Z")
_VERSION = re.compile(r"\d+(\.\d+){1,3}\Z")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_OTHER_TRIGGERS = frozenset({"BootTrigger", "RegistrationTrigger", "IdleTrigger", "EventTrigger", "LogonTrigger",
                             "SessionStateChangeTrigger", "CalendarTrigger"})
_OTHER_ACTIONS = frozenset({"ComHandler", "SendEmail", "ShowMessage"})
_SINCE = {"UseUnifiedSchedulingEngine": (1, 3), "DisallowStartOnRemoteAppSession": (1, 3), "ProcessTokenSidType": (1, 3),
          "RequiredPrivileges": (1, 3), "MaintenanceSettings": (1, 4), "Volatile": (1, 4)}

Value = Any
Reader = Callable[[str], Value]


def parse_duration(text: str) -> timedelta:
    """An xs:duration; a year counts 365 days and a month 30. ValueError for anything else."""
    match = _DURATION.match(text.strip())
    if match is None:
        raise ValueError(text)
    years, months, days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(days=years * 365 + months * 30 + days, hours=hours, minutes=minutes, seconds=seconds)


def parse_moment(text: str) -> Moment:
    """An xs:dateTime. ValueError for anything else."""
    if not re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?\Z", text.strip()):
        raise ValueError(text)
    return Moment(datetime.fromisoformat(text.strip()))


def _boolean(text: str) -> bool:
    return _BOOLEANS[text.strip()]


def _text(text: str) -> str:
    return text


def _some_text(text: str) -> str:
    if not text:
        raise ValueError(text)
    return text


def _path(text: str) -> str:
    if not 0 < len(text) <= MAX_PATH:
        raise ValueError(text)
    return text


def _duration(least: str = "PT0S", most: str | None = None) -> Reader:
    def read(text: str) -> str:
        value = parse_duration(text)
        if value < parse_duration(least) or (most is not None and value > parse_duration(most)):
            raise ValueError(text)
        return text.strip()
    return read


def _moment(text: str) -> str:
    parse_moment(text)
    return text.strip()


def _number(least: int, most: int) -> Reader:
    def read(text: str) -> int:
        value = int(text.strip()) if re.match(r"[+-]?\d{1,9}\Z", text.strip()) else most + 1
        if not least <= value <= most:
            raise ValueError(text)
        return value
    return read


def _one_of(*choices: str) -> Reader:
    def read(text: str) -> str:
        return choices[choices.index(text.strip())]
    return read


_INFORMATION: Mapping[str, Reader] = {
    "URI": _text, "SecurityDescriptor": _text, "Source": _text, "Date": _moment, "Author": _text, "Version": _text, "Description": _text,
    "Documentation": _text}
_PRINCIPAL: Mapping[str, tuple[str, Reader]] = {
    "UserId": ("user", _some_text), "GroupId": ("group", _some_text), "LogonType": ("logon_type", _one_of(*LOGON_TYPES)),
    "DisplayName": ("display_name", _text), "RunLevel": ("highest", _one_of(*RUN_LEVELS)),
    "ProcessTokenSidType": ("", _one_of("None", "Unrestricted"))}
_SETTINGS: Mapping[str, tuple[str, Reader]] = {
    "AllowStartOnDemand": ("allow_demand_start", _boolean), "MultipleInstancesPolicy": ("instances", _one_of(*INSTANCE_POLICIES)),
    "DisallowStartIfOnBatteries": ("disallow_start_on_batteries", _boolean), "StopIfGoingOnBatteries": ("stop_on_batteries", _boolean),
    "AllowHardTerminate": ("allow_hard_terminate", _boolean), "StartWhenAvailable": ("start_when_available", _boolean),
    "NetworkProfileName": ("", _text), "RunOnlyIfNetworkAvailable": ("only_with_network", _boolean),
    "WakeToRun": ("wake_to_run", _boolean), "Enabled": ("enabled", _boolean), "Hidden": ("hidden", _boolean),
    "DeleteExpiredTaskAfter": ("delete_expired_after", _duration()), "ExecutionTimeLimit": ("time_limit", _duration()),
    "Priority": ("priority", _number(0, 10)), "RunOnlyIfIdle": ("only_if_idle", _boolean),
    "UseUnifiedSchedulingEngine": ("unified_engine", _boolean), "DisallowStartOnRemoteAppSession": ("not_in_remote_app", _boolean),
    "Volatile": ("", _boolean)}
_IDLE: Mapping[str, tuple[str, Reader]] = {
    "Duration": ("duration", _duration("PT1M")), "WaitTimeout": ("wait_timeout", _duration("PT1M")),
    "StopOnIdleEnd": ("stop_on_end", _boolean), "RestartOnIdle": ("restart", _boolean)}
_RESTART: Mapping[str, tuple[str, Reader]] = {
    "Interval": ("restart_interval", _duration("PT1M", "P31D")), "Count": ("restart_count", _number(1, 255))}
_EXEC: Mapping[str, tuple[str, Reader]] = {
    "Command": ("command", _path), "Arguments": ("arguments", _text), "WorkingDirectory": ("directory", _path)}
_TIME_TRIGGER: Mapping[str, tuple[str, Reader]] = {
    "Enabled": ("enabled", _boolean), "StartBoundary": ("start", _moment), "EndBoundary": ("end", _moment),
    "ExecutionTimeLimit": ("time_limit", _duration()), "RandomDelay": ("random_delay", _duration())}


def parse_task(source: str, os_version: str) -> TaskDefinition:
    """The definition in a task's XML, with the codes of :mod:`.codes` for what is wrong with it.

    The text is what the service holds as UTF-16, so a declaration may say UTF-16 or no encoding at all (windows facts 1). Raises
    TaskError, and SimulatorGap for kinds of triggers and actions that this host does not imitate.
    """
    declared = _DECLARATION.match(source)
    if declared is not None and declared.group(1).lower() not in ("utf-16", "utf-16le"):
        raise TaskError(codes.MALFORMED_XML, f"the XML says {declared.group(1)}, but is UTF-16")
    try:
        root = parse(source)
    except MalformedXml as error:
        raise TaskError(codes.MALFORMED_XML, str(error)) from error
    return _Reader(root, os_version).task()


class _Reader:
    def __init__(self, root: Element, os_version: str) -> None:
        self.root = root
        self.os_version = os_version
        self.version: tuple[int, ...] = (1, 3)

    def task(self) -> TaskDefinition:
        _check(self.root, "Task")
        version = self._attributes(self.root, "version").get("version", "1.3")
        if not _VERSION.match(version):
            raise _wrong(codes.INVALID_VALUE, "Task/version", version)
        self.version = tuple(int(part) for part in version.split("."))
        if self.version > NEWEST.get(self.os_version, (1, 6)) or self.version < (1, 0):
            raise _wrong(codes.INVALID_VALUE, "Task/version", version)
        parts = self.children(self.root, ("RegistrationInfo", "Triggers", "Settings", "Data", "Principals", "Actions"))
        if "Actions" not in parts:
            raise _wrong(codes.MISSING_NODE, "Actions")
        information = self._texts(parts["RegistrationInfo"]) if "RegistrationInfo" in parts else {}
        principal = self._principal(parts["Principals"]) if "Principals" in parts else None
        settings = self._settings(parts["Settings"]) if "Settings" in parts else Settings()
        triggers = self._triggers(parts["Triggers"]) if "Triggers" in parts else ()
        if settings.delete_expired_after is not None and not any(trigger.end for trigger in triggers):
            raise _wrong(codes.MISSING_NODE, "EndBoundary")
        actions = self._actions(parts["Actions"], principal)
        self._check_ids(principal, triggers, actions)
        return TaskDefinition(actions, principal, settings, triggers, information, version, self.root)

    # -- elements --------------------------------------------------------------------------------------------------

    def children(self, element: Element, names: tuple[str, ...]) -> dict[str, Element]:
        """The children by name: each known, in the right namespace and version, and there once."""
        found: dict[str, Element] = {}
        for child in element:
            name = self._name(child)
            if name not in names:
                raise _wrong(codes.UNEXPECTED_NODE, name)
            if name in found:
                raise _wrong(codes.TOO_MANY_NODES, name)
            found[name] = child
        return found

    def _name(self, child: Element) -> str:
        name = local_name(child.tag)
        if namespace_of(child.tag) != NAMESPACE:
            raise _wrong(codes.WRONG_NAMESPACE, name)
        if self.version < _SINCE.get(name, (1, 0)):
            raise _wrong(codes.UNEXPECTED_NODE, name)
        return name

    def _attributes(self, element: Element, *names: str) -> dict[str, str]:
        for name in element.attrib:
            if namespace_of(name):
                raise _wrong(codes.WRONG_NAMESPACE, name)
            if name not in names:
                raise _wrong(codes.UNEXPECTED_NODE, name)
        return dict(element.attrib)

    def _values(self, element: Element, table: Mapping[str, tuple[str, Reader]], *others: str) -> dict[str, Value]:
        """The values of the simple children by the names of our fields; ``others`` are children that the caller reads itself."""
        values: dict[str, Value] = {}
        for name, child in self.children(element, (*table, *others)).items():
            if name in table:
                field, reader = table[name]
                value = _read(child, name, reader)
                if field:
                    values[field] = value
        return values

    def _texts(self, element: Element) -> dict[str, str]:
        self._attributes(element)
        return {name: str(_read(child, name, _INFORMATION[name])) for name, child in self.children(element, tuple(_INFORMATION)).items()}

    # -- parts of a task -------------------------------------------------------------------------------------------

    def _principal(self, element: Element) -> Principal:
        found = list(element)
        for child in found:
            if self._name(child) != "Principal":
                raise _wrong(codes.UNEXPECTED_NODE, self._name(child))
        if len(found) != 1:
            raise _wrong(codes.TOO_MANY_NODES if found else codes.MISSING_NODE, "Principal")
        identity = self._attributes(found[0], "id").get("id")
        values = self._values(found[0], _PRINCIPAL, "RequiredPrivileges")
        values["highest"] = values.get("highest") == RUN_LEVELS[1]
        privileges = found[0].find(f"{{{NAMESPACE}}}RequiredPrivileges")
        if privileges is not None:
            values["privileges"] = tuple(str(_read(child, "Privilege", _some_text)) for child in privileges)
        if "user" in values and "group" in values:
            raise _wrong(codes.INVALID_VALUE, "GroupId")
        return Principal(identity, **values)

    def _settings(self, element: Element) -> Settings:
        self._attributes(element)
        others = ("IdleSettings", "NetworkSettings", "RestartOnFailure", "MaintenanceSettings")
        values = self._values(element, _SETTINGS, *others)
        parts = {name: child for name, child in self.children(element, (*_SETTINGS, *others)).items() if name in others}
        if "MaintenanceSettings" in parts:
            raise SimulatorGap("tasks of automatic maintenance are not simulated")
        if "IdleSettings" in parts:
            values["idle"] = IdleSettings(**self._values(parts["IdleSettings"], _IDLE))
        if "RestartOnFailure" in parts:
            restart = self._values(parts["RestartOnFailure"], _RESTART)
            if len(restart) != len(_RESTART):
                raise _wrong(codes.MISSING_NODE, "Count" if "restart_interval" in restart else "Interval")
            values |= restart
        return Settings(**values)

    def _triggers(self, element: Element) -> tuple[TimeTrigger, ...]:
        self._attributes(element)
        triggers = []
        for child in element:
            name = self._name(child)
            if name in _OTHER_TRIGGERS:
                raise SimulatorGap(f"{name} is not simulated")
            if name != "TimeTrigger":
                raise _wrong(codes.UNEXPECTED_NODE, name)
            if child.find(f"{{{NAMESPACE}}}Repetition") is not None:
                raise SimulatorGap("triggers that repeat are not simulated")
            identity = self._attributes(child, "id").get("id")
            values = self._values(child, _TIME_TRIGGER)
            if "start" not in values:
                raise _wrong(codes.MISSING_NODE, "StartBoundary")
            triggers.append(TimeTrigger(id=identity, **values))
        if len(triggers) > MAX_TRIGGERS:
            raise _wrong(codes.TOO_MANY_NODES, "TimeTrigger")
        return tuple(triggers)

    def _actions(self, element: Element, principal: Principal | None) -> tuple[Exec, ...]:
        context = self._attributes(element, "Context").get("Context")
        if context is not None and (principal is None or principal.id != context):
            raise _wrong(codes.INVALID_VALUE, "Actions/Context", context)
        actions = []
        for child in element:
            name = self._name(child)
            if name in _OTHER_ACTIONS:
                raise SimulatorGap(f"{name} actions are not simulated")
            if name != "Exec":
                raise _wrong(codes.UNEXPECTED_NODE, name)
            identity = self._attributes(child, "id").get("id")
            values = self._values(child, _EXEC)
            if "command" not in values:
                raise _wrong(codes.MISSING_NODE, "Command")
            actions.append(Exec(id=identity, **values))
        if not actions:
            raise _wrong(codes.MISSING_NODE, "Exec")
        if len(actions) > MAX_ACTIONS:
            raise _wrong(codes.TOO_MANY_NODES, "Exec")
        return tuple(actions)

    @staticmethod
    def _check_ids(principal: Principal | None, triggers: tuple[TimeTrigger, ...], actions: tuple[Exec, ...]) -> None:
        ids = [principal.id] if principal is not None else []
        ids += [trigger.id for trigger in triggers] + [action.id for action in actions]
        for identity in ids:
            if identity is not None and ids.count(identity) > 1:
                raise _wrong(codes.INVALID_VALUE, "id", identity)


def _check(element: Element, name: str) -> None:
    if namespace_of(element.tag) != NAMESPACE:
        raise _wrong(codes.WRONG_NAMESPACE, local_name(element.tag))
    if local_name(element.tag) != name:
        raise _wrong(codes.UNEXPECTED_NODE, local_name(element.tag))


def _read(element: Element, name: str, reader: Reader) -> Value:
    if len(element):
        raise _wrong(codes.UNEXPECTED_NODE, local_name(element[0].tag))
    text = element.text or ""
    try:
        return reader(text)
    except (ValueError, KeyError) as error:
        raise _wrong(codes.INVALID_VALUE, name, text) from error


def _wrong(code: int, name: str, value: str = "") -> TaskError:
    return TaskError(code, f"{name[:100]}:{value[:200]}")
