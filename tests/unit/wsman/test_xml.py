# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing what nobody vouches for, and quoting what we send."""
from __future__ import annotations

import random
import time
from xml.etree import ElementTree

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.cim import wscim
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman import xml
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.session import WsmanSession
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.xml import ProtocolError
from hypothesis import given
from hypothesis import strategies as st
from support.recording import V2, ManualClock, complete, envelope, fault, instance, pulled, reference

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff") | st.sampled_from("\n\t\r"))


@given(TEXT, TEXT)
def test_text_survives_the_way_there_and_back(content, attribute):
    written = xml.element("a", xml.text(content), b=attribute)
    root = ElementTree.fromstring(written)
    assert (root.text or "", root.attrib["b"]) == (content, attribute)


@pytest.mark.parametrize("bad", ["\0", "\x1b[31m", "\ud800", "\ufffe", "\x08"])
def test_what_xml_cannot_carry_is_refused(bad):
    with pytest.raises(HypervError) as caught:
        xml.text(f"a{bad}")
    assert caught.value.error_code == "invalid_text"


@pytest.mark.parametrize("answer", [
    b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b"<!DOCTYPE a><a/>", b'<?xml version="1.0"?>\n<!-- x --><!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
    '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'.encode("utf-16"), b"<a>&b;</a>", b"<a>", b"<a/><b/>", b"", b"   ", b"\xff\xfe", b"\xc3\x28",
    b"<a>\x00</a>", b"<a>&#0;</a>", b"<a>&#x1b;</a>", b"<a xmlns:b=''/>", b"<b:a/>", b'<?xml version="1.0" encoding="cp437"?><a/>',
    b'<?xml version="1.0" encoding="utf-7"?><a/>', b"<a b='1' b='2'/>", b"<" * 100_000, b"<?" + b"x" * 100_000, b"<!--" * 50_000,
    b"<a>" * 100 + b"</a>" * 100, b"<a>" * 200_000 + b"</a>" * 200_000, '<a>ä</a>'.encode("latin-1"),
])
def test_anything_else_is_one_kind_of_error(answer):
    begun = time.process_time()
    with pytest.raises(ProtocolError):
        xml.parse(answer)
    assert time.process_time() - begun < 2.0


@pytest.mark.parametrize("answer", [
    "<a>ü</a>".encode(), "<a>ü</a>".encode("utf-16"), b"\xef\xbb\xbf" + "<a>ü</a>".encode(),
    '<?xml version="1.0" encoding="UTF-16"?><a>ü</a>'.encode("utf-16"),
    '<?xml version="1.0" encoding="utf-8"?>\n<!-- <!DOCTYPE --><a>ü</a>'.encode(),
    "<a><![CDATA[ü]]></a>".encode(),
])
def test_the_encodings_that_winrm_uses(answer):
    assert xml.parse(answer).text == "ü"


def test_a_document_type_inside_the_data_is_data():
    assert xml.parse(b"<a><![CDATA[<!DOCTYPE x>]]></a>").text == "<!DOCTYPE x>"


def test_an_excerpt_shows_no_control_characters():
    assert xml.excerpt(b"a\x1b[31m\xff\r\xe2\x80\xae") == "a\\u001b[31m\\xff\\u000d\\u202e"


REAL = [
    envelope(complete(*[instance("Msvm_ComputerSystem", {
        "Name": f"vm{number}", "InstallDate": "<cim:Datetime>2025-12-17T09:55:22Z</cim:Datetime>",
        "Job": reference("Msvm_ConcreteJob", {"InstanceID": "x"}), "Caption": None}) for number in range(3)])),
    envelope(pulled("uuid:2", instance("Msvm_X", {"A": "1"}))),
    envelope(fault("w:InternalError", 1359)),
    envelope('<rsp:ReceiveResponse><rsp:Stream Name="stdout">YQ==</rsp:Stream></rsp:ReceiveResponse>'),
]


PIECES = [b"", b"<", b">", b"&", b"</s:Body>", b"<s:Fault>", b"\x00", b"\xff", b"<!DOCTYPE a>", b"&lol;", b"xsi:nil='true'",
          b"<a:Address/>", b"<cim:Datetime>9999-99-99</cim:Datetime>", b"<cim:Interval>P99999999999D</cim:Interval>"]


def broken(seed: int) -> bytes:
    """A real answer after a few cuts, repetitions and foreign bytes; now and then anything at all.

    All of it is drawn from one number, since thousands of examples of many draws each would take minutes.
    """
    chance = random.Random(seed)
    if chance.randrange(10) == 0:
        return chance.randbytes(chance.randrange(300))
    answer = bytearray(chance.choice(REAL))
    for _unused in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(answer)), chance.randrange(60)
        kind = chance.randrange(3)
        if kind == 0:
            answer[at:at + length] = chance.choice(PIECES)
        elif kind == 1:
            answer[at:at] = answer[at:at + length]
        else:
            other = chance.randrange(len(answer))
            answer[at:at + length] = answer[other:other + length]
    return bytes(answer)


class OneAnswer:
    """A lane that always gives the same answer."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def send(self, envelope_: bytes, deadline: Deadline, *, repeatable: bool) -> bytes:
        return self.answer

    def close(self) -> None:
        return


ASKED = {
    "instances": lambda session: [wscim.decode_instance(item, namespace="n") for item in session.enumerate(V2 + "X")],
    "instance": lambda session: wscim.decode_instance(session.get(V2 + "X", {})),
    "references": lambda session: [wscim.decode_reference(item) for item in session.enumerate(V2 + "X")],
}


def test_the_answers_below_are_sound_before_they_are_broken():
    assert [one.text("Name") for one in ASKED["instances"](WsmanSession(OneAnswer(REAL[0]), ManualClock()))] == ["vm0", "vm1", "vm2"]


@pytest.mark.parametrize("asked", ASKED)
def test_ten_thousand_malformed_answers_are_all_errors_of_the_one_family(asked):
    first = random.randrange(2**32)
    for seed in range(first, first + 10_000 // len(ASKED) + 1):
        try:
            ASKED[asked](WsmanSession(OneAnswer(broken(seed)), ManualClock()))
        except HypervError as error:
            assert error.message
        except Exception as error:
            raise AssertionError(f"seed {seed} of {asked}") from error


@pytest.mark.parametrize("last", ["", "<!-- c -->", "text"])
def test_sixty_four_levels_are_read_and_no_more(last):
    def nested(levels):
        return b"<a>" * (levels - 1) + b"<b>" + last.encode() + b"</b><c/>" + b"</a>" * (levels - 1)

    assert len(list(xml.parse(nested(64)).iter())) == 65
    with pytest.raises(xml.ProtocolError, match="too deeply"):
        xml.parse(nested(65))
