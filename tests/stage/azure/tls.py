"""The authority that vouches for Azure's hosts here: made once for a process, and known to no other machine."""

import datetime
import functools
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SYSTEM = Path("/etc/ssl/certs/ca-certificates.crt")
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Azure of the stage")])


class Authority:
    """A certificate authority; `authority` gives the one of this process."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder(NAME, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = builder.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self._contexts: dict[str, ssl.SSLContext] = {}

    @property
    def pem(self) -> str:
        """What clients have to trust."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode()

    def bundle(self, path: Path) -> Path:
        """Writes what a client trusts, the rest of the world included, into one file."""
        known = SYSTEM.read_text() if SYSTEM.exists() else ""
        path.write_text(known + self.pem)
        return path

    def context(self, host: str) -> ssl.SSLContext:
        """What a server needs that speaks as a host."""
        if host not in self._contexts:
            key = ec.generate_private_key(ec.SECP256R1())
            names = x509.SubjectAlternativeName([x509.DNSName(host)])
            subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host[:64])])
            builder = self._builder(subject, key.public_key()).add_extension(names, critical=False)
            known = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
            certificate = builder.add_extension(known, critical=False).sign(self._key, hashes.SHA256())
            private = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            with tempfile.NamedTemporaryFile() as file:  # the standard library reads keys from files only
                file.write(certificate.public_bytes(serialization.Encoding.PEM) + private)
                file.flush()
                context.load_cert_chain(file.name)
            self._contexts[host] = context
        return self._contexts[host]

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(NAME).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        return builder.not_valid_after(now + datetime.timedelta(days=2))


@functools.cache
def authority() -> Authority:
    """The one of this process."""
    return Authority()
