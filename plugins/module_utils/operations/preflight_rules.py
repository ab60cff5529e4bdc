# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is missing on a host, decided from what was read: one check for each thing, each with a stable code and its remedy.

Pure. What no reading can show is ``unknown``, never ``ok``. Texts of a host appear in messages only.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.agentless.hyperv.plugins.module_utils.hyperv import machines as virtual_machines
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.inventory import duplicates
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.preflight_facts import Answer, Facts
from ansible_collections.agentless.hyperv.plugins.module_utils.operations.run_as import Identity
from ansible_collections.agentless.hyperv.plugins.module_utils.protection.consistency import FREE_FLOOR
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.cluster import Cluster
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.system import HostSystem
from ansible_collections.agentless.hyperv.plugins.module_utils.windows.volumes import Volume, locate

OK, MISSING, WARNING, UNKNOWN = STATUSES = ("ok", "missing", "warning", "unknown")
_OLDEST_BUILD = 9600

REMEDIES: Mapping[str, str] = {
    "connection_open": "Use ntlm, kerberos or credssp with message encryption auto, or HTTPS.",
    "certificate_unchecked": "Trust the authority of the certificate (ansible_winrm_ca_trust_path) and validate it.",
    "unencrypted_allowed": "Set AllowUnencrypted of the WinRM service to false.",
    "winrm_config": "Connect as an administrator of the host to have the quotas checked.",
    "remote_shell": "Set AllowRemoteShellAccess of WinRM to true, or remove the policy that forbids it.",
    "quota": "Raise this setting of WinRM, by policy or with winrm set, and restart the service.",
    "rights_system": "Use an account that is an administrator of the host and whose token is not filtered (LocalAccountTokenFilterPolicy).",
    "rights_hyperv": "Put the account into Administrators; Hyper-V Administrators is enough to read virtual machines only.",
    "rights_vss": "Put the account into Administrators: shadow copies need it.",
    "rights_tasks": "Put the account into Administrators: scheduled tasks need it.",
    "rights_cluster": "Give the account full access to the failover cluster.",
    "rights_shell": "Put the account into Administrators, or give it Execute in the RootSDDL of WinRM.",
    "hyperv_role": "Install the Hyper-V role, or take the host out of the group.",
    "hypervisor": "Enable virtualisation in the firmware, and start the hypervisor with the host (hypervisorlaunchtype auto).",
    "windows_release": "Use Windows Server 2012 R2 or newer.",
    "virtual_machines": "Look whether the host has none, or the account may not see them.",
    "vm_names": "Name these machines by vm_id in backup_vms, or rename them.",
    "clock_skew": "Let the host and the controller ask the same time source (w32tm /resync).",
    "services": "Put the account into Administrators: whether services run cannot be judged without them.",
    "service_missing": "Install the feature that this service belongs to.",
    "service_disabled": "Set the start type of the service to manual or automatic.",
    "service_stopped": "Start the service, and see the event log why it had stopped.",
    "service_not_automatic": "Set the start type to automatic: after a restart of the host it would not run.",
    "volume_space": "Free space on the volume: below 20 % no shadow copy is made there.",
    "volumes": "Put the account into Administrators: free space cannot be judged without the volumes.",
    "replica_listener": "See the event log of Hyper-V; hyperv_replica_server in check mode says what is in the way.",
    "firewall": "Enable the rule of the replica listener: hyperv_replica_server does, unless a group policy forbids it.",
    "cluster": "Look whether the cluster service runs and the account may ask it.",
    "state_folder": "Run once with write_test, or see what a link or a foreign folder does at this place.",
    "destination": "Name a folder of a volume of this host, or below a share of another machine.",
    "destination_identity": "Use run_as: account with an account that the file server knows.",
    "destination_source_volume": "Choose another volume for these machines: a copy beside its disk is lost with it.",
    "destination_rights": "Give that account the right to change files on the share and in its folder, and make the folder.",
    "password_unsealed": "Use a connection that is encrypted: a password is sent over no other.",
}
"""What to do, by the code of a check."""

_QUOTAS: Mapping[str, int] = {
    "MaxShellsPerUser": 5, "MaxProcessesPerShell": 5, "MaxMemoryPerShellMB": 150, "MaxConcurrentOperationsPerUser": 50,
    "MaxConcurrentUsers": 2, "MaxEnvelopeSizekb": 500, "MaxTimeoutms": 60_000,
}
"""The least that runs of this collection need; Windows allows more of each (wire 2.7)."""
_RUNNING = {"vmms": "Hyper-V Virtual Machine Management", "winmgmt": "Windows Management Instrumentation", "schedule": "Task Scheduler"}
_STARTABLE = {"vss": "Volume Shadow Copy", "swprv": "Microsoft Software Shadow Copy Provider"}


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. ``subject``: what it is about (a service, a volume, a destination), empty for the host itself."""

    code: str
    status: str
    message: str
    subject: str = ""

    def as_result(self) -> dict[str, Any]:
        """The form in a result; the remedy only where something is to be done."""
        remedy = "" if self.status == OK else REMEDIES[self.code]
        return {"code": self.code, "status": self.status, "subject": self.subject, "message": self.message, "remedy": remedy}


@dataclass(frozen=True)
class Target:
    """A destination, as whom copies go there, and what writing there showed: ``tested`` None when nothing was written, else whether it
    went well."""

    path: str
    is_share: bool
    identity: Identity
    volume: Volume | None = None
    problem: str | None = None
    tested: bool | None = None
    said: str = ""


@dataclass(frozen=True)
class Tested:
    """What the opt-in showed of the state folder: None when it was not tried, else empty for good or what is wrong."""

    state_folder: str | None = None


def checks(facts: Facts, targets: Sequence[Target], tested: Tested) -> tuple[Check, ...]:
    """Every check of one host, in the order in which they should be mended."""
    at_targets = (check for target in targets for check in _target(facts, target))
    return (*_connection(facts, targets), *_config(facts), *_rights(facts), *_host(facts), *_services(facts, targets), *_machines(facts),
            *_replica(facts), *_cluster(facts), *_space(facts), *_state(facts, tested), *at_targets)


# -- the way to the host -------------------------------------------------------------------------------------------------


def _connection(facts: Facts, targets: Sequence[Target]) -> Iterator[Check]:
    seen = facts.connection
    way = f"{seen.transport} over {seen.scheme.upper()}, port {seen.port}" if seen.scheme else "an unknown way"
    yield Check("connection_open", OK if seen.encrypted else MISSING,
                f"Messages are {'encrypted' if seen.encrypted else 'not encrypted'}: {way}.")
    if seen.validated is not None:
        yield Check("certificate_unchecked", OK if seen.validated else WARNING,
                    f"The certificate of the host is {'' if seen.validated else 'not '}checked.")
    if not seen.encrypted:
        for account in dict.fromkeys(target.identity.task.account for target in targets if target.identity.task is not None):
            if account is not None:
                yield Check("password_unsealed", MISSING, f"The password of {account} would be refused on this connection.", account)


def _config(facts: Facts) -> Iterator[Check]:
    config = facts.config.value
    if config is None:
        yield Check("winrm_config", UNKNOWN, f"The configuration of WinRM could not be read: {_why(facts.config)}.")
        return
    if config.allow_unencrypted is not None:
        yield Check("unencrypted_allowed", WARNING if config.allow_unencrypted else OK,
                    f"The service {'accepts' if config.allow_unencrypted else 'refuses'} plain messages.")
    if config.allow_remote_shell is not None:
        yield Check("remote_shell", OK if config.allow_remote_shell else MISSING,
                    f"Shells from the network are {'allowed' if config.allow_remote_shell else 'forbidden'}.")
    for name, least in _QUOTAS.items():
        value = config.quotas.get(name)
        if value is None:
            yield Check("quota", UNKNOWN, f"The host did not tell {name}.", name)
        else:
            yield Check("quota", OK if value >= least else MISSING, f"The quota is {value}, at least {least} is needed.", name)


# -- rights --------------------------------------------------------------------------------------------------------------


def _rights(facts: Facts) -> Iterator[Check]:
    yield _right("rights_system", "the operating system", facts.system)
    if facts.machines.error is not None and facts.machines.error.error_code == "not_a_hyperv_host":
        yield Check("hyperv_role", MISSING, "The host has no Hyper-V management classes.")
    else:
        yield _hyperv_right(facts)
    yield _right("rights_vss", "shadow copies", facts.shadow_copies)
    yield _right("rights_tasks", "scheduled tasks", facts.tasks)
    yield _right("rights_shell", "the output of a command shell", facts.state_folder)


def _hyperv_right(facts: Facts) -> Check:
    if facts.machines.value is None or facts.machines.value:
        return _right("rights_hyperv", "virtual machines", facts.machines)
    if facts.system.denied:  # Hyper-V filters silently (operations 1.7)
        return Check("rights_hyperv", MISSING, "The account sees no virtual machine, and may not see the rest of the host either.")
    return Check("rights_hyperv", UNKNOWN, virtual_machines.NOTHING_VISIBLE)


def _right(code: str, what: str, answer: Answer[Any]) -> Check:
    if answer.error is None:
        return Check(code, OK, f"The account may read {what}.")
    if answer.denied:
        return Check(code, MISSING, f"The account may not read {what}.")
    return Check(code, UNKNOWN, f"Reading {what} failed: {_why(answer)}.")


def _why(answer: Answer[Any]) -> str:
    error = answer.error
    return "no reason was given" if error is None else f"{error.message.rstrip('.')} ({error.error_code})"


# -- the host ------------------------------------------------------------------------------------------------------------


def _host(facts: Facts) -> Iterator[Check]:
    system = facts.system.value
    if system is None:
        return
    yield from _release(system)
    if system.hypervisor_present is not None:
        yield Check("hypervisor", OK if system.hypervisor_present else MISSING,
                    f"The hypervisor {'runs' if system.hypervisor_present else 'does not run'}.")
    seconds = system.clock_skew.total_seconds()
    yield Check("clock_skew", MISSING if system.skew_matters else OK,
                f"The clock of the host is {abs(seconds):.0f} s {'behind' if seconds < 0 else 'ahead of'} the controller's.")


def _release(system: HostSystem) -> Iterator[Check]:
    name = f"Windows Server {system.release}" if system.release and system.server else f"Windows, build {system.build}"
    if not system.server or system.build < _OLDEST_BUILD:
        yield Check("windows_release", MISSING, f"{name}{'' if system.server else ', a client edition'}, is not supported.")
    elif system.release is None:
        yield Check("windows_release", WARNING, f"{name} is not known to this collection.")
    else:
        yield Check("windows_release", OK, f"{name}.")


def _services(facts: Facts, targets: Sequence[Target]) -> Iterator[Check]:
    table = facts.services.value
    if table is None:
        yield Check("services", UNKNOWN, f"The services could not be read: {_why(facts.services)}.")
        return
    wanted = dict(_RUNNING)
    if any(target.is_share for target in targets):
        wanted["lanmanworkstation"] = "Workstation"
    if facts.cluster.value is not None and (facts.cluster.value.name or facts.cluster.value.problem):
        wanted["clussvc"] = "Cluster Service"
    for name, title in {**wanted, **_STARTABLE}.items():
        service = table.get(name)
        if service is None:
            yield Check("service_missing", MISSING, f"There is no service {title}.", name)
        elif service.disabled:
            yield Check("service_disabled", MISSING, f"The service {title} is disabled.", name)
        elif name in wanted and not service.running:
            yield Check("service_stopped", MISSING, f"The service {title} does not run.", name)
        else:
            yield Check("service_stopped", OK, f"The service {title} {'runs' if service.running else 'starts when it is needed'}.", name)
    winrm = table.get("winrm")
    if winrm is not None:
        yield Check("service_not_automatic", OK if winrm.start_mode == "Auto" else WARNING,
                    f"The start type of WinRM is {_word(winrm.start_mode)}.", "winrm")


def _word(text: str) -> str:
    """A word of Win32_Service, or that it was none."""
    return text if text in ("Auto", "Manual", "Disabled", "Boot", "System") else "unknown"


def _machines(facts: Facts) -> Iterator[Check]:
    found = facts.machines.value
    if found is None:
        return
    yield Check("virtual_machines", OK if found else WARNING, f"{len(found)} virtual machines are visible.")
    for name, guids in duplicates(found).items():
        yield Check("vm_names", WARNING, f"{len(guids)} virtual machines have this name: {', '.join(guids)}.", name)


def _replica(facts: Facts) -> Iterator[Check]:
    """Only a replica server has a port of its own: everything else of this collection comes in through WinRM."""
    seen = facts.replica.value
    if seen is None:
        if facts.replica.denied:
            yield Check("firewall", UNKNOWN, f"The firewall could not be asked: {_why(facts.replica)}.")
        elif not facts.replica.absent:
            yield Check("replica_listener", UNKNOWN, f"Whether the host is a replica server is not known: {_why(facts.replica)}.")
        return
    if not seen.enabled:
        return
    yield Check("replica_listener", {True: OK, False: MISSING, None: UNKNOWN}[seen.listening], "The host is a replica server.")
    ports = ", ".join(str(port) for port in seen.closed)
    yield Check("firewall", MISSING if seen.closed else OK,
                f"No rule lets in the replica listener on port {ports}." if seen.closed else "The firewall lets in the replica listener.")


def _cluster(facts: Facts) -> Iterator[Check]:
    answer = facts.cluster
    if answer.denied or (answer.value is not None and answer.value.problem):
        why = answer.value.problem if answer.value is not None else _why(answer)
        yield Check("rights_cluster", UNKNOWN, f"Whether the host is in a cluster is not known: {why}")
    elif answer.value is None:
        yield Check("cluster", UNKNOWN, f"The cluster could not be asked: {_why(answer)}.")
    else:
        yield Check("cluster", OK, _cluster_sentence(answer.value))


def _cluster_sentence(cluster: Cluster) -> str:
    if cluster.name is None:
        return "The host is in no cluster."
    return f"The host is a node of the cluster {cluster.name} with {len(cluster.roles)} virtual machines."


# -- space and state -----------------------------------------------------------------------------------------------------


def _space(facts: Facts) -> Iterator[Check]:
    volumes = facts.volumes.value
    if volumes is None:
        yield Check("volumes", MISSING if facts.volumes.denied else UNKNOWN, f"The volumes could not be read: {_why(facts.volumes)}.")
        return
    for volume in _source_volumes(facts, volumes):
        ratio = volume.free_ratio
        if ratio is None:
            yield Check("volume_space", UNKNOWN, "The host did not tell the free space.", volume.root)
        else:
            yield Check("volume_space", OK if ratio >= FREE_FLOOR else MISSING, f"{100 * ratio:.0f} % of the volume is free.", volume.root)


def _source_volumes(facts: Facts, volumes: Iterable[Volume]) -> list[Volume]:
    """The volumes that hold disks of VMs, in the order of their roots."""
    places = [locate(disk.path, volumes) for disk in facts.disks.value or () if disk.path]
    used = {place.volume.device_id: place.volume for place in places if place.volume is not None}
    return sorted(used.values(), key=lambda volume: volume.root.lower())


def _state(facts: Facts, tested: Tested) -> Iterator[Check]:
    if tested.state_folder is not None:
        good = not tested.state_folder
        yield Check("state_folder", OK if good else MISSING, tested.state_folder or "The state folder is there and closed to others.")
        return
    look = facts.state_folder.value
    if look is None:
        return  # rights_shell says why
    if look.is_link:
        yield Check("state_folder", MISSING, "The state folder is a link: nothing of this collection will run on the host.")
    else:
        there = "is there; whether it is closed to others" if look.exists else "is not there; whether it can be made"
        yield Check("state_folder", UNKNOWN, f"The state folder {there} takes writing to see.")


# -- destinations --------------------------------------------------------------------------------------------------------


def _target(facts: Facts, target: Target) -> Iterator[Check]:
    if target.problem is not None:
        yield Check("destination", MISSING, target.problem, target.path)
        return
    if target.is_share:
        yield from _share(facts, target)
    else:
        yield Check("destination", OK, f"It is on {target.volume.root}." if target.volume else "It is local.", target.path)
        yield from _beside_disks(facts, target)
    if target.tested is not None:
        yield Check("destination_rights", OK if target.tested else MISSING,
                    "A folder was made, renamed and removed there." if target.tested else target.said, target.path)
    elif target.is_share:
        yield Check("destination_rights", UNKNOWN, "Whether that account may write there takes writing to see.", target.path)


def _share(facts: Facts, target: Target) -> Iterator[Check]:
    system, identity = facts.system.value, target.identity
    if system is None:
        yield Check("destination_identity", UNKNOWN, "Who would knock there is not known: the host did not tell its name.", target.path)
    elif identity.task is not None and identity.task.account is None and system.domain is None:
        yield Check("destination_identity", MISSING, f"{system.name} is in a workgroup: SYSTEM is nobody at a share.", target.path)
    else:
        who = identity.at_share(system.name)
        yield Check("destination_identity", OK, f"It is reached as {who}{_domain(system, identity)}.", target.path)


def _domain(system: HostSystem, identity: Identity) -> str:
    account = identity.task is not None and identity.task.account is not None
    return "" if account or not system.domain else f" of {system.domain}"


def _beside_disks(facts: Facts, target: Target) -> Iterator[Check]:
    volume = target.volume
    found = facts.machines.value or ()
    if volume is None or not found:
        return
    owners = {disk.owner_id for disk in facts.disks.value or () if disk.path
              and (place := locate(disk.path, facts.volumes.value or ()).volume) is not None and place.device_id == volume.device_id}
    beside = [machine for machine in found if machine.vm_id in owners]
    if beside:
        yield Check("destination_source_volume", MISSING if len(beside) == len(found) else WARNING,
                    f"{len(beside)} of {len(found)} virtual machines have disks on the same volume, and are not copied to it.", target.path)
