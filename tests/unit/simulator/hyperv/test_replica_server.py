# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host as a replica server: settings, certificates, listeners, authorisation entries."""
from __future__ import annotations

import base64
import hashlib
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from simulator.cim.model import CimValue, Instance, Ref
from simulator.hyperv.spec import AuthorizationSpec, HyperVSettings, ReplicaServerSpec
from simulator.windows.certificates import CertificateSpec
from unit.simulator.hyperv.bench import ADMINISTRATOR, NOBODY, V2, Bench, MakeBench

SERVICE = "Msvm_ReplicationService"
SETTINGS, ENTRY = "Msvm_ReplicationServiceSettingData", "Msvm_ReplicationAuthorizationSettingData"
_TYPES = {"RecoveryServerEnabled": "boolean", "AllowedAuthenticationType": "uint16", "HttpPort": "uint16", "HttpsPort": "uint16",
          "MonitoringInterval": "uint32", "MonitoringStartTime": "datetime"}


def text(class_name: str, **values: object) -> str:
    inner = "".join(f'<PROPERTY NAME="{name}" TYPE="{_TYPES.get(name, "string")}"><VALUE>{value}</VALUE></PROPERTY>'
                    for name, value in values.items())
    return f'<INSTANCE CLASSNAME="{class_name}">{inner}</INSTANCE>'


def settings(host: Bench) -> Instance:
    return host.row(SETTINGS)


def modify(host: Bench, **values: object) -> dict[str, CimValue]:
    given = {"InstanceID": settings(host)["InstanceID"], **values}
    return host.call(SERVICE, "ModifyServiceSettings", {"SettingData": text(SETTINGS, **given)})


def done(host: Bench, answer: dict[str, CimValue]) -> tuple[CimValue, CimValue]:
    """JobState and ErrorCode after the job has ended."""
    assert answer["ReturnValue"] == 4096
    host.clock.advance(5.0)
    ref = answer["Job"]
    assert isinstance(ref, Ref)
    row = host.repository.get(V2, ref.class_name, dict(ref.keys), ADMINISTRATOR)
    assert row["JobType"] == 90
    return row["JobState"], row["ErrorCode"]


def status(host: Bench) -> CimValue:
    return host.row(SERVICE)["OperationalStatus"]


def entry(host: Bench, method: str, primary: str, storage: str = "D:\\Replica", group: str = "DEFAULT") -> dict[str, CimValue]:
    given = {"AllowedPrimaryHostSystem": primary, "ReplicaStorageLocation": storage, "TrustGroup": group}
    return host.call(SERVICE, method, {"AuthorizationEntry": text(ENTRY, **given)})


def test_a_new_host_is_no_replica_server(bench: MakeBench) -> None:
    host = bench()
    row = settings(host)
    assert {k: row[k] for k in ("RecoveryServerEnabled", "AllowedAuthenticationType", "HttpPort", "HttpsPort", "CertificateThumbPrint",
                                "MonitoringInterval", "MonitoringStartTime")} == {
        "RecoveryServerEnabled": False, "AllowedAuthenticationType": 0, "HttpPort": 80, "HttpsPort": 443, "CertificateThumbPrint": "",
        "MonitoringInterval": 43200, "MonitoringStartTime": timedelta(hours=9)}
    assert (status(host), host.rows(ENTRY), host.rows(SETTINGS, NOBODY)) == ([2], [], [])
    assert host.row("Msvm_ReplicationProvider")["Name"] == "22391CDC-272C-4DDF-BA88-9BEFB1A0975C"


def test_settings_are_changed_by_a_job_and_what_is_left_out_stays(bench: MakeBench) -> None:
    host = bench()
    assert done(host, modify(host, RecoveryServerEnabled="true", AllowedAuthenticationType=1, HttpPort=8080)) == (7, 0)
    assert done(host, modify(host, MonitoringInterval=3600, MonitoringStartTime="00000000013000.000000:000")) == (7, 0)
    row = settings(host)
    assert (row["RecoveryServerEnabled"], row["HttpPort"], row["MonitoringInterval"], row["MonitoringStartTime"]) == (
        True, 8080, 3600, timedelta(hours=1, minutes=30))


def test_older_releases_change_them_at_once(bench: MakeBench) -> None:
    host = bench(os_version="2016")
    assert modify(host, RecoveryServerEnabled="true", AllowedAuthenticationType=1)["ReturnValue"] == 0
    assert settings(host)["RecoveryServerEnabled"] is True


@pytest.mark.parametrize("values", [
    {"MonitoringInterval": 3599}, {"MonitoringInterval": 604801}, {"AllowedAuthenticationType": 4}, {"RecoveryServerEnabled": "true"},
    {"RecoveryServerEnabled": "true", "AllowedAuthenticationType": 2}, {"HttpPort": 0}, {"InstanceID": "Microsoft:other"},
    {"RecoveryServerEnabled": "true", "AllowedAuthenticationType": 3, "HttpPort": 443, "CertificateThumbPrint": "AB"},
    {"MonitoringStartTime": "00000001000000.000000:000"}, {"MonitoringStartTime": "20260101000000.000000+000"},
])
def test_settings_that_no_server_can_have_are_refused(bench: MakeBench, values: dict[str, object]) -> None:
    host = bench()
    before = settings(host).values
    assert modify(host, **values)["ReturnValue"] == 32773
    assert settings(host).values == before


def test_only_hyperv_administrators_change_them(bench: MakeBench) -> None:
    host = bench()
    for method, parameters in (("ModifyServiceSettings", {"SettingData": text(SETTINGS)}), ("GetSystemCertificates", {}),
                               ("RemoveAuthorizationEntry", {"AllowedPrimaryHostSystem": "*"}),
                               ("AddAuthorizationEntry", {"AuthorizationEntry": text(ENTRY)})):
        assert host.call(SERVICE, method, parameters, caller=NOBODY)["ReturnValue"] == 32769


CERTIFICATES = (
    CertificateSpec("good", dns_names=("hv1.example.test",)), CertificateSpec("expired", until_days=-1.0),
    CertificateSpec("server", purposes=("server",)), CertificateSpec("other", subject="hv9.example.test"),
    CertificateSpec("self", authority=None), CertificateSpec("no-key", private_key=False),
)


def test_certificates_are_real_and_the_same_in_each_run(bench: MakeBench) -> None:
    host = bench(certificates=CERTIFICATES)
    answer = host.call(SERVICE, "GetSystemCertificates")
    encoded = answer["EncodedCertificates"]
    assert isinstance(encoded, list)
    ders = [base64.b64decode(str(one), validate=True) for one in encoded]
    thumbprints = [hashlib.sha1(der, usedforsecurity=False).hexdigest().upper() for der in ders]
    assert thumbprints == [one.thumbprint for one in host.certificates.all()]
    assert [one.thumbprint for one in bench(name="hv1", certificates=CERTIFICATES).certificates.all()] == thumbprints
    first = x509.load_der_x509_certificate(ders[0])
    assert first.subject.rfc4514_string() == "CN=hv1.example.test"
    assert first.issuer.rfc4514_string() == "CN=Example Root CA"
    assert set(first.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


@pytest.mark.parametrize(("key", "hresult"), [
    ("expired", "0x800B0101"), ("server", "0x800B0110"), ("other", "0x800B010F"), ("self", "0x800B0109"), ("no-key", "0x8009200B"),
    (None, "0x80092004")])
def test_a_certificate_that_cannot_be_used_fails_the_job(bench: MakeBench, key: str | None, hresult: str) -> None:
    host = bench(certificates=CERTIFICATES)
    thumbprint = "00" * 20 if key is None else host.certificates.by_key(key).thumbprint
    answer = modify(host, RecoveryServerEnabled="true", AllowedAuthenticationType=2, CertificateThumbPrint=thumbprint)
    assert done(host, answer) == (10, 32768)
    ref = answer["Job"]
    assert isinstance(ref, Ref)
    errors = host.call("Msvm_ConcreteJob", "GetErrorEx", selectors=dict(ref.keys))["Errors"]
    assert hresult in str(errors)
    assert settings(host)["RecoveryServerEnabled"] is False


def test_the_listener_does_not_run_without_its_port_or_its_certificate(bench: MakeBench) -> None:
    host = bench(certificates=CERTIFICATES)
    good = host.certificates.by_key("good").thumbprint
    host.role.replica.server.ports_taken.add(80)
    assert done(host, modify(host, RecoveryServerEnabled="true", AllowedAuthenticationType=3, CertificateThumbPrint=good.lower())) == (7, 0)
    assert status(host) == [6]
    host.role.replica.server.ports_taken.clear()
    assert status(host) == [2]
    host.clock.advance(400 * 86400.0)
    assert status(host) == [6]


def test_a_host_that_stores_any_thumbprint(bench: MakeBench) -> None:
    host = bench(certificates=CERTIFICATES)
    host.role.replica.knobs.refuses_bad_certificate = False
    expired = host.certificates.by_key("expired").thumbprint
    assert done(host, modify(host, RecoveryServerEnabled="true", AllowedAuthenticationType=2, CertificateThumbPrint=expired)) == (7, 0)
    assert status(host) == [6]


def test_authorisation_entries_come_change_and_go(bench: MakeBench) -> None:
    host = bench()
    assert done(host, entry(host, "AddAuthorizationEntry", "*.example.test")) == (7, 0)
    assert done(host, entry(host, "AddAuthorizationEntry", "hv2.example.test", "E:\\Second", "group")) == (7, 0)
    assert done(host, entry(host, "AddAuthorizationEntry", "HV2.example.test")) == (10, 32768)
    assert done(host, entry(host, "ModifyAuthorizationEntry", "hv2.example.test", "E:\\Third", "group")) == (7, 0)
    rows = {str(r["AllowedPrimaryHostSystem"]): (r["ReplicaStorageLocation"], r["TrustGroup"]) for r in host.rows(ENTRY)}
    assert rows == {"*.example.test": ("D:\\Replica", "DEFAULT"), "hv2.example.test": ("E:\\Third", "group")}
    assert done(host, host.call(SERVICE, "RemoveAuthorizationEntry", {"AllowedPrimaryHostSystem": "HV2.EXAMPLE.TEST"})) == (7, 0)
    assert [r["AllowedPrimaryHostSystem"] for r in host.rows(ENTRY)] == ["*.example.test"]


def test_authorisation_entries_that_are_none(bench: MakeBench) -> None:
    host = bench()
    folder = "D:\\Replica"
    for primary, storage, group in (("", folder, "g"), ("a b", folder, "g"), ("hv2", "Replica", "g"), ("hv2", folder, "")):
        assert entry(host, "AddAuthorizationEntry", primary, storage, group)["ReturnValue"] == 32773
    assert entry(host, "ModifyAuthorizationEntry", "hv2")["ReturnValue"] == 32773
    assert host.call(SERVICE, "RemoveAuthorizationEntry", {"AllowedPrimaryHostSystem": "hv2"})["ReturnValue"] == 32773
    assert done(host, entry(host, "AddAuthorizationEntry", "hv2", "Q:\\Replica")) == (10, 32768)
    assert (host.rows(ENTRY), host.call(SERVICE, "StopService")["ReturnValue"]) == ([], 1)


def test_the_closest_entry_counts(bench: MakeBench) -> None:
    server = ReplicaServerSpec(authorizations=(AuthorizationSpec("*", "D:\\any"), AuthorizationSpec("*.example.test", "D:\\domain"),
                                               AuthorizationSpec("hv2.example.test", "D:\\own")))
    host = bench(settings=HyperVSettings(replica=server))
    found = [host.role.replica.server.entry_for(name) for name in ("HV2.example.test", "hv3.example.test", "hv2", "example.test")]
    assert [one and one.storage for one in found] == ["D:\\own", "D:\\domain", "D:\\any", "D:\\any"]
