# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verification of the files of a copy (operations 5.7): sizes, hashes on both sides, and what the host's image service says of the copies.

A copy that the image service cannot look at is not proved to be damaged: it may carry a log that was not replayed yet, or be in
use. So that is an unknown of the copy, and only a difference is a failure.
"""
from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.client import CimReader
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import ChainLink
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.copy_record import CopyRecord, SourceFile
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.target_jobs import Arrived

NONE, SIZE, SHA256 = METHODS = ("none", "size", "sha256")


def check_size(file: SourceFile, arrived: Arrived, record: CopyRecord) -> int:
    """The size of one copied file, in bytes.

    A live file may grow while it is copied: its copy may have any size between both. Raises HypervError ``chain_changed`` for a source
    that was not there, ``verify_failed`` for a missing file, and unless nothing is to be verified for one of another size than its source.
    """
    if arrived.source_size is None:
        raise HypervError(f"{file.path} is not there any more where it was to be copied from.", error_code="chain_changed",
                          hint="A merge or a storage migration ran at the same time; run the task again.")
    wanted = (arrived.source_size, arrived.later_size) if record.method == "live" else (arrived.source_size, arrived.source_size)
    size = arrived.size
    if size is None or (record.verify != NONE and not wanted[0] <= size <= (wanted[0] if wanted[1] is None else wanted[1])):
        raise HypervError(f"{arrived.target}\\{arrived.name} has {size} bytes, its source {arrived.source_size}.",
                          error_code="verify_failed", hint="Run the task again; look for antivirus and failing storage.")
    return size


def check_digests(arrived: Arrived) -> None:
    """Compare the SHA-256 of a copied file with that of its source, when they were computed. Raises HypervError ``verify_failed``."""
    if arrived.sha256 != arrived.source_sha256:
        raise HypervError(f"{arrived.target}\\{arrived.name} has the SHA-256 {arrived.sha256}, its source {arrived.source_sha256}.",
                          error_code="verify_failed", hint="Run the task again; look for antivirus and failing storage.")


def check_images(reader: CimReader, folder: str, members: Sequence[SourceFile], *, at_share: bool) -> tuple[str, ...]:
    """Compare what the image service says of the copies with what it said of their sources; a sentence for each that it cannot look at.

    At a share it is not asked: it would knock there as nobody knows whom.

    Raises HypervError ``verify_failed`` for a disk of another identity, virtual size or type.
    """
    if at_share:
        return ("The virtual disks at the share were not inspected by the host's image service.",)
    unknowns = []
    for file in members:
        path = f"{folder}\\{file.target}"
        if file.image is None:
            continue
        try:
            found = disks.read_setting(reader, path)
        except HypervError as error:
            if error.return_value is None:
                raise
            unknowns.append(f"The virtual disk {file.target} could not be inspected (code {error.return_value}); that alone is no damage.")
            continue
        for what, before, after in _compared(file.image, found):
            if before != after:
                raise HypervError(f"{path} is a virtual disk with the {what} {after}, its source has {before}.", error_code="verify_failed",
                                  hint="Was the disk resized or replaced meanwhile? Run the task again.")
    return tuple(unknowns)


def _compared(source: ChainLink, copy: ChainLink) -> tuple[tuple[str, object, object], ...]:
    return (("identity", (source.disk_id or "").upper(), (copy.disk_id or "").upper()),
            ("size", source.virtual_size, copy.virtual_size), ("type", source.kind, copy.kind))
