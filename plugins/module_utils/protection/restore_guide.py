# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""RESTORE.txt: how to bring an exported virtual machine back by hand, without this collection. Text for a person in a bad hour.

A name is any text that somebody wrote: it gets here as ASCII without control characters, so that no editor and no terminal obeys it.
"""
from __future__ import annotations

import textwrap

from ansible_collections.agentless.hyperv.plugins.module_utils.protection.manifest import Export, Manifest

_WIDTH = 96


def plain(text: str) -> str:
    """A name as ASCII for people: everything else is escaped as Python does it; at most 200 characters."""
    shown = text.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(char if 32 <= ord(char) < 127 else f"\\x{ord(char):02x}" for char in shown)[:200]


def guide(manifest: Manifest, folder: str) -> bytes:
    """The file's bytes: ASCII with CRLF line ends. ``folder``: where the export lies."""
    export = manifest.export
    if export is None:
        raise ValueError("only exports have a guide")
    configuration = manifest.files_of("configuration")[0].path
    parts = [
        f"How to restore the virtual machine \"{plain(manifest.vm_name)}\" by hand",
        _facts(manifest, export, folder),
        "Nothing but Hyper-V is needed. The host must be at least as new as the one that made the export: an older one cannot import a "
        f"newer configuration version (this one is {export.version}).",
        *_keys(export),
        "Never import while the original virtual machine runs on the same network, unless the restored one gets another identity and no "
        "network: two machines of one name and address disturb each other.",
        "1. Copy this whole folder to the disk where the virtual machine shall live. An import in place uses the files where they are: "
        "then this backup would become the running machine's own files, and no backup any more.",
        "2. Hyper-V Manager: Action, Import Virtual Machine, choose the copied folder. \"Register in-place\" if the original is gone from "
        "that host and the identity shall stay; \"Copy (create a new unique ID)\" for anything else.",
        "   The same in PowerShell, in one line. With the old identity:",
        f"   Import-VM -Path '<copied folder>\\{configuration}'",
        "   With a new one:",
        f"   Import-VM -Path '<copied folder>\\{configuration}' -Copy -GenerateNewId -VhdDestinationPath '<folder for the disks>'",
        "3. If the import reports incompatibilities: Compare-VM with the same arguments shows them.",
        *_hardware(export),
        "4. Before the first start: open the settings, disconnect the network adapters, and look that every disk's path is that of the "
        "copy. Start, log on, look. Then connect the network.",
        *_consistency(manifest, export),
        "The file manifest.json beside this one lists every file with its size, and its SHA-256 when it was computed. "
        "certutil -hashfile <file> SHA256 computes it again.",
    ]
    return ("\r\n\r\n".join(_wrapped(part) for part in parts) + "\r\n").encode("ascii")


def _wrapped(part: str) -> str:
    lines = []
    for line in part.split("\n"):
        indent = " " * (len(line) - len(line.lstrip(" ")))
        lines += textwrap.wrap(line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]
    return "\r\n".join(lines)


def _facts(manifest: Manifest, export: Export, folder: str) -> str:
    lines = [
        f"Virtual machine: {plain(manifest.vm_name)}, GUID {manifest.vm_id}, generation {export.generation or 'not known'}",
        f"Exported from:   {plain(manifest.host)}, system build {export.build}",
        f"Into:            {plain(folder)}",
        f"Data of:         {manifest.taken:%Y-%m-%d %H:%M:%S} UTC",
        f"Consistency:     {manifest.achieved} ({manifest.evidence})",
        f"Verified:        {manifest.verified}",
    ]
    return "\n".join(lines)


def _keys(export: Export) -> list[str]:
    if not export.needs_guardian:
        return []
    what = "is shielded" if export.shielded else "has a virtual TPM"
    return [f"ATTENTION: this virtual machine {what}. Another host starts it only with the keys of its protector. For a local protector "
            "these are the two certificates, with their private keys, in the store \"Shielded VM Local Certificates\" of the host that "
            "made the export: they must have been saved elsewhere. For a guarded fabric the new host must be allowed by its Host Guardian "
            "Service. Without them the disks of the machine can be attached to another one, but what the guest encrypted stays so."]


def _hardware(export: Export) -> list[str]:
    switches = ", ".join(f'"{plain(name)}"' for name in export.switches) or "none"
    lines = [f"   It needs {export.memory // 2**20} MB of memory at start, {export.processors} processors, and was connected to these "
             f"virtual switches: {switches}."]
    lines += [f"   The disk {plain(disk.source)} was left out on purpose: remove it from the settings, or attach another one."
              for disk in export.excluded]
    return lines


def _consistency(manifest: Manifest, export: Export) -> list[str]:
    lines: list[str] = []
    if manifest.achieved == "crash":
        lines.append("   The machine will start as after a power failure; databases recover by their logs.")
    if manifest.achieved == "image":
        lines.append("   If it comes back saved, with its memory, and the host has another processor: delete the saved state first.")
    lines += [f"   Not part of this export: {plain(text)}" for text in manifest.not_captured]
    return lines
