# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An action that returns a result made beforehand: what remains is what ansible itself does with a result of that size."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

RESULT: dict[str, Any] = json.loads(Path(os.environ["RESULT_FILE"]).read_text(encoding="utf-8"))  # once, in the parent process


class ActionModule(ActionBase):
    """No connection, no work."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of the file that ``RESULT_FILE`` names."""
        return {**super().run(tmp, task_vars), **RESULT}
