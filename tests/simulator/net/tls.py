# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS of an HTTPS listener: the server's side, its channel bindings, and who a client certificate stands for."""
from __future__ import annotations

import ssl

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from spnego.channel_bindings import GssChannelBindings

from simulator.net.contract import TlsFiles

_UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
_UTF8_STRING = 0x0C
MAX_CLIENT_CERTIFICATE = 16 * 1024
"""Bytes; a larger one is refused (wire 6.1)."""


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """The TLS configuration of a listener. Raises OSError or ssl.SSLError when a file is missing or wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        # Python's ssl cannot accept a certificate that it does not trust, so one of another authority ends the handshake here,
        # while Windows finishes it and answers 401.
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def channel_bindings(files: TlsFiles) -> GssChannelBindings:
    """The ``tls-server-end-point`` bindings of the listener's certificate (wire 6.3): its own hash, SHA-256 in place of MD5 and SHA-1."""
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if algorithm is None or isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return GssChannelBindings(application_data=b"tls-server-end-point:" + certificate.fingerprint(algorithm))


def certificate_subject(der: bytes) -> str | None:
    """The user principal name in a client certificate, else its common name (wire 6.1); None when it has neither or is too large."""
    if len(der) > MAX_CLIENT_CERTIFICATE:
        return None
    certificate = x509.load_der_x509_certificate(der)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    for other in names.get_values_for_type(x509.OtherName):
        if other.type_id == _UPN and other.value[:1] == bytes([_UTF8_STRING]):
            return _utf8_string(other.value)
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common[0].value) if common else None


def _utf8_string(der: bytes) -> str:
    """The text of a DER UTF8String; names are far shorter than the 64 KiB that two length bytes can say."""
    length, start = der[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[2:2 + count], "big"), 2 + count
    return der[start:start + length].decode("utf-8")
