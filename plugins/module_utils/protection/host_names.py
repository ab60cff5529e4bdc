# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of VMs as hosts of an inventory: safe to write, and each of them unlike every other one (docs/inventory.md).

A VM's name is any text, and several may have the same. A host's name is a key, is compared with patterns, and is where ansible connects
to when nothing else is said. So it gets letters and digits of any script, ``_``, ``.`` and ``-`` only; and no VM takes a name that is
in use, whoever named it.
"""
from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

RESERVED = frozenset(("all", "ungrouped", "localhost", "127.0.0.1"))
"""What means something to ansible itself."""
_LONGEST = 60
_OTHER = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Listed:
    """One VM where it was seen: ``host`` is the inventory's name of its host, ``role`` is empty or what it is instead of a VM of its own,
    such as ``replica``; ``owner`` is the cluster's node that owns it, when a cluster said so, and ``node`` the name of its host there."""

    host: str
    vm_id: str
    name: str
    role: str = ""
    node: str = ""
    owner: str | None = None


def safe_host_name(text: str) -> str:
    """``text`` as one host name of at most 60 characters; ``vm`` when nothing of it can be part of one."""
    return _OTHER.sub("_", unicodedata.normalize("NFC", text)).strip("._-")[:_LONGEST].strip("._-") or "vm"


def without_doubles(listed: Iterable[Listed]) -> tuple[Listed, ...]:
    """Without the VMs of a cluster that were seen on two nodes, as in a migration: the one at its owner stays.

    Where no cluster says who owns it, all stay: they may be copies of each other, which nobody has told apart.
    """
    every = tuple(listed)
    owned = {vm.vm_id for vm in every if not vm.role and _at_owner(vm)}
    return tuple(vm for vm in every if vm.role or vm.vm_id not in owned or _at_owner(vm))


def _at_owner(vm: Listed) -> bool:
    return vm.owner is not None and _short(vm.owner) == _short(vm.node)


def _short(name: str) -> str:
    return name.partition(".")[0].casefold()


def unique_names(listed: Iterable[Listed], taken: Collection[str] = ()) -> Mapping[Listed, str]:
    """A name for each VM, whatever their order: its own, if no other VM has it and it is not ``taken``; else all that share it get longer
    ones, with the first 8 of the GUID, then with the host, then with the whole GUID. Compared without case."""
    used = {name.casefold() for name in taken} | RESERVED
    left = sorted(set(listed), key=lambda vm: (vm.vm_id, vm.host, vm.role, vm.name, vm.node, vm.owner or ""))
    names: dict[Listed, str] = {}
    for form in _FORMS:
        proposed = {vm: form(vm) for vm in left}
        count = Counter(name.casefold() for name in proposed.values())
        fine = {vm: name for vm, name in proposed.items() if count[name.casefold()] == 1 and name.casefold() not in used}
        names |= fine
        used |= {name.casefold() for name in fine.values()}
        left = [vm for vm in left if vm not in fine]
    for vm in left:
        number = next(number for number in range(len(used) + 1) if f"{vm.vm_id}_{number}".casefold() not in used)
        names[vm] = f"{vm.vm_id}_{number}"
        used.add(names[vm].casefold())
    return names


def _base(vm: Listed) -> str:
    return f"{safe_host_name(vm.name)}_{vm.role}" if vm.role else safe_host_name(vm.name)


_FORMS: tuple[Callable[[Listed], str], ...] = (
    _base,
    lambda vm: f"{_base(vm)}_{vm.vm_id[:8]}",
    lambda vm: f"{_base(vm)}_{vm.vm_id[:8]}_{safe_host_name(vm.host)}",
    lambda vm: f"{_base(vm)}_{vm.vm_id}_{safe_host_name(vm.host)}",
)
