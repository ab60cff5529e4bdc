# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``fc /b`` and ``chcp`` of the simulated host."""
from __future__ import annotations

import pytest
from unit.simulator.windows.helpers import Rig


@pytest.mark.parametrize(("left", "right", "code"), [(b"same", b"same", 0), (b"same", b"sane", 1), (b"a", b"ab", 1), (b"", b"", 0)])
def test_fc(rig: Rig, left: bytes, right: bytes, code: int) -> None:
    rig.put("C:\\b\\l", left)
    rig.put("C:\\b\\r", right)
    assert rig.run("fc /b C:\\b\\l C:\\b\\r").code == code
    assert rig.run("fc /b C:\\b\\l C:\\b\\none").code == 2
    assert "simulator:" in rig.run("fc C:\\b\\l C:\\b\\r").err


def test_chcp(rig: Rig) -> None:
    assert rig.run("C:\\Windows\\System32\\chcp.com 1").code == 1
    assert rig.run("C:\\Windows\\System32\\chcp.com 65001").out == "Active code page: 65001\r\n"
