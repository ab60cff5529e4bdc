# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text that others wrote, as people may see it."""
from __future__ import annotations


def shown(text: str) -> str:
    """What is not printable, ends a line or turns the direction of writing stands there as its code: for terminals, logs and pages."""
    return "".join(character if character.isprintable() else f"\\u{ord(character):04x}" for character in text)
