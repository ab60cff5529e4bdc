# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the collection trusts with its folder on a host."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import (
    Intent,
    look_from,
    parse_intent,
    problem_with_owner,
    problem_with_sddl,
    sddl_of,
    state_folder,
)
from hypothesis import given
from hypothesis import strategies as st

CLOSED = "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"


@pytest.mark.parametrize(
    "sddl",
    [
        CLOSED,
        "O:BA" + CLOSED,
        "O:SYG:SY" + CLOSED,
        "O:S-1-5-32-544" + CLOSED,
        "D:P(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)",
        "D:PAI(A;OICI;0x1f01ff;;;S-1-5-18)(A;OICI;FA;;;S-1-5-32-544)",
        "D:PAI(D;;FA;;;BU)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)",
    ],
)
def test_closed_folders_are_trusted(sddl: str) -> None:
    assert problem_with_sddl(sddl) is None


@pytest.mark.parametrize(
    "sddl",
    [
        "",
        "garbage",
        "O:BA",
        "D:AI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)",
        "D:(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)",
        CLOSED + "(A;;0x1200a9;;;BU)",
        CLOSED + "(A;OICIIO;FA;;;CO)",
        "O:S-1-5-21-1-2-3-1001" + CLOSED,
        "O:BU" + CLOSED,
        "D:PAI(A;OICI;FA;;;SY)",
        "D:PAI",
        "D:PAI(A;OICI;FA;;;SY)(A;OICI;0x1200a9;;;BA)",
        "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;;FA;;;WD)",
        "D:PAI(x)",
        "D:NO_ACCESS_CONTROL",
    ],
)
def test_everything_else_is_not(sddl: str) -> None:
    assert problem_with_sddl(sddl) is not None


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-8", "utf-16"])
def test_the_descriptor_is_found_in_what_icacls_saved(encoding: str) -> None:
    assert sddl_of(f"agentless.hyperv\r\n{CLOSED}\r\n".encode(encoding)) == CLOSED


def test_paths() -> None:
    folder = state_folder("C:")
    assert folder.link_for("{ID}") == "C:\\ProgramData\\agentless.hyperv\\s\\{ID}"
    assert folder.intent_for("night-1") == "C:\\ProgramData\\agentless.hyperv\\intents\\night-1.json"


def test_an_intent_is_ascii_with_short_lines() -> None:
    before = tuple(f"{{{n}}}" for n in range(512))
    data = Intent("night-1", "0a1b2c3d", datetime(2026, 1, 31, 12, tzinfo=UTC), "\\\\?\\Volume{x}\\", before).dump()
    assert data.isascii()
    assert data.endswith(b"}\r\n")
    assert max(map(len, data.splitlines())) < 200


NEW = "agentless.hyperv.0a1b2c3d4e5f"
LISTINGS = {
    "en": ["11/22/2025  10:55 AM    <DIR>          {0:<23}{1}", "BUILTIN\\Administrators"],
    "de": ["22.11.2025  10:55    <DIR>          {0:<23}{1}", "VORDEFINIERT\\Administratoren"],
    "fr": ["22/11/2025  10:55    <REP>          {0:<23}{1}", "BUILTIN\\Administrateurs"],
    "ja": ["2025/11/22  10:55    <DIR>          {0:<23}{1}", "BUILTIN\\Administrators"],
}


@pytest.mark.parametrize("language", LISTINGS)
@pytest.mark.parametrize("owner", [None, "HV01\\joe", "..."])
def test_the_owner_is_that_of_a_folder_which_administrators_own(language: str, owner: str | None) -> None:
    form, administrators = LISTINGS[language]
    lines = ["", " Directory of C:\\ProgramData", "", form.format(owner or administrators, "agentless.hyperv"),
             form.format(administrators, NEW), "               0 File(s)              0 bytes"]  # fmt: skip
    assert problem_with_owner("\r\n".join(lines), NEW) == (None if owner is None else "it does not belong to Administrators")


@pytest.mark.parametrize("listed", ["", f"x <DIR> BUILTIN\\Administrators {NEW}", "x <DIR> BUILTIN\\Administrators agentless.hyperv"])
def test_an_owner_that_cannot_be_read_is_not_trusted(listed: str) -> None:
    assert problem_with_owner(listed, NEW) == "its owner cannot be read"


def looked(*, links: str = "", owners: str | None = None, saved: bytes = f"agentless.hyperv\r\n{CLOSED}\r\n".encode("utf-16-le"),
           links_after: str = "", exists: str = "yes", parts: str = "yes") -> bytes:
    """What the one line prints."""
    form, administrators = LISTINGS["en"]
    if owners is None:
        owners = "\r\n".join(form.format(administrators, name) for name in ("agentless.hyperv", NEW))
    return b"\r\n".join((f"{links}\r\n[exists]\r\n{exists}\r\n[owners]\r\n{owners}\r\n[list] ".encode(), saved,
                         f"[links]\r\n{links_after}\r\n[parts]\r\n{parts}\r\n".encode()))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-8", "utf-16"])
def test_a_look_at_a_folder_of_ours(encoding: str) -> None:
    seen = look_from(looked(saved=f"agentless.hyperv\r\n{CLOSED}\r\n".encode(encoding)))
    assert (seen.exists, seen.is_link, seen.problem(NEW), seen.complete) == (True, False, None, True)
    assert look_from(looked(parts="")).complete is False
    assert look_from(looked(exists="")).problem(NEW) == "it went away while it was looked at"


@pytest.mark.parametrize("part", ["links", "links_after"])
def test_a_link_is_seen_at_either_end_of_a_look(part: str) -> None:
    assert look_from(looked(**{part: "agentless.hyperv.other\r\nAgentless.Hyperv\r\nmore"})).is_link is True
    assert look_from(looked(**{part: "agentless.hyperv.other\r\nmy agentless.hyperv"})).is_link is False


def test_a_look_tells_what_is_wrong() -> None:
    assert look_from(looked(saved=b"")).problem(NEW) == "its access list cannot be read ()"
    assert look_from(looked(saved=b"agentless.hyperv\r\nD:AI(A;;FA;;;BA)")).problem(NEW) == "it inherits access from the folder above"
    form, administrators = LISTINGS["en"]
    other = "\r\n".join((form.format("HV01\\joe", "agentless.hyperv"), form.format(administrators, NEW)))
    assert look_from(looked(owners=other)).problem(NEW) == "it does not belong to Administrators"


@pytest.mark.parametrize("name", ["agentless.hyperv[list]", "agentless.hyperv [links]", "agentless.hyperv.[exists]"])
def test_no_name_passes_for_a_mark(name: str) -> None:
    form, _administrators = LISTINGS["en"]
    seen = look_from(looked(links=name, links_after=name, owners=form.format("HV01\\joe", name)))
    assert (seen.links.strip(), seen.links_after.strip(), seen.problem(NEW)) == (name, name, "its owner cannot be read")


@pytest.mark.parametrize("change", [
    (b"[exists]", b""), (b"[owners]\r\n", b"[owners]\r\n[owners]\r\n"), (b"[list] ", b"[parts]\r\n"), (b"[parts]", b" [parts]"),
    (b"[links]", b"links"),
])  # fmt: skip
def test_an_answer_in_which_a_part_is_missing_or_twice_is_no_look(change: tuple[bytes, bytes]) -> None:
    output = looked()
    assert change[0] in output
    with pytest.raises(ValueError):
        look_from(output.replace(*change))


@given(st.binary())
def test_any_answer_is_a_look_or_a_value_error(output: bytes) -> None:
    with pytest.raises(ValueError):
        look_from(output)


INTENT = Intent("Night-1", "0a1b2c3d", datetime(2026, 1, 31, 12, tzinfo=UTC), "\\\\?\\Volume{x}\\", ("{A}",), ("E:\\b\\h\\v",), True)
SHADOW = "{3808876B-C176-4E48-B7AE-04046E6CC752}"


@pytest.mark.parametrize("shadow_id", [None, SHADOW])
@pytest.mark.parametrize("writers", [False, True])
def test_an_intent_is_read_as_it_was_written(shadow_id: str | None, writers: bool) -> None:
    intent = replace(INTENT, shadow_id=shadow_id, writers=writers)
    assert parse_intent(f"{intent.name}.json", intent.dump().decode("ascii")) == intent


def test_intents_of_the_first_form_are_read() -> None:
    data = json.loads(INTENT.dump())
    del data["folders"], data["keep"], data["writers"]
    assert parse_intent("Night-1_0a1b2c3d.json", json.dumps(data)) == replace(INTENT, folders=(), keep=False)


@given(st.text(), st.text())
def test_an_intent_or_a_value_error(name: str, text: str) -> None:
    with pytest.raises(ValueError):
        parse_intent(name, text)
    with pytest.raises(ValueError):
        parse_intent("Night-1_0a1b2c3d.json", text)


@pytest.mark.parametrize("changes", [
    {"format": 2}, {"format": None}, {"action": "else"}, {"run_id": "other"}, {"run_id": 1}, {"host_time": "yesterday"}, {"volume": ""},
    {"shadows_before": "all"}, {"shadows_before": [1]}, {"folders": None}, {"folders": [[]]},
])  # fmt: skip
def test_an_intent_with_a_wrong_value_is_damaged(changes: dict[str, object]) -> None:
    data = {**json.loads(INTENT.dump()), **changes}
    with pytest.raises(ValueError):
        parse_intent("Night-1_0a1b2c3d.json", json.dumps(data))


@pytest.mark.parametrize(
    "name", ["Night-1.json", "Night-1_0a1b2c3d.json.tmp", "Night-1_0a1b2c3d.{A}.json", "..\\Night-1_0a1b2c3d.json", "_0a1b2c3d.json"]
)
def test_only_the_names_of_intents_are(name: str) -> None:
    with pytest.raises(ValueError):
        parse_intent(name, INTENT.dump().decode("ascii"))
