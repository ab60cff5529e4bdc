# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test can turn of Replica while a host runs; of two answers to an open doubt the likelier one is the default."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from simulator.hyperv.spec import MIB


@dataclass
class ReplicaKnobs:
    """Of one host. Machines are named by their GUID in upper case."""

    # -- time --
    job_seconds: dict[int, float] = field(default_factory=dict)
    """By JobType; a job that is not named takes the seconds that its method gives it, mostly one."""
    latency_seconds: float = 1.0
    """What a cycle takes beside the transfer of its bytes."""
    bytes_per_second: float = 50 * MIB
    """The line from this host to the others: a slow one makes cycles late."""
    copy_seconds: float = 20.0
    """The least that a first copy or a resynchronisation takes."""
    copy_slices: int = 10
    """In how many pieces it is done, each asking the other side anew."""
    retry_seconds: float = 60.0
    """After a piece could not be sent."""
    apply_seconds: float = 10.0
    """Received changes that cannot be applied now are tried again after this."""

    # -- what goes wrong --
    critical_after: int = 6
    """Failures in a row after which replication stops and waits for somebody (state 8)."""
    log_share: float = 0.5
    """Changes that could not be sent, as a share of the size of the disks, after which only a resynchronisation helps (state 9)."""
    crash_needs_resync: bool = True
    """A host that lost its power has lost track of what its running machines had not sent (state 9)."""
    apply_held: bool = False
    """Nothing that is received is applied, as while a backup has the virtual machine (operations 7.5)."""

    # -- open doubts --
    server_settings_by_job: bool | None = None
    """Whether a change of the server's settings answers with a job; None: as ModifySystemSettings, from 2019 on (wire 3.4)."""
    refuses_bad_certificate: bool = True
    """A thumbprint whose certificate cannot be used fails the job; otherwise it is stored and the listener does not run."""
    offers_unsuitable_certificates: bool = True
    """GetSystemCertificates lists the whole store; otherwise only what could be used now."""
    test_authorises: bool = True
    """TestReplicationConnection notices that the server does not accept replication from here."""
    included_disks: Literal["path", "instance_id", "embedded"] = "path"
    """D-22: how IncludedDisks names disks, both when it is read and when it is written."""
    cancel_planned: Literal["request", "revert"] = "request"
    """D-23: what takes a prepared planned failover back: RequestReplicationStateChange to 3, or RevertFailover, on the primary."""
    reverse_unplanned: Literal["copy", "replicate"] = "copy"
    """After a failover that was not planned: reverse replication waits for a first copy (state 1), or compares and replicates."""
    test_name: str = "{} - Test"
    """D-24: the name of a test machine."""
    test_connected: bool = False
    """D-24: whether its adapters are connected as those of the replica."""
    relationship_of_all: bool = False
    """A machine that is not replicated has a row of Msvm_ReplicationRelationship, too, in state 0."""
