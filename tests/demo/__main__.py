# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the demo."""
from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from demo.show import DemoRunning, say, show


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """0: everything is as it must be; 1: something is not; 130: interrupted."""
    parser = argparse.ArgumentParser(prog="tests/tools/demo", description="A simulated fleet, a backup run against it, and the proof.")
    parser.add_argument("--stay", action="store_true", help="leave the fleet running at the end, until Ctrl-C")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        return show(options.stay)
    except KeyboardInterrupt:
        say("\nInterrupted; everything that was started has been stopped.")
        return 130
    except DemoRunning:
        say("A demo runs in this checkout already; end it first.")
        return 1


if __name__ == "__main__":
    sys.exit(main())
