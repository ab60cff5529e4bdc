# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for one Windows host."""
from __future__ import annotations

from pathlib import Path

import pytest
from unit.simulator.windows.helpers import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """A host with C: and D:, 100 GiB each."""
    return Rig(tmp_path)
