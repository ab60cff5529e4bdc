# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Summaries of many VMs: asked for in parts, since a method's answer has no pages and an envelope has a limit."""
from __future__ import annotations

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import summary
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.identity import NAMESPACE
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from support.recording import NAMESPACES, V2, ManualClock, RecordingLane, Request, fault


def vm_id(number: int) -> str:
    return f"AAAAAAAA-0000-0000-0000-{number:012}"


def settings(count: int) -> list[Reference]:
    return [Reference(NAMESPACE, "Msvm_VirtualSystemSettingData", {"InstanceID": f"Microsoft:{vm_id(number)}"}) for number in range(count)]


class Host:
    """Plays a host with ``count`` VMs: refuses answers of more than ``most`` rows, and calls that name a VM which is gone."""

    def __init__(self, count: int, most: int, gone: int | None = None, code: int = 0) -> None:
        self.known = [vm_id(number) for number in range(count)]
        self.most = most
        self.gone = None if gone is None else vm_id(gone)
        self.code = code
        self.asked: list[int] = []

    def answer(self, request: Request) -> str:
        named = [(one.text or "").removeprefix("Microsoft:") for one in request.body.iterfind(".//w:Selector", NAMESPACES)]
        self.asked.append(len(named))
        if self.code or self.gone in named:
            return self.output("", self.code or 32773)
        rows = named or [name for name in self.known if name != self.gone]
        if len(rows) > self.most:
            return fault("w:EncodingLimit", 2150858790)
        return self.output("".join(f"<p:SummaryInformation xmlns:q='{V2}Msvm_SummaryInformation'><q:Name>{name}</q:Name>"
                                   "<q:NumberOfProcessors>2</q:NumberOfProcessors></p:SummaryInformation>" for name in rows), 0)

    @staticmethod
    def output(rows: str, code: int) -> str:
        return (f'<p:GetSummaryInformation_OUTPUT xmlns:p="{V2}Msvm_VirtualSystemManagementService">{rows}'
                f"<p:ReturnValue>{code}</p:ReturnValue></p:GetSummaryInformation_OUTPUT>")


def ask(host: Host, count: int) -> set[str]:
    clock = ManualClock()
    reader = CimReader(WsmanSession(RecordingLane(*[host.answer] * 100), clock), clock)
    return set(summary.read_summaries(reader, settings(count)))


@pytest.mark.parametrize(("count", "most", "asked"), [
    (3, 300, [0]),
    (200, 300, [0]),
    (201, 300, [1, 200]),
    (1000, 300, [200] * 5),
    (100, 60, [0, 50, 50]),
    (100, 30, [0, 50, 25, 25, 50, 25, 25]),
])
def test_as_many_requests_as_the_envelope_demands(count: int, most: int, asked: list[int]) -> None:
    host = Host(count, most)
    assert ask(host, count) == set(host.known)
    assert host.asked == asked


def test_a_machine_that_went_away_meanwhile_hides_no_other() -> None:
    host = Host(400, 300, gone=17)
    assert ask(host, 400) == set(host.known) - {vm_id(17)}


@pytest.mark.parametrize(("count", "requests"), [(3, 1), (400, 33)])
def test_a_host_that_refuses_everything_is_believed_in_the_end(count: int, requests: int) -> None:
    host = Host(count, 300, code=32768)
    with pytest.raises(HypervError) as refused:
        ask(host, count)
    assert (refused.value.error_code, refused.value.return_value, len(host.asked)) == ("summary_failed", 32768, requests)
