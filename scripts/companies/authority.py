"""A certificate authority for one machine, and certificates by it. Its files are made once and kept."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = datetime.timedelta(days=3650)
SLACK = datetime.timedelta(days=1)  # for clocks that are behind


class Authority:
    """Signs certificates; ``ca_file`` is what whoever trusts them is given."""

    def __init__(self, folder: Path) -> None:
        self.ca_file = folder / "ca.pem"
        self._key_file = folder / "ca.key"
        if not self.ca_file.exists():
            key = new_key(self._key_file)
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Companies on this machine")])
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = (
                certificate_builder(name, name, key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(usage, critical=True)
            )
            _write(self.ca_file, builder.sign(key, hashes.SHA256()))

    def certify(self, host: str, certificate_file: Path, key_file: Path) -> None:
        """Make a certificate for a host name and its key, unless they are there."""
        if certificate_file.exists():
            return
        key = new_key(key_file)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        issuer = x509.load_pem_x509_certificate(self.ca_file.read_bytes()).subject
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        builder = certificate_builder(subject, issuer, key.public_key()).add_extension(names, critical=False)
        ca_key = serialization.load_pem_private_key(self._key_file.read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey), "it was made by `new_key`"
        _write(certificate_file, builder.sign(ca_key, hashes.SHA256()))


def new_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """A new private key, in a file that only its owner may read; one that was left half done is replaced."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_bytes(pem)
    return key


def _write(file: Path, certificate: x509.Certificate) -> None:
    """The certificate comes last: where it is, its key is there too."""
    staged = file.with_suffix(".new")
    staged.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    staged.rename(file)


def certificate_builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """A certificate that is valid for long; what it is for is to be added."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLACK)
        .not_valid_after(now + LIFETIME)
    )
