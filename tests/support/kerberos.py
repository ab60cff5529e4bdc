# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real MIT Kerberos realm on this machine, for the time of a test."""
from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.cim.model import Account

REALM = "CONTOSO.TEST"
OPERATOR = Account("operator", "Secret:1", domain=REALM, groups=frozenset({"Administrators"}))
STRANGER = Account("stranger", "x", domain=REALM)
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_MODULES = ("k5test", "krb5", "gssapi", "kerberos")
_SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def what_is_missing() -> str | None:
    """Why no realm can be had on this machine; None when it can."""
    programs = [name for name in _PROGRAMS if shutil.which(name, path=_SEARCH) is None]
    if programs:
        return f"not installed: {', '.join(programs)} (Debian packages krb5-kdc, krb5-admin-server, krb5-user)"
    modules = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if modules:
        return f"not installed: Python packages {', '.join(modules)} (pip install k5test 'pywinrm[kerberos]' 'pyspnego[kerberos]')"
    return None


@dataclass
class Realm:
    """A running KDC with the service ``HTTP/localhost``; ``environment`` leads clients and services to it."""

    name: str
    keytab: Path
    environment: Mapping[str, str]
    _realm: Any

    def add_user(self, name: str, password: str) -> str:
        """A new principal; its full name."""
        principal = f"{name}@{self.name}"
        self._realm.addprinc(principal, password)
        return principal

    def log_on(self, principal: str, password: str, *, forwardable: bool = False) -> None:
        """Put a ticket-granting ticket into the credential cache that ``environment`` names (kinit)."""
        self._realm.kinit(principal, password, flags=["-f"] if forwardable else [])

    def log_off(self) -> None:
        """Empty the credential cache."""
        Path(self.environment["KRB5CCNAME"]).unlink(missing_ok=True)


@contextlib.contextmanager
def kerberos_realm(*, service_host: str = "localhost") -> Iterator[Realm]:
    """Start a realm whose keytab holds ``HTTP/<service_host>``. Only where :func:`what_is_missing` is None."""
    import k5test  # only here, since most machines have no Kerberos

    _tell_k5test_where_plugins_are()
    folder = Path(tempfile.mkdtemp(prefix="realm-"))
    port = _free_port()
    realm = k5test.K5Realm(
        realm=REALM, portbase=port, get_creds=False, create_user=False, create_host=False,
        krb5_conf={"libdefaults": {"dns_canonicalize_hostname": "false", "rdns": "false", "forwardable": "false"},
                   "realms": {"$realm": {"kdc": f"127.0.0.1:{port}"}}},
        kdc_conf={"realms": {"$realm": {"kdc_listen": f"127.0.0.1:{port}", "kdc_tcp_listen": f"127.0.0.1:{port}"}}})
    try:
        principal = f"HTTP/{service_host}@{REALM}"
        realm.addprinc(principal)
        realm.extract_keytab(principal, realm.keytab)
        environment = {name: str(realm.env[name]) for name in ("KRB5_CONFIG", "KRB5_KDC_PROFILE", "KRB5_KTNAME", "KRB5CCNAME")}
        environment["KRB5RCACHENAME"] = f"file2:{folder / 'replay'}"
        yield Realm(name=REALM, keytab=Path(realm.keytab), environment=environment, _realm=realm)
    finally:
        realm.stop()
        shutil.rmtree(realm.tmpdir, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def realm_with_accounts() -> Iterator[Realm]:
    """A realm with the principals of OPERATOR, whom hosts may know, and STRANGER, whom none knows."""
    with kerberos_realm() as realm:
        for account in (OPERATOR, STRANGER):
            realm.add_user(account.name, account.password)
        yield realm


@contextlib.contextmanager
def ticket_of(realm: Realm, account: Account) -> Iterator[None]:
    """A ticket in the credential cache for the time of the block; afterwards the cache is empty."""
    realm.log_on(f"{account.name}@{realm.name}", account.password)
    try:
        yield
    finally:
        realm.log_off()


def _tell_k5test_where_plugins_are() -> None:
    """k5test searches all of /usr/lib for the folder, which takes half a minute on a machine that has just started."""
    from k5test import _utils

    usual = Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH")) / "krb5" / "plugins"
    if getattr(_utils, "_PLUGIN_DIR", usual) is None and usual.is_dir():
        _utils._PLUGIN_DIR = str(usual)


def _free_port() -> int:
    """A free port for the KDC; the daemons that would take the ports behind it are not started."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
