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
from ansible_collections.agentless.hyperv.plugins.module_utils.clock import Deadline
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import disks
from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv.disks import ChainLink
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.vss_plan import SourceFile
from ansible_collections.agentless.hyperv.plugins.module_utils.windows import files

NONE, SIZE, SHA256 = METHODS = ("none", "size", "sha256")


def check_sizes(target: str, members: Sequence[SourceFile], arrived: Sequence[int | None], wanted: dict[str, int],
                method: str) -> list[int]:
    """The sizes of the copies in a folder. Raises HypervError ``verify_failed`` for a missing file, and unless the method is ``none``
    for one of another size than its source."""
    sizes = []
    for file, size in zip(members, arrived, strict=True):
        if size is None or (method != NONE and size != wanted[file.path]):
            raise HypervError(f"{target}\\{file.name} has {size} bytes, its source {wanted[file.path]}.", error_code="verify_failed",
                              hint="Run the task again; look for antivirus and failing storage.")
        sizes.append(size)
    return sizes


def check_hashes(reader: CimReader, source: str, target: str, members: Sequence[SourceFile], deadline: Deadline) -> list[str]:
    """The SHA-256 of the copies in a folder, each compared with that of its source. Raises HypervError ``verify_failed``,
    ``hash_failed``."""
    names = [file.name for file in members]
    wanted = files.read_hashes(reader, source, names, deadline)
    found = files.read_hashes(reader, target, names, deadline)
    for name, before, after in zip(names, wanted, found, strict=True):
        if before != after:
            raise HypervError(f"{target}\\{name} has the SHA-256 {after}, its source {before}.", error_code="verify_failed",
                              hint="Run the task again; look for antivirus and failing storage.")
    return list(found)


def check_images(reader: CimReader, target: str, members: Sequence[SourceFile]) -> list[str]:
    """Compare what the image service says of the copies with what it said of their sources; a sentence for each that it cannot look at.

    Raises HypervError ``verify_failed`` for a disk of another identity, virtual size or type.
    """
    unknowns = []
    for file in members:
        path = f"{target}\\{file.name}"
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
    return unknowns


def _compared(source: ChainLink, copy: ChainLink) -> tuple[tuple[str, object, object], ...]:
    return (("identity", (source.disk_id or "").upper(), (copy.disk_id or "").upper()),
            ("size", source.virtual_size, copy.virtual_size), ("type", source.kind, copy.kind))
