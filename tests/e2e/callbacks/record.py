# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes every task result of a run as one JSON line, so that tests compare values instead of reading text."""
from __future__ import annotations

DOCUMENTATION = r"""
name: record
type: notification
short_description: Task results as JSON lines
description: For the tests of this collection.
"""

import json
import os
from pathlib import Path
from typing import Any

from ansible.parsing.ajson import AnsibleJSONEncoder
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):
    """Appends to the file that ``RECORD_FILE`` names."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "record"
    CALLBACK_NEEDS_ENABLED = True

    def _write(self, status: str, result: Any) -> None:
        # the attributes have public names from ansible-core 2.19 on
        host = getattr(result, "host", None) or result._host
        task = getattr(result, "task", None) or result._task
        values = getattr(result, "result", None) or result._result
        line = {"status": status, "host": host.get_name(), "task": task.get_name(), "action": task.action, "result": values}
        with Path(os.environ["RECORD_FILE"]).open("a", encoding="utf-8") as record:
            record.write(json.dumps(line, cls=AnsibleJSONEncoder) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        """See the class."""
        self._write("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """See the class."""
        self._write("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """See the class."""
        self._write("unreachable", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """See the class."""
        self._write("skipped", result)
