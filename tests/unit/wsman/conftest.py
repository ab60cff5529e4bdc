# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners for the tests of the lane."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from simulator.net.contract import ListenerSettings, TlsFiles
from support.listener import ADMIN, Host, Listeners


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's bundle of authorities must not decide a test."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start() -> Iterator[Callable[..., Host]]:
    """Start a host: ``start(answer, ..., **listener_settings)``."""
    listeners = Listeners()
    yield lambda *script, account=ADMIN, **settings: listeners.start(script, account, ListenerSettings(**settings))
    listeners.stop()


@dataclass(frozen=True)
class Certificates:
    """PEM files of a test authority."""

    ca: str
    stranger: str
    tls: TlsFiles
    client: str
    client_key: str


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    client = authority.issue_cert("backup@localhost", common_name="backup")
    blobs = {"ca": authority.cert_pem, "stranger": other.cert_pem, "cert": server.cert_chain_pems[0], "key": server.private_key_pem,
             "client": client.cert_chain_pems[0], "client_key": client.private_key_pem}
    files: dict[str, Path] = {}
    for name, blob in blobs.items():
        files[name] = tmp_path / f"{name}.pem"
        blob.write_to_path(str(files[name]))
    return Certificates(str(files["ca"]), str(files["stranger"]), TlsFiles(files["cert"], files["key"], client_ca=files["ca"]),
                        str(files["client"]), str(files["client_key"]))
