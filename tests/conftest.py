# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a checkout of any name importable as the collection, and the simulator as the package ``simulator``."""
from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from support.kerberos import Realm

# how long an example takes says nothing where other work shares the machine; other examples are tried in each run
settings.register_profile("quick", deadline=None, max_examples=50)
settings.register_profile("thorough", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

TESTS = Path(__file__).resolve().parent
CHECKOUT = TESTS.parent


def _collection_root() -> Path:
    """A folder that holds ``ansible_collections/agentless/hyperv``: the real one, or a link to this checkout."""
    if CHECKOUT.name == "hyperv" and CHECKOUT.parent.name == "agentless" and CHECKOUT.parents[1].name == "ansible_collections":
        return CHECKOUT.parents[2]
    root = CHECKOUT / ".build" / "path"
    link = root / "ansible_collections" / "agentless" / "hyperv"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink() or link.resolve() != CHECKOUT:
        staging = link.with_name(f".{os.getpid()}")  # several test processes may start at once
        staging.symlink_to(CHECKOUT, target_is_directory=True)
        staging.replace(link)
    return root


COLLECTION_ROOT = _collection_root()
for entry in (str(TESTS), str(COLLECTION_ROOT)):
    if entry not in sys.path:
        sys.path.insert(0, entry)


@pytest.fixture(scope="session")
def realm() -> Iterator[Realm]:
    """One Kerberos realm for all tests of a process; only for tests that are skipped where there can be none."""
    from support.kerberos import realm_with_accounts  # only here: the path has to be there first

    with realm_with_accounts() as running:
        yield running
