# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for powershell.exe that does nothing: it takes all its input and says at once that nothing was changed.

Only the bench puts it onto hosts. A real interpreter needs the larger part of a second and some ten megabytes to start, and then does
the work: every comparison with this one flatters the side that it stands for.
"""
from __future__ import annotations

from simulator.windows.programs.base import Context, Steps

ANSWER = '{"changed": false, "rc": 0, "start": "", "end": "", "stdout": "", "stderr": ""}'


def run(context: Context, tail: str) -> Steps:
    """Read everything that a module is sent as, and answer. The bootstrap of ansible asks for no input at all; then nothing comes."""
    del tail
    yield from context.stdin.read_all()
    context.out(ANSWER)
    return 0
