# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the SOAP layer's tests."""
from __future__ import annotations

import pytest
from unit.simulator.soap.helpers import SmallHost


@pytest.fixture
def host() -> SmallHost:
    """A host with a clock that stands still and an empty repository."""
    return SmallHost()
