# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML that ExportByName gives: what was registered, with the URI, in the form of the Task Scheduler; never a password.

Inferred: that the tree is given back as it was sent. A real host writes defaults and its own order into it.
"""
from __future__ import annotations

from xml.etree import ElementTree as ET

from simulator.cim.errors import SimulatorGap
from simulator.cim.xmltext import attribute, local_name, text
from simulator.windows.scheduler.definition import NAMESPACE
from simulator.windows.scheduler.service import Task

_DECLARATION = '<?xml version="1.0" encoding="UTF-16"?>\r\n'


def export_task(task: Task) -> str:
    """The XML text of a task."""
    root = task.definition.root
    if root is None:
        raise SimulatorGap(f"the XML of {task.uri}, which no client has registered, is not simulated")
    children = [child for child in root if local_name(child.tag) != "RegistrationInfo"]
    known = root.find(f"{{{NAMESPACE}}}RegistrationInfo")
    lines = [f"  <RegistrationInfo>\r\n    <URI>{text(task.uri)}</URI>\r\n"]
    for child in known if known is not None else ():
        if local_name(child.tag) != "URI":
            lines.extend(_lines(child, 2))
    lines.append("  </RegistrationInfo>\r\n")
    for child in children:
        lines.extend(_lines(child, 1))
    start = f"<Task version={attribute(task.definition.version)} xmlns={attribute(NAMESPACE)}>\r\n"
    return f"{_DECLARATION}{start}{''.join(lines)}</Task>"


def _lines(element: ET.Element, level: int) -> list[str]:
    name = local_name(element.tag)
    marks = "".join(f" {key}={attribute(value)}" for key, value in element.attrib.items())
    indent = "  " * level
    if len(element) == 0:
        content = element.text or ""
        return [f"{indent}<{name}{marks} />\r\n" if not content else f"{indent}<{name}{marks}>{text(content)}</{name}>\r\n"]
    inner = [line for child in element for line in _lines(child, level + 1)]
    return [f"{indent}<{name}{marks}>\r\n", *inner, f"{indent}</{name}>\r\n"]
