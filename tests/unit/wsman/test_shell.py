# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shells: what is sent, what is understood, and that every shell is deleted (wire 7)."""
from __future__ import annotations

import base64

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import ConnectionFailed, HypervError, OutcomeUnknown
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import faults
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import (
    CommandLineTooLong,
    OutputTooLarge,
    ProgramTimedOut,
    Shell,
    refuse_long_line,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError
from hypothesis import given
from hypothesis import strategies as st
from support.recording import NAMESPACES, ManualClock, RecordingLane, fault

RSP = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CREATED = ("<x:ResourceCreated><a:Address>x</a:Address><a:ReferenceParameters><w:ResourceURI>y</w:ResourceURI><w:SelectorSet>"
           '<w:Selector Name="ShellId">S-1</w:Selector></w:SelectorSet></a:ReferenceParameters></x:ResourceCreated>'
           "<rsp:Shell><rsp:ShellId>S-1</rsp:ShellId></rsp:Shell>")
STARTED = "<rsp:CommandResponse><rsp:CommandId>C-1</rsp:CommandId></rsp:CommandResponse>"
NOTHING_YET = fault("w:TimedOut", 2150858793, side="s:Receiver")
SIGNALLED = "<rsp:SignalResponse/>"
GONE = fault("w:InvalidSelectors", 2150858843, detail="UnexpectedSelectors")


def chunk(stream, data, *, end=False):
    ended = ' End="true"' if end else ""
    return f'<rsp:Stream Name="{stream}" CommandId="C-1"{ended}>{base64.b64encode(data).decode()}</rsp:Stream>'


def received(*streams, code=None):
    state = "Running" if code is None else "Done"
    ended = "" if code is None else f"<rsp:ExitCode>{code}</rsp:ExitCode>"
    return (f'<rsp:ReceiveResponse>{"".join(streams)}<rsp:CommandState CommandId="C-1" State="{RSP}/CommandState/{state}">{ended}'
            "</rsp:CommandState></rsp:ReceiveResponse>")


def shell(*answers, environment=None, clock=None, **options):
    lane = RecordingLane(*answers)
    return lane, Shell(WsmanSession(lane, clock or ManualClock()), environment or {}, **options)


def test_a_program_from_its_start_to_the_deletion_of_the_shell():
    lane, one = shell(CREATED, STARTED, received(chunk("stdout", b"h\xc3"), chunk("stderr", b"e")), NOTHING_YET,
                      received(chunk("stdout", b"\xa4"), chunk("stdout", b"", end=True), code=16), "",
                      environment={"AGH_PATH": r"C:\ü & <100%>", "AGH_B": ""})
    with one:
        result = one.run(r'"%SystemRoot%\System32\robocopy.exe" "%AGH_PATH%"', timeout=100)
    assert (result.exit_code, result.stdout, result.stderr) == (16, "hä".encode(), b"e")
    assert lane.verbs == ["Create", "Command", "Receive", "Receive", "Receive", "Delete"]
    create, command, receive, *_unused, delete = lane.requests
    assert create.options == {"WINRS_NOPROFILE": "TRUE", "WINRS_CODEPAGE": "65001"}
    variables = create.root.findall("s:Body/rsp:Shell/rsp:Environment/rsp:Variable", NAMESPACES)
    assert {one.attrib["Name"]: one.text or "" for one in variables} == {"AGH_PATH": r"C:\ü & <100%>", "AGH_B": ""}
    assert create.text("rsp:Shell/rsp:OutputStreams") == "stdout stderr"
    assert command.text("rsp:CommandLine/rsp:Command") == r'"%SystemRoot%\System32\robocopy.exe" "%AGH_PATH%"'
    assert receive.root.find("s:Body/rsp:Receive/rsp:DesiredStream", NAMESPACES).attrib == {"CommandId": "C-1"}
    assert {request.resource for request in lane.requests} == {f"{RSP}/cmd"}
    assert [request.selectors for request in lane.requests[1:]] == [{"ShellId": "S-1"}] * 5
    assert [request.repeatable for request in lane.requests] == [False, False, False, False, False, True]
    assert delete.header("a:Action") == "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete"


def test_a_finished_program_is_forgotten_before_the_next_one_begins():
    second = STARTED.replace("C-1", "C-2"), received(code=0).replace("C-1", "C-2")
    lane, one = shell(CREATED, STARTED, received(code=1), GONE, *second, SIGNALLED, *second, "")
    with one:
        assert [one.run("x", timeout=100).exit_code for _unused in range(3)] == [1, 0, 0]
    assert lane.verbs == ["Create", "Command", "Receive", "Signal", "Command", "Receive", "Signal", "Command", "Receive", "Delete"]
    signals = [request for request in lane.requests if request.verb == "Signal"]
    assert [request.text("rsp:Signal/rsp:Code") for request in signals] == [f"{RSP}/signal/terminate"] * 2
    ended = [request.root.find("s:Body/rsp:Signal", NAMESPACES).attrib["CommandId"] for request in signals]
    assert ended == ["C-1", "C-2"]
    assert [request.repeatable for request in signals] == [True, True]


def test_a_line_that_is_too_long_forgets_nothing():
    lane, one = shell(CREATED, STARTED, received(code=0), "")
    with pytest.raises(CommandLineTooLong), one:
        one.run("x", timeout=100)
        one.run("x" * 9000, timeout=100)
    assert lane.verbs == ["Create", "Command", "Receive", "Delete"]


def test_standard_input_is_sent_in_chunks_and_closed():
    data = bytes(range(256)) * 1024
    lane, one = shell(CREATED, STARTED, "<rsp:SendResponse/>", "<rsp:SendResponse/>", received(code=0), "")
    with one:
        one.run("more", data, timeout=100)
    sent = [request.root.find("s:Body/rsp:Send/rsp:Stream", NAMESPACES) for request in lane.requests if request.verb == "Send"]
    assert b"".join(base64.b64decode(stream.text) for stream in sent) == data
    assert [stream.attrib.get("End") for stream in sent] == [None, "true"]
    lane, one = shell(CREATED, STARTED, "<rsp:SendResponse/>", received(code=0), "")
    with one:
        one.run("more", b"", timeout=100)
    assert lane.requests[2].root.find("s:Body/rsp:Send/rsp:Stream", NAMESPACES).attrib["End"] == "true"


def test_output_may_go_to_a_handler_as_it_arrives():
    seen = []
    _unused, one = shell(
        CREATED, STARTED, received(chunk("stdout", b"a"), chunk("stderr", b"b")), received(chunk("stdout", b"c"), code=0), "",
        max_output=1)
    with one:
        result = one.run("x", timeout=100, on_output=lambda stream, data: seen.append((stream, data)))
    assert seen == [("stdout", b"a"), ("stderr", b"b"), ("stdout", b"c")]
    assert result.stdout == b""


@pytest.mark.parametrize(("written", "code"), [("0", 0), ("-1073741510", 3221225786), ("3221225786", 3221225786), (" 8 ", 8)])
def test_exit_codes_are_unsigned(written, code):
    _unused, one = shell(CREATED, STARTED, received(code=written), "")
    with one:
        assert one.run("x", timeout=100).exit_code == code


def test_a_program_that_does_not_end_is_ended_and_the_shell_deleted():
    clock = ManualClock()

    def silence(request):
        clock.advance(20)
        return NOTHING_YET

    lane, one = shell(CREATED, STARTED, silence, silence, silence, SIGNALLED, "", clock=clock)
    with pytest.raises(ProgramTimedOut), one:
        one.run("ping", timeout=50)
    assert lane.verbs == ["Create", "Command", "Receive", "Receive", "Receive", "Signal", "Delete"]
    assert [request.header("w:OperationTimeout") for request in lane.requests[2:5]] == ["PT20.000S", "PT20.000S", "PT10.000S"]


def test_a_program_that_writes_too_much_is_ended():
    lane, one = shell(CREATED, STARTED, received(chunk("stdout", b"x" * 600)), received(chunk("stderr", b"x" * 600)), SIGNALLED, "",
                      max_output=1000)
    with pytest.raises(OutputTooLarge), one:
        one.run("x", timeout=100)
    assert lane.verbs[-2:] == ["Signal", "Delete"]


@pytest.mark.parametrize(("answer", "error"), [
    (ConnectionFailed("gone"), ConnectionFailed), (OutcomeUnknown("lost"), OutcomeUnknown), (GONE, faults.InvalidSelectors),
    (fault("w:InternalError", 995), faults.ShellGone), ("<rsp:Other/>", OutcomeUnknown),
    (received('<rsp:Stream Name="stdout">***</rsp:Stream>'), ProtocolError), (received(code="soon"), OutcomeUnknown),
    (received(code=""), OutcomeUnknown),
])
def test_whatever_happens_to_a_running_program_the_shell_is_deleted(answer, error):
    lane, one = shell(CREATED, STARTED, answer, SIGNALLED, "")
    with pytest.raises(error), one:
        one.run("x", timeout=100)
    assert lane.verbs == ["Create", "Command", "Receive", "Signal", "Delete"]


def test_an_error_while_deleting_does_not_hide_the_first_error():
    _unused, one = shell(CREATED, ConnectionFailed("first"), ConnectionFailed("second"))
    with pytest.raises(ConnectionFailed, match="first"), one:
        one.run("x", timeout=100)
    _unused, one = shell(CREATED, ConnectionFailed("only"))
    with pytest.raises(ConnectionFailed, match="only"), one:
        pass


@pytest.mark.parametrize("gone", [GONE, fault("a:DestinationUnreachable", 2150858752)])
def test_a_shell_that_is_gone_already_counts_as_deleted(gone):
    lane, one = shell(CREATED, gone)
    with one:
        pass
    assert lane.verbs == ["Create", "Delete"]


def test_a_full_quota_of_shells_is_waited_for():
    clock = ManualClock()
    full = fault("w:QuotaLimit", 2150859173)
    lane, one = shell(full, full, CREATED, "", clock=clock)
    with one:
        pass
    assert (lane.verbs, clock.slept) == (["Create", "Create", "Create", "Delete"], [1.0, 2.0])


def test_what_changes_the_host_is_announced_before_it_is_sent():
    marks = []
    lane, one = shell(CREATED, STARTED, received(code=0), "", before_send=lambda: marks.append(len(lane.requests)))
    with one:
        one.run("x", timeout=100)
    assert marks == [0, 1]


def test_lines_are_measured_as_written_and_as_expanded():
    refuse_long_line("x" * 8191, {})
    with pytest.raises(CommandLineTooLong):
        refuse_long_line("x" * 8192, {})
    with pytest.raises(CommandLineTooLong):
        refuse_long_line("%agh_a%" * 9, {"AGH_A": "y" * 1000})
    refuse_long_line("%AGH_A%" * 8, {"AGH_A": "y" * 1000})
    refuse_long_line("%OTHER%" * 1000, {"AGH_A": "y" * 9000})
    with pytest.raises(CommandLineTooLong):
        refuse_long_line("\U0001f5a5" * 4096, {})
    lane, one = shell(CREATED, "", environment={"AGH_A": "y" * 9000})
    with pytest.raises(CommandLineTooLong), one:
        one.run("echo %AGH_A%", timeout=10)
    assert lane.verbs == ["Create", "Delete"]


@pytest.mark.parametrize(("name", "value", "error"), [
    ("A=B", "x", ValueError), ("A B", "x", ValueError), ("A\\B", "x", ValueError), ("", "x", ValueError), ("A%", "x", ValueError),
    ("A", "x\0y", HypervError), ("A", "x" * 40_000, HypervError),
])
def test_variables_that_would_not_arrive_as_meant(name, value, error):
    with pytest.raises(error):
        shell(environment={name: value})


def test_a_shell_has_to_be_open():
    _unused, one = shell()
    with pytest.raises(ValueError, match="not open"):
        one.run("x", timeout=1)


@given(st.text(alphabet="<>&/rspStreamCodeExit01=\"' \n", max_size=120))
def test_odd_receive_answers_are_errors_of_the_family(garbage):
    clock = ManualClock()

    def receive(request):
        clock.advance(10)
        return f"<rsp:ReceiveResponse>{garbage}</rsp:ReceiveResponse>"

    lane, one = shell(CREATED, STARTED, *[lambda request: receive(request) if request.verb == "Receive" else SIGNALLED] * 4, clock=clock)
    with pytest.raises(HypervError), one:
        one.run("x", timeout=20)
    assert lane.verbs[:3] == ["Create", "Command", "Receive"]
    assert lane.verbs[-1] in ("Signal", "Delete")
