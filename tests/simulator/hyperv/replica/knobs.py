# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test can turn of Replica while a host runs; of two answers to an open doubt the likelier one is the default."""
from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class ReplicaKnobs:
    """Of one host. Machines are named by their GUID in upper case."""

    # -- time --
    job_seconds: dict[int, float] = field(default_factory=dict)
    """By JobType; a job that is not named takes one second."""

    # -- open doubts --
    server_settings_by_job: bool | None = None
    """Whether a change of the server's settings answers with a job; None: as ModifySystemSettings, from 2019 on (wire 3.4)."""
    refuses_bad_certificate: bool = True
    """A thumbprint whose certificate cannot be used fails the job; otherwise it is stored and the listener does not run."""
    offers_unsuitable_certificates: bool = True
    """GetSystemCertificates lists the whole store; otherwise only what could be used now."""
