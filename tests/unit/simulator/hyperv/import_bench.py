# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Short ways to import, change, realise and destroy machines on a host, asked as a client asks."""
from __future__ import annotations

from simulator.cim.model import CimValue, Instance, Ref
from simulator.hyperv.model import Machine
from unit.simulator.hyperv.bench import ADMINISTRATOR, V2, Bench, embedded
from unit.simulator.hyperv.export_bench import SERVICE, Given, instance

SETTINGS = "Msvm_VirtualSystemSettingData"
DISK = "Msvm_StorageAllocationSettingData"
CONNECTION = "Msvm_EthernetPortAllocationSettingData"
SWITCH = "Msvm_VirtualEthernetSwitch"


def planned_ref(guid: str) -> Ref:
    """The reference of a planned machine."""
    return Ref(V2, "Msvm_PlannedComputerSystem", {"CreationClassName": "Msvm_PlannedComputerSystem", "Name": guid})


def real_ref(guid: str) -> Ref:
    """The reference of a machine."""
    return Ref(V2, "Msvm_ComputerSystem", {"CreationClassName": "Msvm_ComputerSystem", "Name": guid})


class Restorer:
    """The management service of one host."""

    def __init__(self, host: Bench) -> None:
        self.host = host
        self.role = host.role

    # -- jobs ------------------------------------------------------------------------------------------------------

    def call(self, method: str, **parameters: CimValue) -> dict[str, CimValue]:
        """Call a method of the service."""
        return self.host.call(SERVICE, method, parameters)

    def ended(self, answer: dict[str, CimValue]) -> Instance:
        """The job of an answer, after it ended."""
        assert answer["ReturnValue"] == 4096, answer
        job = answer["Job"]
        assert isinstance(job, Ref)
        for _unused in range(300):
            row = self.host.repository.get(V2, job.class_name, dict(job.keys), ADMINISTRATOR)
            if row["JobState"] not in (2, 3, 4):
                return row
            self.host.clock.advance(1.0)
        raise AssertionError("the job does not end")

    def done(self, method: str, **parameters: CimValue) -> Instance:
        """Call a method until its job is done; one that answers 0 is done at once."""
        answer = self.call(method, **parameters)
        if answer["ReturnValue"] == 0:
            return Instance(V2, "Msvm_ConcreteJob")
        row = self.ended(answer)
        assert (row["JobState"], row["ErrorCode"]) == (7, 0), row.values
        return row

    def failed(self, method: str, **parameters: CimValue) -> list[tuple[str, str]]:
        """MessageID and Message of each error of a job that failed; the first number is the ErrorCode of the job."""
        row = self.ended(self.call(method, **parameters))
        assert row["JobState"] == 10, row.values
        errors = self.host.call("Msvm_ConcreteJob", "GetErrorEx", selectors={"InstanceID": str(row["InstanceID"])})["Errors"]
        assert isinstance(errors, list)
        return [(str(one["MessageID"]), str(one["Message"])) for one in map(embedded, errors)]

    def error_code(self, method: str, **parameters: CimValue) -> CimValue:
        """ErrorCode of a job that failed."""
        row = self.ended(self.call(method, **parameters))
        assert row["JobState"] == 10, row.values
        return row["ErrorCode"]

    def made(self, job: Instance, class_name: str) -> list[Ref]:
        """What a job has made."""
        ref = Ref(V2, "Msvm_ConcreteJob", {"InstanceID": str(job["InstanceID"])})
        rows = [row["AffectedElement"] for row in self.host.rows("Msvm_AffectedJobElement")
                if row["AffectingElement"] == ref and row["ElementEffects"] == [5]]
        return [one for one in rows if isinstance(one, Ref) and one.class_name == class_name]

    # -- steps -----------------------------------------------------------------------------------------------------

    def import_from(self, definition: str, folder: str = "", *, fresh: bool = False) -> str:
        """ImportSystemDefinition; the GUID of the planned machine."""
        job = self.done("ImportSystemDefinition", SystemDefinitionFile=definition, SnapshotFolder=folder, GenerateNewSystemIdentifier=fresh)
        [made] = self.made(job, "Msvm_PlannedComputerSystem")
        return made.keys["Name"]

    def problems(self, guid: str) -> list[str]:
        """The numbers that ValidatePlannedSystem tells."""
        row = self.ended(self.call("ValidatePlannedSystem", PlannedSystem=planned_ref(guid)))
        if row["JobState"] == 7:
            return []
        errors = self.host.call("Msvm_ConcreteJob", "GetErrorEx", selectors={"InstanceID": str(row["InstanceID"])})["Errors"]
        assert isinstance(errors, list)
        return [str(embedded(one)["MessageID"]) for one in errors]

    def realise(self, guid: str) -> Machine:
        """RealizePlannedSystem; the machine."""
        job = self.done("RealizePlannedSystem", PlannedSystem=planned_ref(guid))
        [made] = self.made(job, "Msvm_ComputerSystem")
        return self.role.machines[made.keys["Name"]]

    def power(self, guid: str, state: int) -> Instance:
        """RequestStateChange; its job at the end."""
        keys = {"CreationClassName": "Msvm_ComputerSystem", "Name": guid}
        return self.ended(self.host.call("Msvm_ComputerSystem", "RequestStateChange", {"RequestedState": state}, selectors=keys))

    def destroy(self, ref: Ref) -> None:
        """DestroySystem."""
        self.done("DestroySystem", AffectedSystem=ref)

    # -- settings --------------------------------------------------------------------------------------------------

    def parts(self, guid: str, class_name: str) -> list[Instance]:
        """The settings of a class that belong to a configuration."""
        own = f"microsoft:{guid.lower()}\\"
        return [row for row in self.host.rows(class_name) if str(row["InstanceID"]).lower().startswith(own)]

    def system(self, guid: str) -> Instance:
        """The settings of a machine or checkpoint."""
        return self.host.row(SETTINGS, InstanceID=f"Microsoft:{guid}")

    def modify_system(self, guid: str, **values: Given) -> dict[str, CimValue]:
        """ModifySystemSettings with a minimal instance."""
        types = dict.fromkeys(values, "string") | {"InstanceID": "string"}
        return self.call("ModifySystemSettings", SystemSettings=instance(SETTINGS, types, {"InstanceID": f"Microsoft:{guid}", **values}))

    def point(self, row: Instance, path: str) -> dict[str, CimValue]:
        """ModifyResourceSettings: another file for a drive."""
        types = {"InstanceID": "string", "HostResource": "string"}
        text = instance(DISK, types, {"InstanceID": str(row["InstanceID"]), "HostResource": [path]})
        return self.call("ModifyResourceSettings", ResourceSettings=[text])

    def connect(self, row: Instance, switch: str | None) -> dict[str, CimValue]:
        """ModifyResourceSettings: disconnect an adapter, or connect it to a switch."""
        values: dict[str, Given] = {"InstanceID": str(row["InstanceID"]), "EnabledState": 3 if switch is None else 2}
        if switch is not None:
            name = self.host.row(SWITCH, ElementName=switch)["Name"]
            values["HostResource"] = [f'\\\\HV\\root\\virtualization\\v2:{SWITCH}.CreationClassName="{SWITCH}",Name="{name}"']
        types = {"InstanceID": "string", "HostResource": "string", "EnabledState": "uint16"}
        return self.call("ModifyResourceSettings", ResourceSettings=[instance(CONNECTION, types, values)])
