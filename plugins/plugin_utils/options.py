# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives a connection plugin the options that ansible would give it for a task on a host, from that host's variables."""
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ansible import constants as C  # ansible's own name for it


def set_options(plugin: Any, names: Collection[str], value: Callable[[str], Any], keys: Mapping[str, Any]) -> None:
    """Configure ``plugin``, not connected: ``names`` are the variables of the host, ``value`` is one of them with its templates filled in;
    ``keys`` are the keywords of a task."""
    options = {name: value(name) for name in C.config.get_plugin_vars("connection", plugin._load_name) if name in names}
    # on the command line and in AWX the extras of a winrm connection are variables of that prefix, nothing more
    prefix = f"ansible_{plugin._load_name.rpartition('.')[2]}_"
    if getattr(plugin, "allow_extras", False):
        options["_extras"] = {name: value(name) for name in names if name.startswith(prefix) and name not in options}
    plugin.set_options(task_keys=dict(keys), var_options=options)
