# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of a shadow copy set with writers: what may stand in them, what they delete, and how their output is read."""
from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import diskshadow, jobs
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.diskshadow import ShadowSet, set_script
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.jobs import Stage, Step
from hypothesis import given
from hypothesis import strategies as st

VM = "0A1B2C3D-0000-4000-8000-00000000000F"
OTHERS = ("0A1B2C3D-0000-4000-8000-0000000000AA", "0A1B2C3D-0000-4000-8000-0000000000BB")
FOLDER = f"C:\\ProgramData\\agentless.hyperv\\jobs\\{VM}_night-1"
VOLUMES = tuple(f"\\\\?\\Volume{{0a1b2c3d-0000-4000-8000-00000000000{number}}}\\" for number in (1, 2))
TOKEN = "0123456789ab"


def a_set(**values: Any) -> ShadowSet:
    return ShadowSet(**{"folder": FOLDER, "vm_id": VM, "volumes": VOLUMES, "others": OTHERS, **values})


def test_the_script_of_a_set() -> None:
    writer = "{66841cd4-6ded-4f4b-8f17-fd23f8ddc3de}"
    assert set_script(a_set()).decode("ascii").split("\r\n") == [
        "reset", "set verbose on", "set context persistent", f"set metadata {FOLDER}\\set.cab",
        f'writer exclude "{writer}:\\{OTHERS[0]}"', f'writer exclude "{writer}:\\{OTHERS[1]}"',
        f"writer verify {writer}", f'writer verify "{writer}:\\{VM}"',
        f"add volume {VOLUMES[0]} alias AGH_V00", f"add volume {VOLUMES[1]} alias AGH_V01", "create",
        f"expose %AGH_V00% {FOLDER}\\v00", f"expose %AGH_V01% {FOLDER}\\v01", f"exec {FOLDER}\\inner.cmd",
        "unexpose %AGH_V00%", "unexpose %AGH_V01%", "delete shadows set %VSS_SHADOW_SET%", "end backup", "exit", ""]


def test_no_backup_is_begun_and_only_the_own_set_is_deleted() -> None:
    """A full backup would make guests cut off their logs, on which another product's chain may rest."""
    text = set_script(a_set()).decode("ascii")
    assert "begin" not in text
    assert re.findall(r"delete .*", text) == ["delete shadows set %VSS_SHADOW_SET%\r"]


@pytest.mark.parametrize("values", [
    {"vm_id": "x"}, {"vm_id": f"{VM}\r\ndelete shadows all"}, {"others": ("*",)}, {"others": (f"{VM} ",)}, {"others": (VM.lower(),)},
    {"volumes": ()}, {"volumes": ("D:\\",)}, {"volumes": (VOLUMES[0][:-1],)}, {"volumes": (f"{VOLUMES[0]} alias X",)},
    {"volumes": (VOLUMES[0], VOLUMES[0].upper().replace("VOLUME", "Volume"))}, {"volumes": ("%TEMP%",)},
    {"volumes": tuple(f"\\\\?\\Volume{{0a1b2c3d-0000-4000-8000-0000000000{number:02}}}\\" for number in range(65))},
    {"folder": "C:\\Program Files\\x"}, {"folder": "C:\\%TEMP%"}, {"folder": "jobs"}, {"folder": "C:\\"}, {"folder": f"{FOLDER}\n"},
])
def test_what_could_be_more_than_it_is_called_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        a_set(**values)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_no_text_gets_into_a_script_but_guids_and_plain_paths(folder: str, vm_id: str, volume: str) -> None:
    for values in ({"folder": folder}, {"vm_id": vm_id}, {"volumes": (volume,)}, {"others": (vm_id,)}):
        try:
            text = set_script(a_set(**values)).decode("ascii")
        except ValueError:
            continue
        assert re.fullmatch(r"[A-Za-z0-9 :\\?{}._\"%\r\n-]+", text)


def job(**values: Any) -> jobs.Job:
    given: dict[str, Any] = {
        "before": [Stage((Step("first", "ver"),))], "inner": [Stage((Step("second", 'echo "%AGH_V00%" "%AGH_X%"', keep=True),))],
        "values": {"X": "%TEMP% & x"}, "files": {"copy.json": b"{}\r\n"}, "after": [Step("third", "ver", None)], **values}
    return diskshadow.session_job(a_set(), given["before"], given["inner"], given["values"], given["files"], given["after"], TOKEN)


def test_the_job_holds_both_scripts_and_the_steps_in_turn() -> None:
    made = job()
    assert set(made.files) == {"copy.json", "set.txt", "inner.cmd"}
    assert [step.name for step in made.steps()] == [
        "first", "mount0", "mount1", "session", "told", "codes", "drop0", "drop1", "third"]
    assert made.outputs == ("session", "told", "codes")
    assert [stage.essential for stage in made.stages] == [True, True, False]
    assert all(step.good is None for step in made.steps() if step.name in ("session", "told", "codes", "drop0", "third"))
    assert {step.name: step.line for step in made.steps()}["drop1"].count("delete shadows exposed") == 1


def test_the_inner_script_reads_no_values_and_ends_well_whatever_happens() -> None:
    made = job()
    lines = made.files["inner.cmd"].decode("ascii").split("\r\n")
    outer = jobs.script(made, TOKEN).decode("ascii")
    assert "values.txt" not in "".join(lines)
    assert "values.txt" in outer
    assert lines[-2:] == ["exit /b 0", ""]
    assert 'ren "%~dp0inner.new" inner.txt' in lines
    checked = {match.group(1) for line in lines if (match := re.fullmatch(r"if not defined AGH_(\w+) goto values", line))}
    assert checked == {"UTF8", "V00", "V01", "X"}
    assert "%TEMP%" not in "".join(lines)


@pytest.mark.parametrize("values", [
    {"inner": [Stage((Step("first", "ver"),))]}, {"inner": [Stage((Step("session", "ver"),))]}, {"after": [Step("drop0", "ver")]},
    {"inner": [Stage((Step("second", 'echo "%AGH_Y%"'),))]}, {"before": [Stage((Step("first", 'echo "%AGH_V00%"'),))]},
    {"files": {"run.cmd": b"x\r\n"}}, {"files": {"inner.txt": b"x\r\n"}}, {"inner": [Stage((Step("second", "exit /b 3"),))]},
])
def test_what_a_programmer_got_wrong(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        job(**values)


@pytest.mark.parametrize(("output", "code"), [
    (b"- Returned HRESULT = 80042316\r\n", 0x80042316), (b"HRESULT = 0x800423F4", 0x800423F4), (b"", None),
    (b"{80042316-0000-4000-8000-000000000000} \\80042316-", None), (b"a80042316 800423160", None), (b"80042308\r\n800700B7 x", 0x800700B7),
    ("\u30a8\u30e9\u30fc: 800423f3".encode("cp932"), 0x800423F3), (b"\xff\xfe8\x000\x00", None), (b"8000FFFF", 0x8000FFFF),
])
def test_the_last_hresult_counts_in_any_language(output: bytes, code: int | None) -> None:
    assert diskshadow.last_hresult(output) == code


def test_ids_and_codes_in_outputs() -> None:
    one, two = "{3808876B-C176-4E48-B7AE-04046E6CC752}", "{3808876b-c176-4e48-b7ae-04046e6cc753}"
    assert diskshadow.shadow_ids(f'"{one}" "{two}"\r\n"{{x}}"'.encode()) == (one, two)
    said = (b"C:\\a\\copy0.out:2026/01/31 ERROR 112 (0x00000070) Copying File D:\\copy3.out: (0x)\r\n"
            b"C:\\a\\copy12.out:x (0x00000005) y\r\nC:\\a\\copy12.out:x (0x00000020) y\r\nFINDSTR: cannot open\r\n")
    assert diskshadow.robocopy_codes(said) == {"copy0": (0x70,), "copy12": (5, 0x20)}


def test_every_refusal_says_what_to_do() -> None:
    for refusal in (*diskshadow.REFUSALS.values(), diskshadow.UNKNOWN):
        assert refusal.hint.endswith((".", "?"))
        assert not refusal.sentence.endswith(".")
