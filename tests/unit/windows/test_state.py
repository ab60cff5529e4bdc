# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom the collection trusts with its folder on a host."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.state import Intent, problem_with_sddl, sddl_of, state_folder

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
