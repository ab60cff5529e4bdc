# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""User text never stands on a command line; what could break out of its quotes is refused before anything is sent."""

from __future__ import annotations

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files, state
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.files import (
    CopyOutcome,
    Stored,
    copies_from_output,
    names_in_batches,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.programs import (
    Command,
    UnsafeText,
    check_value,
    environment,
    expanded_length,
    said,
)
from ansible_collections.agentless.hyperv.plugins.module_utils.wsman.shell import ProgramResult
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("text", ['a"b', "a\nb", "a\rb", "\x00", "\x1b[31m", "a\x7f", "", "\u2028", "\u0085", "\ud800"])
def test_what_breaks_out_is_refused(text: str) -> None:
    with pytest.raises(UnsafeText):
        check_value(text, "A name")


@pytest.mark.parametrize("text", ["50%PATH%", "a&b", "a^b", "<x>", "a|b", "(x)", "a!b", "{{ x }}", "\u202ertl", "\U0001f4be", "it's"])
def test_what_cannot_break_out_travels_as_it_is(text: str) -> None:
    assert environment({"NAME": text}) == {"AGH_NAME": text}


def every_command() -> list[Command]:
    fixed = [value for module in (files, state) for value in vars(module).values() if isinstance(value, Command)]
    return [*fixed, files.remove_files_command(3), files.remove_folders_command(3)]


@pytest.mark.parametrize("command", every_command(), ids=lambda command: command.line[:40])
def test_every_value_of_a_command_stands_between_quotes(command: Command) -> None:
    outside = command.line.split('"')[::2]
    assert not [part for part in outside if "%AGH_" in part]
    assert command.line.count('"') % 2 == 0
    assert not command.line.startswith('"'), "cmd /c would take the first and the last quote away"


@given(st.lists(st.text(min_size=1, max_size=255), max_size=80))
def test_batches_keep_every_name_and_fit_a_line(names: list[str]) -> None:
    batches = list(names_in_batches(names))
    assert [name for batch in batches for name in batch] == names
    for batch in batches:
        variables = {f"AGH_F{index}": name for index, name in enumerate(batch)}
        assert expanded_length(" ".join(f'"%AGH_F{index}%"' for index in range(len(batch))), variables) <= 8191 - 600


@pytest.mark.parametrize(
    ("code", "failed", "copied"),
    [
        (0, False, False),
        (1, False, True),
        (2, False, False),
        (3, False, True),
        (5, False, True),
        (7, False, True),
        (8, True, False),
        (9, True, True),
        (16, True, False),
        (0xFFFFFFFF, True, True),
        (-1, True, True),
    ],
)
def test_robocopy_exit_codes_are_a_bit_mask(code: int, failed: bool, copied: bool) -> None:
    outcome = CopyOutcome(code)
    assert (outcome.failed, outcome.copied) == (failed, copied)


def test_manifests_and_files_are_cut_out_of_the_output() -> None:
    copy = "E:\\B\\HV01\\vm_0A1B2C3D\\20260131T120000Z_r"
    output = (
        f"{copy}\\manifest.json:1:{{\r\n"
        f'{copy}\\manifest.json:2: "a": "x\\\\y\\\\manifest.json:9:"\r\n'
        f"{copy}\\manifest.json:3:[5]}}\r\n"
        "E:\\B\\HV01\\manifest.json:1:too high\r\n"
        "E:\\B\\HV01\\a\\b\\c\\manifest.json:1:too deep\r\n"
        "E:\\B\\HV01\\other_11111111\\f\\manifest.json:1:damaged\r[9]E:\\B\\HV01\\other_11111111\\f\\x"
        "\r\nnoise\r\nE:\\B\\HV01\\other_11111111\\g\\manifest.json.pruning:1:going\r\n"
        f"[12]{copy}\\disks\\a & %b% \u00e9.vhdx\r\n[]{copy}\\manifest.json\r\n[7]E:\\B\\HV01\\stray.txt\r\n[x]{copy}\\no\r\n"
        f"[-]{copy}\r\n[-]E:\\B\\HV01\\x\r\n[-]{copy}\\disks\r\n[-]E:\\B\\HV01\\vm_0A1B2C3D\\empty\r\n"
    )
    key = ("vm_0A1B2C3D", "20260131T120000Z_r")
    assert copies_from_output(output.encode(), "E:\\B\\HV01") == Stored(
        {key: '{\n "a": "x\\\\y\\\\manifest.json:9:"\n[5]}', ("other_11111111", "f"): "damaged\r[9]E:\\B\\HV01\\other_11111111\\f\\x"},
        {("other_11111111", "g"): "going"},
        {key: {"disks\\a & %b% \u00e9.vhdx": 12, "manifest.json": -1}},
        (key, ("vm_0A1B2C3D", "empty")),
    )


@given(st.binary(max_size=400))
def test_any_output_is_survived(output: bytes) -> None:
    assert isinstance(copies_from_output(output, "E:\\B\\HV01"), Stored)
    assert said(ProgramResult(1, output, b"")).isprintable()
