# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError
from ansible_collections.agentless.hyperv.plugins.plugin_utils.connection import Connection, Ticket, describe

WINRM = {
    "remote_addr": "hv01.example.com", "remote_user": "admin", "remote_password": "s3cret", "port": 5986, "scheme": None, "path": "/wsman",
    "transport": None, "connection_timeout": None, "kerberos_command": "kinit", "kinit_args": None, "kinit_env_vars": [],
    "kerberos_mode": None, "_extras": {},
}
PSRP = {
    "remote_addr": "hv01.example.com", "remote_user": "admin", "remote_password": "s3cret", "port": None, "protocol": None, "path": "wsman",
    "auth": "negotiate", "cert_validation": "validate", "ca_cert": None, "connection_timeout": 30, "read_timeout": 30,
    "message_encryption": "auto", "proxy": None, "ignore_proxy": False, "certificate_pem": None, "certificate_key_pem": None,
    "credssp_disable_tlsv1_2": False, "negotiate_delegate": None, "negotiate_hostname_override": None, "negotiate_send_cbt": True,
    "negotiate_service": "WSMAN", "operation_timeout": 20,
}


def winrm(kerberos: bool = True, **changes: Any) -> Connection:
    return describe("winrm", {**WINRM, **changes}.__getitem__, kerberos)


def psrp(kerberos: bool = True, **changes: Any) -> Connection:
    return describe("ansible.builtin.psrp", {**PSRP, **changes}.__getitem__, kerberos)


@pytest.mark.parametrize(("options", "kerberos", "expected"), [
    ({}, True, "ntlm"),
    ({"remote_user": "admin@EXAMPLE.COM"}, True, "kerberos"),
    ({"remote_user": "admin@EXAMPLE.COM"}, False, "ntlm"),
    ({"_extras": {"ansible_winrm_cert_pem": "c.pem"}}, True, "certificate"),
    ({"transport": ["ntlm"]}, True, "ntlm"),
    ({"transport": ["plaintext"]}, True, "basic"),
    ({"transport": ["ssl"]}, True, "basic"),
    ({"transport": ["ssl"], "_extras": {"ansible_winrm_cert_pem": "c.pem"}}, True, "certificate"),
    ({"transport": "kerberos, ntlm"}, True, "kerberos"),
    ({"transport": ["kerberos", "ntlm"]}, False, "ntlm"),
    ({"transport": ["credssp"]}, True, "credssp"),
])
def test_winrm_transport(options: dict[str, Any], kerberos: bool, expected: str) -> None:
    assert winrm(kerberos, **options).endpoint.transport == expected


@pytest.mark.parametrize(("options", "scheme", "port"), [
    ({}, "https", 5986), ({"port": 5985}, "http", 5985), ({"port": 5985, "scheme": "https"}, "https", 5985),
    ({"port": 8443}, "https", 8443),
])
def test_winrm_scheme_follows_the_port_as_in_the_connection_plugin(options: dict[str, Any], scheme: str, port: int) -> None:
    endpoint = winrm(**options).endpoint
    assert (endpoint.scheme, endpoint.port) == (scheme, port)


def test_winrm_defaults_validate_certificates_and_seal_messages() -> None:
    endpoint = winrm().endpoint
    assert (endpoint.validate, endpoint.message_encryption, endpoint.send_cbt, endpoint.ca_path) == (True, "auto", True, None)


def test_winrm_extras_arrive() -> None:
    endpoint = winrm(transport=["kerberos"], connection_timeout=45, _extras={
        "ansible_winrm_server_cert_validation": "ignore", "ansible_winrm_ca_trust_path": "/etc/ca.pem",
        "ansible_winrm_proxy": "http://proxy:3128",
        "ansible_winrm_message_encryption": "always", "ansible_winrm_kerberos_delegation": "yes", "ansible_winrm_service": "WSMAN",
        "ansible_winrm_kerberos_hostname_override": "hv01", "ansible_winrm_send_cbt": "no", "ansible_winrm_cert_key_pem": "k.pem",
        "ansible_winrm_credssp_disable_tlsv1_2": True}).endpoint
    assert not endpoint.validate and not endpoint.send_cbt
    assert (endpoint.ca_path, endpoint.proxy, endpoint.message_encryption) == ("/etc/ca.pem", "http://proxy:3128", "always")
    assert (endpoint.kerberos_delegation, endpoint.kerberos_hostname_override, endpoint.service) == (True, "hv01", "WSMAN")
    assert (endpoint.operation_timeout, endpoint.read_timeout) == (45, 55)
    assert (endpoint.cert_key_pem, endpoint.credssp_disable_tlsv1_2) == ("k.pem", True)


def test_operation_timeout_is_clipped_to_what_windows_grants() -> None:
    assert winrm(connection_timeout=300).endpoint.operation_timeout == 60


@pytest.mark.parametrize(("mode", "password", "managed"), [
    (None, "s3cret", True), (None, None, False), ("managed", None, True), ("manual", "s3cret", False),
])
def test_winrm_kerberos_ticket(mode: str | None, password: str | None, managed: bool) -> None:
    found = winrm(transport=["kerberos"], remote_user="admin@EXAMPLE.COM", remote_password=password, kerberos_mode=mode,
                  kinit_args="-V", kinit_env_vars=["FOO"])
    assert found.ticket == (Ticket("admin@EXAMPLE.COM", "kinit", "-V", ("FOO",), False) if managed else None)


@pytest.mark.parametrize(("options", "code"), [
    ({"transport": ["telnet"]}, "connection_option"),
    ({"_extras": {"ansible_winrm_server_cert_validation": "maybe"}}, "connection_option"),
    ({"_extras": {"ansible_winrm_send_cbt": "perhaps"}}, "connection_option"),
    ({"scheme": "gopher"}, "connection_option"),
])
def test_winrm_bad_options(options: dict[str, Any], code: str) -> None:
    with pytest.raises(HypervError) as caught:
        winrm(**options)
    assert caught.value.error_code == code


def test_kerberos_without_its_libraries_says_what_to_install() -> None:
    with pytest.raises(HypervError, match="not installed") as caught:
        winrm(False, transport=["kerberos"])
    assert caught.value.error_code == "kerberos_not_installed"
    assert "pywinrm[kerberos]" in str(caught.value.hint)


@pytest.mark.parametrize(("options", "scheme", "port"), [
    ({}, "https", 5986), ({"port": 5985}, "http", 5985), ({"protocol": "http"}, "http", 5985),
    ({"protocol": "http", "port": 6000}, "http", 6000),
])
def test_psrp_scheme_and_port(options: dict[str, Any], scheme: str, port: int) -> None:
    endpoint = psrp(**options).endpoint
    assert (endpoint.scheme, endpoint.port, endpoint.path) == (scheme, port, "/wsman")


@pytest.mark.parametrize(("options", "kerberos", "expected"), [
    ({}, True, "ntlm"), ({"remote_user": "a@EXAMPLE.COM"}, True, "kerberos"), ({"remote_user": "a@EXAMPLE.COM"}, False, "ntlm"),
    ({"remote_password": None}, True, "kerberos"), ({"auth": "basic"}, True, "basic"), ({"auth": "certificate"}, True, "certificate"),
    ({"auth": "credssp"}, True, "credssp"), ({"auth": "kerberos"}, True, "kerberos"),
])
def test_psrp_transport(options: dict[str, Any], kerberos: bool, expected: str) -> None:
    assert psrp(kerberos, **options).endpoint.transport == expected


def test_psrp_options_arrive() -> None:
    endpoint = psrp(cert_validation="ignore", ca_cert="/etc/ca.pem", ignore_proxy=True, negotiate_delegate=True, message_encryption="never",
                    operation_timeout=50).endpoint
    assert (endpoint.validate, endpoint.ca_path, endpoint.proxy) == (False, "/etc/ca.pem", None)
    assert (endpoint.kerberos_delegation, endpoint.message_encryption, endpoint.service) == (True, "never", "WSMAN")
    assert (endpoint.operation_timeout, endpoint.read_timeout) == (50, 60)


@pytest.mark.parametrize("plugin", ["local", "ssh", "ansible.builtin.ssh", "community.docker.docker"])
def test_other_connections_are_refused_with_the_remedy(plugin: str) -> None:
    with pytest.raises(HypervError, match="WinRM") as caught:
        describe(plugin, {}.__getitem__, True)
    assert caught.value.error_code == "connection_not_supported"
    assert "winrm or psrp" in str(caught.value.hint)


def test_the_password_is_a_secret_and_is_not_shown_by_repr() -> None:
    found = winrm()
    assert found.secrets == ("s3cret",)
    assert winrm(_extras={"ansible_winrm_proxy": "http://user:pr0xy@proxy:3128"}).secrets == ("s3cret", "pr0xy")
    assert "s3cret" not in repr(found.endpoint)
