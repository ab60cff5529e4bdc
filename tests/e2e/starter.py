# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts ansible's commands as forks of a process that has the libraries of others imported: half a second is spared each time.

Everything of ansible and of the collection is imported in the fork, with the environment and the configuration of that run, as it is in
a process of its own. Tests that kill a command, and those of ansible-runner, start theirs without this.
"""
from __future__ import annotations

import functools
import importlib
import json
import os
import random
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = ("cryptography.x509", "jinja2", "pypsrp.wsman", "requests_credssp", "spnego", "winrm", "yaml")


class Starter:
    """The process, and the two pipes to it. Ends with the process that made it."""

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        # what Python itself reads of the environment when it starts is that of every run
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        self._process = subprocess.Popen([sys.executable, __file__, str(orders), str(answers)], pass_fds=(orders, answers),
                                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        os.close(orders)
        os.close(answers)

    def run(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float,
            stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` with captured text. Raises TimeoutExpired."""
        with tempfile.TemporaryDirectory() as folder:
            streams = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
            streams[0].write_text(stdin or "", encoding="utf-8")
            order = {"command": list(command), "env": dict(env), "cwd": str(cwd), "streams": [str(path) for path in streams]}
            os.write(self._orders, json.dumps(order).encode() + b"\n")
            process = self._number()
            if not select.select([self._answers], [], [], timeout)[0]:
                os.kill(process, signal.SIGKILL)
                self._number()
                raise subprocess.TimeoutExpired(list(command), timeout, *(path.read_bytes() for path in streams[1:]))
            code = self._number()
            return subprocess.CompletedProcess(list(command), code, *(path.read_text(encoding="utf-8") for path in streams[1:]))

    def _number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            piece = os.read(self._answers, 1)
            if not piece:
                raise RuntimeError("the process that starts commands is gone")
            line += piece
        return int(line)


@functools.cache
def starter() -> Starter:
    """The one of this process."""
    return Starter()


def _become(order: Mapping[str, Any]) -> None:
    """Run the command of an order in this process, a fork; ends with SystemExit, as the command does."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for number, path in enumerate(order["streams"]):
        opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    random.seed()
    sys.argv = list(order["command"])
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")


def _serve(orders: int, answers: int) -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    with os.fdopen(orders, encoding="utf-8") as lines:
        for line in lines:
            child = os.fork()
            if child == 0:
                _become(json.loads(line))
                return
            os.write(answers, b"%d\n" % child)
            _unused, status = os.waitpid(child, 0)
            os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
