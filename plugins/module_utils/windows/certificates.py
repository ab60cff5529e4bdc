# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates that a host offers: whether one is fit for replication (operations 7.2). The library comes with pywinrm's NTLM."""
from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ansible_collections.agentless.hyperv.plugins.module_utils.errors import HypervError

try:
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:  # told when a certificate has to be read
    x509 = None  # type: ignore[assignment]

SOON = timedelta(days=30)


@dataclass(frozen=True)
class Certificate:
    """One certificate. ``names``: of its subject and its alternative names, lower case."""

    thumbprint: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    client: bool
    server: bool


def find(encoded: Sequence[str], thumbprint: str) -> Certificate | None:
    """The certificate with this thumbprint (upper case, digits alone) among base64 ones; None when it is not offered.

    Raises HypervError ``certificate_unreadable``, ``cryptography_missing``.
    """
    for text in encoded:
        try:
            der = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            continue
        if hashlib.sha1(der, usedforsecurity=False).hexdigest().upper() == thumbprint:
            return read(der, thumbprint)
    return None


def read(der: bytes, thumbprint: str) -> Certificate:
    """What a certificate says. Raises as :func:`find`."""
    if x509 is None:
        raise HypervError("A certificate cannot be checked: Python's cryptography is not installed on the controller.",
                          error_code="cryptography_missing", hint="It comes with pywinrm; install it where ansible runs.")
    try:
        one = x509.load_der_x509_certificate(der)
        names = [str(item.value) for item in one.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        purposes: set[object] = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}  # without the extension: any
        for extension in one.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                names += extension.value.get_values_for_type(x509.DNSName)
            elif isinstance(extension.value, x509.ExtendedKeyUsage):
                purposes = set(extension.value)
        return Certificate(
            thumbprint, tuple(name.lower() for name in names), _utc(one, "not_valid_before"), _utc(one, "not_valid_after"),
            ExtendedKeyUsageOID.CLIENT_AUTH in purposes, ExtendedKeyUsageOID.SERVER_AUTH in purposes)
    except ValueError as error:
        raise HypervError(f"The certificate {thumbprint} cannot be read: {error}", error_code="certificate_unreadable") from error


def _utc(one: object, name: str) -> datetime:
    moment: datetime = getattr(one, f"{name}_utc", None) or getattr(one, name).replace(tzinfo=UTC)  # older releases have no _utc
    return moment


def problem(one: Certificate, fqdn: str, now: datetime) -> str | None:
    """Why the host's listener would not take it; None when it would, as far as the certificate itself tells."""
    if now < one.not_before:
        return f"it is not valid before {one.not_before:%Y-%m-%d %H:%M} UTC"
    if now >= one.not_after:
        return f"it expired on {one.not_after:%Y-%m-%d %H:%M} UTC"
    missing = [name for name, there in (("client", one.client), ("server", one.server)) if not there]
    if missing:
        return f"its purposes do not include {' and '.join(missing)} authentication"
    if not any(_covers(name, fqdn.lower()) for name in one.names):
        return f"it is for {', '.join(one.names) or 'nobody'}, and the host is {fqdn}"
    return None


def _covers(name: str, fqdn: str) -> bool:
    if name.startswith("*."):
        return fqdn.partition(".")[2] == name[2:]
    return name == fqdn
