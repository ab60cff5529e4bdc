# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people and guests may call things: it arrives as data, and neither a template nor a terminal nor a command line obeys it."""
from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from conftest import host, vm, winrm
from controller import CHECKOUT, Controller, Run
from simulator.fleet import Fleet
from simulator.hyperv.scenarios import HOSTILE_NAMES, NEWLINE_NOTES
from simulator.hyperv.spec import CheckpointSpec, DiskSpec, GuestSpec, VmSpec

pytestmark = pytest.mark.every_core
INFO, COPY = "agentless.hyperv.hyperv_vm_info", "agentless.hyperv.hyperv_vss_copy"
NAMES = (*HOSTILE_NAMES, "two\nlines", "tab\there", "sep\u2028arator", "next\u0085line", "zero\u200bwidth", "..", "CON", "nul.txt",
         " leading", "{% for x in range(9) %}x{% endfor %}", "{{ lookup('pipe', 'touch ' ~ marker) }}",
         "$(touch x)`touch x`", "line & echo x > D:\\x",
         "</rsp:Command><x/>", "]]>", "&amp;&#x41;", "A" * 100)
EVIL_GUEST = GuestSpec(os_name="{{ 7*7 }} <b>&", fqdn="%COMPUTERNAME%\u202e\"'")
DESTINATION = "E:\\Back%TEMP%up & co (100%)"
ABSENT = "nobody \x1b[2J\u202e{{ 7*7 }}\r\n%PATH% \"'"
TASKS: list[dict[str, Any]] = [
    {"name": "facts", INFO: {}, "register": "facts"},
    {"name": "template", "ansible.builtin.set_fact": {"found": "{{ facts.vms | map(attribute='name') | list }}"}},
    {"name": "each", INFO: {"name": "{{ item }}", "gather": ["state"]}, "loop": "{{ facts.vms | map(attribute='name') | list }}",
     "loop_control": {"label": "{{ index }}", "index_var": "index"}},
    {"name": "absent", INFO: {"name": "{{ absent }}"}, "ignore_errors": True},
    {"name": "absent copies", COPY: {"names": ["{{ absent }}"], "destination": DESTINATION}, "ignore_errors": True},
    {"name": "copy", COPY: {"names": ["all"], "destination": DESTINATION, "max_age": "1h"}},
    {"name": "again", COPY: {"names": "{{ facts.vms | map(attribute='name') | list }}", "destination": DESTINATION, "max_age": "1h"}},
]


def specs() -> list[VmSpec]:
    machines = [vm(name, directory=f"hostile-{number}", disks=(DiskSpec(f"D:\\VMs\\hostile-{number}\\disk.vhdx"),))
                for number, name in enumerate(NAMES)]
    machines[0] = replace(machines[0], notes=NEWLINE_NOTES, guest=EVIL_GUEST,
                          checkpoints=(CheckpointSpec("c", "{{ 7*7 }}\u202e & <x>", notes="%TEMP%\x07"),))
    machines.append(vm("odd path", directory="100% & more's (x)", disks=(DiskSpec("D:\\VMs\\100% & more's (x)\\a%b ^ %TEMP%.vhdx"),)))
    return machines


def arriving(text: str) -> str:
    """Control characters cannot travel in XML: the host sends a question mark (wire 2.5)."""
    return "".join("?" if ord(char) < 32 and char not in "\t\n\r" else char for char in text)


@dataclass(frozen=True)
class Played:
    """The one play."""

    run: Run
    fleet: Fleet
    marker: Path

    def result(self, task: str) -> dict[str, Any]:
        return self.run.one(task).result


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    marker = tmp_path_factory.mktemp("marker") / "touched"
    with Fleet([host("HOSTILE", *specs(), start=datetime.now(UTC))], tmp_path_factory.mktemp("fleet"), speed=1.0) as fleet:
        controller = Controller(tmp_path_factory.mktemp("controller"), CHECKOUT / ".build" / "path")
        inventory = controller.inventory(winrm(fleet, marker=str(marker)))
        extra = Path(controller.folder / "extra.json")
        extra.write_text(json.dumps({"absent": {"__ansible_unsafe": ABSENT}}), encoding="utf-8")
        run = controller.play(TASKS, inventory, "--extra-vars", f"@{extra}")
        assert run.code == 0, run.output
        yield Played(run, fleet, marker)


def test_names_arrive_as_they_are(played: Played) -> None:
    wanted = sorted([*map(arriving, NAMES), "odd path"])
    assert sorted(machine["name"] for machine in played.result("facts")["vms"]) == wanted
    assert sorted(item["vm"]["name"] for item in played.result("each")["results"]) == wanted


def test_what_comes_from_a_guest_or_a_checkpoint_arrives_as_it_is(played: Played) -> None:
    machine = next(machine for machine in played.result("facts")["vms"] if machine["name"] == NAMES[0])
    assert machine["notes"] == NEWLINE_NOTES
    guest = machine["integration"]["guest"]
    assert (guest["os_name"], guest["fqdn"]) == (EVIL_GUEST.os_name, EVIL_GUEST.fqdn)
    assert [(point["name"], point["notes"]) for point in machine["checkpoints"]] == [("{{ 7*7 }}\u202e & <x>", "%TEMP%?")]


def test_no_template_runs_what_a_name_says(played: Played) -> None:
    assert sorted(played.result("template")["ansible_facts"]["found"]) == sorted([*map(arriving, NAMES), "odd path"])
    assert not played.marker.exists()
    texts = json.dumps([result.result for result in played.run.results])
    assert "{{ 7*7 }}" in texts
    assert "xxxxxxxxx" not in texts


def obeyed(text: str) -> set[str]:
    """The characters of a text that a terminal would act on."""
    return {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs") and char != "\n"}


def told(value: Any) -> Iterator[str]:
    """Every sentence of ours in a result."""
    if isinstance(value, list):
        for item in value:
            yield from told(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in ("msg", "hint", "remove_with"):
                yield item
            elif key == "warnings":
                yield from item
            else:
                yield from told(item)


def test_nothing_that_a_terminal_obeys_is_shown(played: Played) -> None:
    """But for the results of failed tasks, which ansible itself shows, with names as data in them."""
    shown = "\n".join(line for line in played.run.output.split("\n") if not line.startswith("fatal: "))
    assert obeyed(shown) == set()
    sentences = [sentence for result in played.run.results for sentence in told(result.result)]
    assert len(sentences) >= 3
    assert obeyed("\n".join(sentences)) == set()
    assert "\\u202egnp.exe: copied, " in shown
    assert "two\\u000alines: copying 1 file(s)" in shown


def test_a_message_quotes_what_it_names(played: Played) -> None:
    absent = played.result("absent")
    assert (absent["error_code"], absent["msg"]) == ("vm_not_found", f"This host has no virtual machine named {ABSENT!r}.")
    (entry,) = played.result("absent copies")["results"]
    assert (entry["error_code"], entry["vm"]["name"]) == ("vm_not_found", ABSENT)


def test_copies_land_in_safe_folders_with_the_name_in_the_manifest(played: Played) -> None:
    entries = played.result("copy")["results"]
    assert [entry["failed"] for entry in entries] == [False] * (len(NAMES) + 1)
    folders = {entry["manifest"]["folder"] for entry in entries}
    assert len(folders) == len(NAMES) + 1
    pattern = re.compile(re.escape(DESTINATION) + r"\\HOSTILE\\[A-Za-z0-9._-]{1,60}_[0-9A-F]{8}\\\d{8}T\d{6}Z_[0-9a-f]{12}\Z")
    assert [folder for folder in folders if not pattern.match(folder)] == []
    for entry in entries:
        with played.fleet.locked():
            files = played.fleet.hosts["HOSTILE"].host.files
            manifest = json.loads(files.read_file(entry["manifest"]["path"]))
            sizes = [len(files.read_file(f"{entry['manifest']['folder']}\\{file['path']}")) for file in manifest["files"]]
        assert manifest["vm"]["name"] == entry["vm"]["name"]
        assert sizes == [file["size"] for file in manifest["files"]]
    odd = next(entry for entry in entries if entry["vm"]["name"] == "odd path")
    assert [file["path"] for file in odd["manifest"]["files"]] == ["disks\\a%b ^ %TEMP%.vhdx"]


def test_the_host_has_nothing_but_that(played: Played) -> None:
    with played.fleet.locked():
        files = played.fleet.hosts["HOSTILE"].host.files

        def names(path: str) -> list[str]:
            return sorted(place.parts[-1] for place in files.children(files.resolve(path)))

        assert names("E:\\") == [DESTINATION[3:]]
        assert names(DESTINATION) == ["HOSTILE"]
        assert len(names(DESTINATION + "\\HOSTILE")) == len(NAMES) + 1
        assert names("D:\\") == ["VMs"]
        assert names("C:\\ProgramData\\agentless.hyperv\\s") == []


def test_the_copies_are_found_again_by_those_names(played: Played) -> None:
    again = played.result("again")
    assert again["changed"] is False
    first = {entry["vm"]["vm_id"]: entry["manifest"]["folder"] for entry in played.result("copy")["results"]}
    assert {entry["vm"]["vm_id"]: entry["manifest"]["folder"] for entry in again["results"]} == first
