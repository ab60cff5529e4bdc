# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command shells (wire 7.1, 7.2), with raw envelopes."""
from __future__ import annotations

import asyncio
import base64
from datetime import timedelta

import pytest
from simulator.net.contract import Connection
from simulator.soap import names
from simulator.spec import HostSpec, Limits
from unit.simulator.soap.helpers import ADMIN, NOBODY, NS, OPERATOR, OTHER_ADMIN, Reply, SmallHost, envelope

GUID = r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}"


def shell_get(host: SmallHost, shell: str, uri: str = names.RSP) -> Reply:
    return host.ask(names.GET, uri, selectors={"ShellId": shell})


def test_create_answers_a_reference_and_an_echo(host: SmallHost) -> None:
    body = ('<rsp:Environment><rsp:Variable Name="A">1 &amp; 2</rsp:Variable></rsp:Environment>'
            "<rsp:WorkingDirectory>C:\\Temp</rsp:WorkingDirectory><rsp:InputStreams>stdin</rsp:InputStreams>"
            "<rsp:OutputStreams>stdout stderr</rsp:OutputStreams>")
    reply = host.ask(names.CREATE, names.SHELL_CMD, f"<rsp:Shell>{body}</rsp:Shell>",
                     options={"WINRS_NOPROFILE": "TRUE", "WINRS_CODEPAGE": "65001"})
    assert reply.status == 200
    assert reply.action == names.CREATE + "Response"
    created = "s:Body/x:ResourceCreated/a:ReferenceParameters/"
    assert reply.text("s:Body/x:ResourceCreated/a:Address") == names.ANONYMOUS
    assert reply.text(created + "w:ResourceURI") == names.SHELL_CMD
    selector = reply.find(created + "w:SelectorSet/w:Selector")
    assert selector is not None
    assert selector.attrib == {"Name": "ShellId"}
    shell = reply.find("s:Body/rsp:Shell")
    assert shell is not None
    values = {child.tag.rpartition("}")[2]: child.text for child in shell}
    assert list(values) == ["ShellId", "ResourceUri", "Owner", "ClientIP", "Environment", "WorkingDirectory", "IdleTimeOut",
                            "InputStreams", "OutputStreams", "ShellRunTime", "ShellInactivity"]
    assert values["ShellId"] == selector.text
    assert values["Owner"] == "Administrator"
    assert values["ClientIP"] == "127.0.0.1"
    assert values["IdleTimeOut"] == "PT7200.000S"
    assert values["ShellRunTime"] == "P0DT0H0M0S"
    assert shell.findtext("rsp:Environment/rsp:Variable", namespaces=NS) == "1 & 2"


def test_a_command_gets_the_environment_and_the_folder_of_its_shell(host: SmallHost) -> None:
    shell = host.open_shell('<rsp:Environment><rsp:Variable Name="SOURCE">%A% &amp; "b"</rsp:Variable></rsp:Environment>'
                            "<rsp:WorkingDirectory>C:\\x</rsp:WorkingDirectory>", options={"WINRS_CODEPAGE": "65001"})
    command = host.start(shell, "echo", "a b", "c&d")
    assert host.programs.started == [("echo a b c&d", {"SOURCE": '%A% & "b"'}, "C:\\x", 65001)]
    assert host.output(shell, command) == (b"a b c&d\r\n", b"", 0)


def test_a_folder_that_is_not_there_is_a_fault(host: SmallHost) -> None:
    shell = host.open_shell("<rsp:WorkingDirectory>D:\\x</rsp:WorkingDirectory>")
    assert host.run(shell, "echo").code == 267


def test_the_code_page_is_437_unless_asked(host: SmallHost) -> None:
    host.start(host.open_shell(), "echo")
    assert host.programs.started[-1][3] == 437


def test_output_comes_in_chunks_and_the_exit_code_only_with_done() -> None:
    host = SmallHost(HostSpec("HV1", seed=3))
    shell = host.open_shell()
    command = host.start(shell, "big", "400000")
    sizes: list[int] = []
    answers = 0
    while True:
        reply = host.receive(shell, command)
        answers += 1
        assert len(reply.answer.body) <= 153600
        streams = list(reply.root.iter(names.tag(names.RSP, "Stream")))
        sizes += [len(base64.b64decode(stream.text)) for stream in streams if stream.text]
        state = reply.find("s:Body/rsp:ReceiveResponse/rsp:CommandState")
        assert state is not None
        if state.attrib["State"] == names.RSP + "/CommandState/Done":
            ends = [(stream.attrib["Name"], stream.get("End")) for stream in streams if not stream.text]
            assert ends == [("stderr", "true"), ("stdout", "true")]
            assert state.findtext("rsp:ExitCode", namespaces=NS) == "0"
            break
        assert state.attrib["State"] == names.RSP + "/CommandState/Running"
        assert state.find("rsp:ExitCode", NS) is None
    assert sum(sizes) == 400000
    assert answers >= 4
    assert len(set(sizes)) > 1


def test_standard_error_and_exit_code(host: SmallHost) -> None:
    shell = host.open_shell()
    assert host.output(shell, host.start(shell, "fail", "7")) == (b"", b"no\r\n", 7)


def test_only_the_desired_streams_are_delivered(host: SmallHost) -> None:
    shell = host.open_shell()
    command = host.start(shell, "fail", "7")
    reply = host.receive(shell, command, "stdout")
    assert [s.attrib["Name"] for s in reply.root.iter(names.tag(names.RSP, "Stream"))] == ["stdout"]


def test_receive_waits_for_output_and_then_times_out(host: SmallHost) -> None:
    shell = host.open_shell()
    command = host.start(shell, "wait", "90")
    before = host.clock.now()
    reply = host.receive(shell, command, timeout="PT20S")
    assert (reply.status, reply.subcode, reply.code) == (500, "w:TimedOut", 2150858793)
    assert host.clock.now() - before == timedelta(seconds=20)


def test_a_time_out_of_minutes_is_clipped_to_one(host: SmallHost) -> None:
    shell = host.open_shell()
    command = host.start(shell, "wait", "90")
    before = host.clock.now()
    assert host.receive(shell, command, timeout="PT5M").code == 2150858793
    assert host.clock.now() - before == timedelta(seconds=60)
    assert host.output(shell, command) == (b"done\r\n", b"", 0)
    assert host.clock.now() - before == timedelta(seconds=90)


def test_without_a_time_out_the_server_takes_its_own(host: SmallHost) -> None:
    shell = host.open_shell()
    command = host.start(shell, "wait", "90")
    before = host.clock.now()
    assert host.receive(shell, command, timeout=None).code == 2150858793
    assert host.clock.now() - before == timedelta(seconds=60)


def test_standard_input(host: SmallHost) -> None:
    shell = host.open_shell()
    command = host.start(shell, "cat")
    for data, end in ((b"\xff\x00a", "false"), (b"b", "TRUE")):
        encoded = base64.b64encode(data).decode()
        body = f'<rsp:Send><rsp:Stream Name="stdin" CommandId="{command}" End="{end}">{encoded}</rsp:Stream></rsp:Send>'
        reply = host.in_shell(shell, "Send", body)
        assert reply.find("s:Body/rsp:SendResponse") is not None
    assert host.output(shell, command) == (b"\xff\x00ab", b"", 0)


def test_input_that_is_no_base64(host: SmallHost) -> None:
    shell = host.open_shell()
    command = host.start(shell, "cat")
    reply = host.in_shell(shell, "Send", f'<rsp:Send><rsp:Stream Name="stdin" CommandId="{command}">%%%</rsp:Stream></rsp:Send>')
    assert reply.subcode == "w:SchemaValidationError"


def test_a_second_command_is_refused_until_done_was_received(host: SmallHost) -> None:
    shell = host.open_shell()
    first = host.start(shell, "echo", "1")
    assert host.run(shell, "echo", "2").status == 500
    host.output(shell, first)
    second = host.start(shell, "echo", "3")
    assert host.output(shell, second) == (b"3\r\n", b"", 0)


def test_terminate_makes_room_for_the_next_command(host: SmallHost) -> None:
    shell = host.open_shell()
    first = host.start(shell, "cat")
    assert host.signal(shell, first, "Terminate").find("s:Body/rsp:SignalResponse") is not None
    assert host.programs.running[shell][0].exit_code == 1
    assert host.receive(shell, first).code == 2150858843
    assert host.output(shell, host.start(shell, "echo", "x"))[2] == 0


def test_ctrl_c_ends_the_program_and_its_command_can_be_received(host: SmallHost) -> None:
    shell = host.open_shell()
    command = host.start(shell, "cat")
    host.signal(shell, command, "ctrl_c")
    assert host.output(shell, command) == (b"", b"", -1073741510)


def test_unknown_signal(host: SmallHost) -> None:
    shell = host.open_shell()
    assert host.signal(shell, host.start(shell, "cat"), "pause").code == 87


@pytest.mark.parametrize("verb", ["Command", "Receive", "Send", "Signal"])
def test_a_deleted_shell_is_unknown(host: SmallHost, verb: str) -> None:
    shell = host.open_shell()
    deleted = host.ask(names.DELETE, names.SHELL_CMD, selectors={"ShellId": shell})
    body = deleted.find("s:Body")
    assert deleted.action == names.DELETE + "Response"
    assert body is not None
    assert len(body) == 0
    reply = host.in_shell(shell, verb, "<rsp:CommandLine><rsp:Command>echo</rsp:Command></rsp:CommandLine>")
    assert (reply.subcode, reply.code, reply.fault_detail) == ("w:InvalidSelectors", 2150858843, "UnexpectedSelectors")


def test_an_unknown_command_is_invalid_selectors(host: SmallHost) -> None:
    assert host.receive(host.open_shell(), "00000000-0000-0000-0000-000000000000").code == 2150858843


def test_receive_without_a_command_is_a_provider_fault(host: SmallHost) -> None:
    reply = host.in_shell(host.open_shell(), "Receive", "<rsp:Receive><rsp:DesiredStream>stdout</rsp:DesiredStream></rsp:Receive>")
    assert (reply.subcode, reply.code) == ("w:InvalidParameter", 87)
    provider = reply.find("s:Body/s:Fault/s:Detail/f:WSManFault/f:Message/f:ProviderFault")
    assert provider is not None
    assert provider.attrib == {"provider": "Shell cmd plugin", "path": "%systemroot%\\system32\\winrscmd.dll"}


def test_delete_kills_the_programs_and_ends_a_waiting_receive(host: SmallHost) -> None:
    shell = host.open_shell()
    command = host.start(shell, "cat")
    receive = envelope(names.SHELL_RECEIVE, names.SHELL_CMD,
                       f'<rsp:Receive><rsp:DesiredStream CommandId="{command}">stdout</rsp:DesiredStream></rsp:Receive>',
                       selectors={"ShellId": shell})
    host.clock.call_later(5, host.service.shells.close_all)
    reply = host.send(receive)
    assert (reply.subcode, reply.code) == ("w:InternalError", 995)
    assert host.programs.running[shell][0].exit_code == 1


def test_two_connections_a_waiting_receive_does_not_block_the_host(host: SmallHost) -> None:
    shell = host.open_shell()
    command = host.start(shell, "wait", "10")
    connection = Connection(2, "127.0.0.1:5001", tls=False, caller=ADMIN)
    receive = envelope(names.SHELL_RECEIVE, names.SHELL_CMD,
                       f'<rsp:Receive><rsp:DesiredStream CommandId="{command}">stdout</rsp:DesiredStream></rsp:Receive>',
                       selectors={"ShellId": shell})

    async def both() -> tuple[int, int]:
        first = asyncio.create_task(host.service.handle(connection, receive, {}))
        await asyncio.sleep(0)
        second = await host.service.handle(connection, envelope(names.GET, names.RSP, selectors={"ShellId": shell}), {})
        return second.status, (await first).status

    assert asyncio.run(both()) == (200, 200)


def test_idle_shell_is_killed_after_its_time(host: SmallHost) -> None:
    shell = host.open_shell("<rsp:IdleTimeOut>PT120S</rsp:IdleTimeOut>")
    host.start(shell, "cat")
    host.clock.advance(119)
    assert shell_get(host, shell).status == 200
    host.clock.advance(119)
    assert shell_get(host, shell).text("s:Body/rsp:Shell/rsp:IdleTimeOut") == "PT120.000S"
    host.clock.advance(121)
    assert shell_get(host, shell).code == 2150858843
    assert host.programs.running[shell][0].exit_code == 1


def test_a_waiting_receive_is_no_idleness(host: SmallHost) -> None:
    shell = host.open_shell("<rsp:IdleTimeOut>PT60S</rsp:IdleTimeOut>")
    command = host.start(shell, "wait", "170")
    codes = [host.receive(shell, command, timeout="PT60S").code for _unused in range(2)]
    assert codes == [2150858793, 2150858793]
    assert host.output(shell, command) == (b"done\r\n", b"", 0)


@pytest.mark.parametrize(("asked", "granted"), [("PT1S", "PT60.000S"), ("PT1H", "PT3600.000S"), ("P1DT0H0M5.5S", "PT86405.500S")])
def test_idle_times(host: SmallHost, asked: str, granted: str) -> None:
    shell = host.open_shell(f"<rsp:IdleTimeOut>{asked}</rsp:IdleTimeOut>")
    assert shell_get(host, shell).text("s:Body/rsp:Shell/rsp:IdleTimeOut") == granted


def test_idle_time_out_of_bounds(host: SmallHost) -> None:
    reply = host.ask(names.CREATE, names.SHELL_CMD, "<rsp:Shell><rsp:IdleTimeOut>P99D</rsp:IdleTimeOut></rsp:Shell>")
    assert reply.code == 2150859250


def test_a_user_may_have_thirty_shells(host: SmallHost) -> None:
    shells = [host.open_shell() for _unused in range(30)]
    reply = host.ask(names.CREATE, names.SHELL_CMD, "<rsp:Shell/>")
    assert (reply.subcode, reply.code) == ("w:QuotaLimit", 2150859173)
    host.caller = OPERATOR
    host.open_shell()
    host.caller = ADMIN
    host.ask(names.DELETE, names.SHELL_CMD, selectors={"ShellId": shells[0]})
    host.open_shell()


def test_commands_count_until_their_shell_is_deleted() -> None:
    host = SmallHost(HostSpec("HV1", limits=Limits(max_operations_per_user=3)))
    shell = host.open_shell()
    for _unused in range(3):
        command = host.start(shell, "echo", "x")
        host.output(shell, command)
        host.signal(shell, command)
    reply = host.run(shell, "echo", "x")
    assert (reply.subcode, reply.code) == ("w:QuotaLimit", 2150859174)
    host.ask(names.DELETE, names.SHELL_CMD, selectors={"ShellId": shell})
    assert host.run(host.open_shell(), "echo", "x").status == 200


def test_users_with_shells_are_limited() -> None:
    host = SmallHost(HostSpec("HV1", limits=Limits(max_concurrent_users=1)))
    host.open_shell()
    host.caller = OPERATOR
    assert host.ask(names.CREATE, names.SHELL_CMD, "<rsp:Shell/>").code == 2150859179


def test_shells_can_be_forbidden() -> None:
    host = SmallHost(HostSpec("HV1", limits=Limits(allow_remote_shell_access=False)))
    reply = host.ask(names.CREATE, names.SHELL_CMD, "<rsp:Shell/>")
    assert (reply.subcode, reply.code) == ("w:InternalError", 2150859180)


@pytest.mark.parametrize(("behaviour", "expected"), [
    ("message", (b"", b"The command line is too long.\r\n", 1)), ("silent", (b"", b"", 0))])
def test_a_line_over_8191_characters(behaviour: str, expected: tuple[bytes, bytes, int]) -> None:
    host = SmallHost(HostSpec("HV1", limits=Limits(long_line=behaviour)))
    shell = host.open_shell()
    assert host.output(shell, host.start(shell, "echo", "x" * 8186)) == (b"x" * 8186 + b"\r\n", b"", 0)
    assert host.output(shell, host.start(shell, "echo", "x" * 8187)) == expected


def test_skip_cmd_shell_is_ignored(host: SmallHost) -> None:
    shell = host.open_shell()
    body = "<rsp:CommandLine><rsp:Command>echo</rsp:Command><rsp:Arguments>x</rsp:Arguments></rsp:CommandLine>"
    reply = host.in_shell(shell, "Command", body, options={"WINRS_SKIP_CMD_SHELL": "TRUE", "WINRS_CONSOLEMODE_STDIN": "FALSE"})
    assert reply.status == 200
    assert host.programs.started[-1][0] == "echo x"


def test_get_and_enumerate_need_the_uri_without_cmd(host: SmallHost) -> None:
    shells = {host.open_shell(), host.open_shell()}
    one = shells.copy().pop()
    assert shell_get(host, one, names.SHELL_CMD).subcode == "a:ActionNotSupported"
    body = "<n:Enumerate><w:OptimizeEnumeration/><w:MaxElements>100</w:MaxElements></n:Enumerate>"
    assert host.ask(names.ENUMERATE, names.SHELL_CMD, body).subcode == "a:ActionNotSupported"
    host.service.enumerations._split = False
    reply = host.ask(names.ENUMERATE, names.RSP, body)
    found = {shell.findtext("rsp:ShellId", namespaces=NS) for shell in reply.root.iter(names.tag(names.RSP, "Shell"))}
    assert found == shells


def test_shells_of_others_are_for_administrators_only(host: SmallHost) -> None:
    shell = host.open_shell()
    host.caller = OPERATOR
    assert host.run(shell, "echo", "x").code == 5
    assert host.ask(names.ENUMERATE, names.RSP, "<n:Enumerate><w:OptimizeEnumeration/></n:Enumerate>").find(".//rsp:Shell") is None
    host.caller = OTHER_ADMIN
    assert shell_get(host, shell).status == 200


def test_an_account_without_rights_gets_no_shell(host: SmallHost) -> None:
    host.caller = NOBODY
    reply = host.ask(names.CREATE, names.SHELL_CMD, "<rsp:Shell/>")
    assert (reply.status, reply.subcode, reply.code) == (500, "w:AccessDenied", 5)


def test_what_shells_count_as(host: SmallHost) -> None:
    shell = host.open_shell()
    host.output(shell, host.start(shell, "echo", "x"))
    counted = host.counters.snapshot()
    assert counted.by_operation["Shell Create"] == 1
    assert counted.by_operation["Shell Command"] == 1
    assert counted.writing == 0
    original = host.programs.start

    def start_and_change(*args: object, **keywords: object) -> object:
        host.changes += 1
        return original(*args, **keywords)  # type: ignore[arg-type]

    host.programs.start = start_and_change  # type: ignore[method-assign, assignment]
    host.start(shell, "echo", "x")
    assert host.counters.since(counted).writing == 1
