# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the providers of root/cimv2 into the repository of a host."""
from __future__ import annotations

from simulator.cim.provider import ClassProvider
from simulator.cim.repository import Repository
from simulator.windows.cimv2 import datafiles, shadowcopies, system, volumes
from simulator.windows.cimv2.common import NAMESPACE
from simulator.windows.cimv2.processes import Processes
from simulator.windows.cimv2.system import Service, Services
from simulator.windows.processes import ProcessHost
from simulator.windows.shadows import ShadowService


def register(repository: Repository, processes: ProcessHost, shadows: ShadowService) -> dict[str, Service]:
    """Register every class; returns the services by name in lower case, for whoever wants to know when one is stopped."""
    facts, files, clock = processes.facts, processes.files, processes.clock
    services = system.default_services(facts)
    table: dict[str, ClassProvider] = {
        **volumes.providers(files, facts), **shadowcopies.providers(shadows, facts),
        **system.providers(facts, clock, lambda: processes.booted, processes.free_memory),
        "CIM_DataFile": datafiles.Files(files, facts, folders=False), "Win32_Directory": datafiles.Files(files, facts, folders=True),
        "Win32_Process": Processes(processes), "Win32_Service": Services(services, facts, files.note),
    }
    for name, provider in table.items():
        repository.register(NAMESPACE, name, provider)
    return services
