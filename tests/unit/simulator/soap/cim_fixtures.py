# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with a few instances, and bodies of enumerations, for the tests of CIM operations."""
from __future__ import annotations

from xml.sax.saxutils import escape

from simulator.cim.model import CimValue, Ref
from simulator.cim.provider import Invocation, MethodOutcome
from simulator.soap import names
from simulator.spec import HostSpec, Quirks
from unit.simulator.soap.helpers import CIMV2, NS, V2, Reply, SmallHost, Table

SERVICE = CIMV2 + "Win32_Service"
STAR = CIMV2 + "*"
SYSTEM = V2 + "Msvm_ComputerSystem"
SETTINGS = V2 + "Msvm_VirtualSystemSettingData"
NSP = {**NS, "c": SERVICE, "cs": SYSTEM}


def service(name: str, **values: CimValue) -> dict[str, CimValue]:
    return {"Name": name, "Started": True, "ProcessId": 4, "Description": "", **values}


def with_services(number: int = 10, spec: HostSpec | None = None, **values: CimValue) -> SmallHost:
    host = SmallHost(spec)
    host.repository.register("root/cimv2", "Win32_Service", Table("root/cimv2", "Win32_Service",
                                                                  [service(f"svc{n:03}", **values) for n in range(number)]))
    return host


def names_in(reply: Reply) -> list[str]:
    return [element.text or "" for element in reply.root.iter(names.tag(SERVICE, "Name"))]


def pull_body(context: str, elements: int | None) -> str:
    maximum = f"<n:MaxElements>{elements}</n:MaxElements>" if elements is not None else ""
    return f"<n:Pull><n:EnumerationContext>{escape(context)}</n:EnumerationContext>{maximum}</n:Pull>"


def drain(host: SmallHost, body: str, uri: str = SERVICE, elements: int | None = 32000) -> tuple[list[Reply], list[str]]:
    """All answers of an enumeration, and every context in the order they came."""
    replies = [host.ask(names.ENUMERATE, uri, body)]
    assert replies[0].status == 200, replies[0].answer.body
    context = replies[0].text("s:Body/n:EnumerateResponse/n:EnumerationContext")
    contexts = []
    while context:
        contexts.append(context)
        replies.append(host.ask(names.PULL, uri, pull_body(context, elements)))
        assert replies[-1].status == 200
        context = replies[-1].text("s:Body/n:PullResponse/n:EnumerationContext")
    return replies, contexts


def optimised(elements: int = 32000, inner: str = "") -> str:
    return f"<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>{elements}</w:MaxElements>{inner}</n:Enumerate>"


def wql(query: str, prefix: str = "w") -> str:
    return optimised(inner=f'<{prefix}:Filter Dialect="{names.WQL}">{escape(query)}</{prefix}:Filter>')


def machine_host() -> SmallHost:
    host = SmallHost(HostSpec("HV1", quirks=Quirks(split_batches=False)))
    v2 = "root/virtualization/v2"
    systems = [{"CreationClassName": "Msvm_ComputerSystem", "Name": name, "ElementName": f"vm {name}"} for name in ("A", "B")]
    settings = [{"InstanceID": f"Microsoft:{name}", "ElementName": f"vm {name}"} for name in ("A", "B")]
    links = [{"ManagedElement": Ref(v2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": name}),
              "SettingData": Ref(v2, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{name}"})} for name in ("A", "B")]

    def change(call: Invocation) -> MethodOutcome:
        assert call.instance is not None
        host.changes += 1
        job = Ref(v2, "Msvm_ConcreteJob", {"InstanceID": "JOB-1"})
        return {"ReturnValue": 4096, "Job": job} if call["RequestedState"] == 3 else {"ReturnValue": 32775}

    host.repository.register(v2, "Msvm_ComputerSystem", Table(v2, "Msvm_ComputerSystem", systems, {"RequestStateChange": change}))
    host.repository.register(v2, "Msvm_VirtualSystemSettingData", Table(v2, "Msvm_VirtualSystemSettingData", settings))
    host.repository.register(v2, "Msvm_SettingsDefineState", Table(v2, "Msvm_SettingsDefineState", links))
    return host
