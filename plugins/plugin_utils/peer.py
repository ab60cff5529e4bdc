# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection of another inventory host, with that host's own options: for ``peer``."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.plugin_utils.options import set_options

_KEYWORDS = ("remote_user", "port")


def peer_connection(action: Any, variables: Mapping[str, Any], inventory_name: str) -> Any:
    """A connection plugin object for ``inventory_name``, configured as ansible configures it for a task there; not connected.

    ``action`` is the running action plugin. Raises :class:`HypervError` (``peer_unknown``) for a name the inventory does not have.
    """
    hostvars = variables.get("hostvars", {})
    if inventory_name not in hostvars:
        raise HypervError(
            f"The peer {inventory_name!r} is not in the inventory.", error_code="peer_unknown",
            hint="Use the inventory name of the other Hyper-V host, not its address.")
    peer = hostvars[inventory_name]
    kind = str(peer.get("ansible_connection") or action._task.connection)
    plugin = action._shared_loader_obj.connection_loader.get(kind, action._play_context)
    if plugin is None:
        raise HypervError(
            f"The connection plugin {kind!r} of the peer {inventory_name!r} was not found.", error_code="connection_not_supported")
    keys = {name: getattr(action._task, name, None) for name in _KEYWORDS}
    if action._play_context.password:  # from -k or a machine credential: it holds for every host of the play
        keys["password"] = action._play_context.password
    set_options(plugin, list(peer), peer.__getitem__, keys)
    return plugin
