# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
r"""The certificates of a computer (``LocalMachine\My``): real X.509, the same bytes in each run of a test."""
from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DEFAULT_AUTHORITY = "Example Root CA"

NOT_FOUND, NO_KEY = 0x80092004, 0x8009200B
EXPIRED, UNTRUSTED_ROOT, NAME_MISMATCH, WRONG_USAGE = 0x800B0101, 0x800B0109, 0x800B010F, 0x800B0110
"""HRESULTs: CRYPT_E_NOT_FOUND, CRYPT_E_NO_KEY_PROPERTY, CERT_E_EXPIRED, CERT_E_UNTRUSTEDROOT, CERT_E_CN_NO_MATCH, CERT_E_WRONG_USAGE."""

_PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH,
             "code": ExtendedKeyUsageOID.CODE_SIGNING}


@dataclass(frozen=True)
class CertificateSpec:
    """One certificate. ``key`` is how other fields of the same host refer to it; days count from the start of the host."""

    key: str = "host"
    subject: str | None = None
    """The common name; None = the host's FQDN."""
    dns_names: tuple[str, ...] = ()
    """Subject alternative names."""
    authority: str | None = DEFAULT_AUTHORITY
    """Who signed it; None = itself."""
    from_days: float = -30.0
    until_days: float = 365.0
    purposes: tuple[Literal["server", "client", "code"], ...] = ("server", "client")
    """Extended key usage; empty = the certificate has none."""
    private_key: bool = True
    revocation_reachable: bool = True
    """Whether others can ask if it was revoked; a certificate made by hand has no place to ask."""


@dataclass(frozen=True)
class Certificate:
    """One certificate in the store. ``thumbprint``: SHA-1 in upper case, as Windows shows it."""

    key: str
    der: bytes
    thumbprint: str
    names: frozenset[str]
    authority: str
    begins: datetime
    ends: datetime
    purposes: frozenset[str]
    private_key: bool
    revocation_reachable: bool


class CertificateStore:
    """The certificates of one host and the authorities that it trusts."""

    def __init__(self, fqdn: str, started: datetime, specs: Iterable[CertificateSpec] = (),
                 trusted: Iterable[str] = (DEFAULT_AUTHORITY,)) -> None:
        self._fqdn = fqdn
        self._started = started.astimezone(UTC).replace(microsecond=0)
        self.trusted = set(trusted)
        """Names of authorities; a self-signed certificate is trusted under its subject."""
        self.checks_revocation = True
        """False: the registry value DisableCertRevocationCheck of Replica is 1 (operations 7.2)."""
        self._found: dict[str, Certificate] = {}
        for spec in specs:
            self.add(spec)

    def add(self, spec: CertificateSpec) -> Certificate:
        """Put a new certificate into the store."""
        made = _make(spec, self._fqdn, self._started)
        self._found[made.thumbprint] = made
        return made

    def remove(self, thumbprint: str) -> None:
        """Take one out. KeyError: it is not there."""
        del self._found[thumbprint.upper()]

    def all(self) -> list[Certificate]:
        """In the order they came."""
        return list(self._found.values())

    def by_key(self, key: str) -> Certificate:
        """The certificate that a spec calls so. KeyError."""
        for one in self._found.values():
            if one.key == key:
                return one
        raise KeyError(key)

    def find(self, thumbprint: str) -> Certificate | None:
        """By the SHA-1 thumbprint, any letter case."""
        return self._found.get(thumbprint.upper())

    def problem(self, thumbprint: str, now: datetime) -> int | None:
        """Why a certificate cannot be used by this host for both ends of a connection: an HRESULT, None when it can."""
        found = self.find(thumbprint)
        if found is None:
            return NOT_FOUND
        if not found.private_key:
            return NO_KEY
        if not found.begins <= now < found.ends:
            return EXPIRED
        if not {"server", "client"} <= found.purposes:
            return WRONG_USAGE
        if self._fqdn.lower() not in found.names:
            return NAME_MISMATCH
        return None if found.authority in self.trusted else UNTRUSTED_ROOT


def _make(spec: CertificateSpec, fqdn: str, started: datetime) -> Certificate:
    subject = spec.subject or fqdn
    authority = spec.authority or subject
    begins, ends = started + timedelta(days=spec.from_days), started + timedelta(days=spec.until_days)
    key = _private_key(fqdn, spec.key, subject)
    builder = (x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name(authority)).public_key(key.public_key())
               .serial_number(int.from_bytes(_digest(fqdn, spec.key, subject)[:12], "big") | 1)
               .not_valid_before(begins).not_valid_after(ends))
    if spec.dns_names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in spec.dns_names]), critical=False)
    if spec.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage([_PURPOSES[purpose] for purpose in spec.purposes]), critical=False)
    signer = key if spec.authority is None else _private_key(spec.authority)
    der = builder.sign(signer, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(serialization.Encoding.DER)
    names = frozenset(name.lower() for name in (subject, *spec.dns_names))
    return Certificate(spec.key, der, hashlib.sha1(der, usedforsecurity=False).hexdigest().upper(), names, authority, begins, ends,
                       frozenset(spec.purposes), spec.private_key, spec.revocation_reachable)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\x1f".join(parts).encode()).digest()


def _private_key(*parts: str) -> ec.EllipticCurvePrivateKey:
    """The same key for the same parts: these protect nothing."""
    return ec.derive_private_key(int.from_bytes(_digest("simulated key", *parts)[:31], "big"), ec.SECP256R1())
