# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors inside the CIM part that are not refusals of the repository (those are :class:`simulator.cim.model.CimError`)."""
from __future__ import annotations


class SimulatorBug(AssertionError):
    """The simulator itself is wrong: a provider served something that Windows does not have. Never caught, so that it is seen."""


class ProviderRefusal(Exception):
    """A provider cannot take a value; the method (or its job) ends with ``return_value`` (wire 3.3, wire 4).

    A method that lets it out answers with that ReturnValue; a provider that has a job to fail catches it.
    """

    def __init__(self, return_value: int, message: str) -> None:
        super().__init__(message)
        self.return_value = return_value
        self.message = message


class SimulatorGap(NotImplementedError):
    """A request that a real host would carry out and this simulator cannot: it must never look like a refusal or a success of the host."""
