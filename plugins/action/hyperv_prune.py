# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name under which ansible finds the driver for the module of the same name."""
from __future__ import annotations

from ansible_collections.agentless.hyperv.plugins.modules import hyperv_prune
from ansible_collections.agentless.hyperv.plugins.plugin_utils.driver import HypervAction


class ActionModule(HypervAction):
    """Runs the module of the same name in process."""

    MODULE = hyperv_prune
