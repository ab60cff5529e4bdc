# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Channel bindings of a certificate, and whom a client certificate stands for."""
from __future__ import annotations

import datetime
import hashlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from simulator.net.contract import TlsFiles
from simulator.net.tls import certificate_subject, channel_bindings, server_context

UPN = x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")


def certificate(common_name=None, names=(), algorithm=None):
    """A self-signed certificate, of which only the names and the signature's hash matter."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    start = datetime.datetime(2026, 1, 1)
    builder = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
               .not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1)))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    return builder.sign(key, algorithm or hashes.SHA256())


def upn(text):
    raw = text.encode()
    length = bytes([len(raw)]) if len(raw) < 128 else bytes([0x81, len(raw)])
    return x509.OtherName(UPN, b"\x0c" + length + raw)


@pytest.mark.parametrize(("made", "subject"), [
    (certificate("backup"), "backup"),
    (certificate("backup", [upn("backup@localhost")]), "backup@localhost"),
    (certificate(None, [x509.DNSName("x"), upn("jörg@" + "x" * 200)]), "jörg@" + "x" * 200),
    (certificate("backup", [x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x01a")]), "backup"),
    (certificate(None, [x509.DNSName("x")]), None),
    (certificate("backup", [x509.DNSName("x" * 60) for _unused in range(300)]), None),
])
def test_whom_a_client_certificate_stands_for(made, subject):
    assert certificate_subject(made.public_bytes(serialization.Encoding.DER)) == subject


def test_what_is_no_certificate():
    with pytest.raises(ValueError, match="parsing"):
        certificate_subject(b"junk")


@pytest.mark.parametrize(("algorithm", "digest"), [(hashes.SHA256(), "sha256"), (hashes.SHA384(), "sha384"), (hashes.SHA512(), "sha512")])
def test_channel_bindings_use_the_certificates_own_hash(tmp_path, algorithm, digest):
    made = certificate("hv1", algorithm=algorithm)
    path = tmp_path / "hv1.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    expected = b"tls-server-end-point:" + hashlib.new(digest, made.public_bytes(serialization.Encoding.DER)).digest()
    assert channel_bindings(TlsFiles(path, path)).application_data == expected


def test_files_that_are_missing_or_wrong(tmp_path, certificates):
    with pytest.raises(FileNotFoundError):
        server_context(TlsFiles(tmp_path / "none", tmp_path / "none"))
    with pytest.raises(ssl.SSLError):
        server_context(TlsFiles(certificates.tls.certificate, certificates.client_key))
