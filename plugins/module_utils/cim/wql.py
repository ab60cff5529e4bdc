# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""WQL texts, built with one quoting function (wire 2.4)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.agentless.hyperv.plugins.module_utils.cim.types import Reference

Literal = str | int | bool


@dataclass(frozen=True)
class Wql:
    """A query: where it goes, its text, and what a client-side filter needs when the host refuses filters (wire 10 C1)."""

    namespace: str
    text: str
    class_name: str
    where: Mapping[str, Literal]
    columns: tuple[str, ...] | None = None


def select(namespace: str, class_name: str, where: Mapping[str, Literal] | None = None,
           columns: Sequence[str] | None = None) -> Wql:
    """``SELECT`` with equality conditions joined by AND; ``columns`` None means ``*``."""
    raise NotImplementedError


def associators_of(reference: Reference, *, association: str, result: str, role: str | None = None,
                   result_role: str | None = None) -> Wql:
    """``ASSOCIATORS OF`` one instance."""
    raise NotImplementedError
