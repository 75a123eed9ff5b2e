"""Certificates to sign with: one's own in PEM, or a test certificate, made once on a machine, which proves nothing."""

from __future__ import annotations

import datetime
from contextlib import suppress
from pathlib import Path

from modiste import files
from modiste.cache import cache_root
from modiste.errors import UsageError

TEST_NAME = "Modiste test certificate, proves nothing"
TEST_DAYS = 3650


def read_pem(path: Path, word: str) -> str:
    """The text of a PEM file with such a block, CERTIFICATE or PRIVATE KEY; UsageError for any other."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
    if f"{word}-----" not in text:
        raise UsageError(f"{path} holds no PEM {word.lower()}; give a text file with -----BEGIN ... {word}-----")
    return text


def algorithm(key: str) -> bytes:
    """C2PA's name of the signature that a private key in PEM makes."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        loaded = load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the private key cannot be read ({error}); give it in PEM without a password") from None
    if isinstance(loaded, ec.EllipticCurvePrivateKey) and loaded.key_size in (256, 384):
        return f"es{loaded.key_size}".encode()
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(loaded, rsa.RSAPrivateKey):
        return b"ps256"
    raise UsageError("the private key is of a kind that C2PA does not take; use P-256, P-384, Ed25519 or RSA")


def test_credentials() -> tuple[str, str]:
    """Certificate chain and private key in PEM of this machine's test signer, made on first use."""
    place = cache_root() / "provenance" / "test-signer.pem"
    with suppress(OSError, ValueError):
        return _parted(place.read_bytes())
    content = make().encode("ascii")  # none is there yet, or it is damaged
    place.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(place, content, private=True)
    return _parted(content)


def _parted(content: bytes) -> tuple[str, str]:
    """Certificate chain and private key of the file that holds both; ValueError unless they belong together."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = content.decode("ascii")
    start = text.index("-----BEGIN CERTIFICATE-----")
    signer, authority = x509.load_pem_x509_certificates(content[start:])
    key, public = load_pem_private_key(content[:start], None), signer.public_key()
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("other keys than the test signer's")
    try:
        for certificate in (signer, authority):
            certificate.verify_directly_issued_by(authority)
        public.verify(key.sign(content, ec.ECDSA(hashes.SHA256())), content, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, TypeError) as error:
        raise ValueError(f"damaged ({error})") from None
    return text[start:], text[:start]


def make(name: str = TEST_NAME) -> str:
    """A private key, its certificate and that of the authority that signed it, as C2PA's profile wants them, in PEM.

    `name` is what both certificates call themselves: anybody can give any.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    names = {
        who: x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, name),
                x509.NameAttribute(NameOID.COMMON_NAME, f"Modiste test {who}"),
            ]
        )
        for who in ("authority", "signer")
    }
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in names}

    def certificate(who: str) -> x509.Certificate:
        top = who == "authority"
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        ) | dict.fromkeys(("encipher_only", "decipher_only"), False)
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[who])
            .issuer_name(names["authority"])
            .public_key(keys[who].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + datetime.timedelta(days=TEST_DAYS))
            .add_extension(x509.BasicConstraints(ca=top, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=not top, key_cert_sign=top, crl_sign=top, **usage), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[who].public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(keys["authority"].public_key()), critical=False
            )
        )
        if not top:
            builder = builder.add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False
            )
        return builder.sign(keys["authority"], hashes.SHA256())

    key = keys["signer"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = b"".join(certificate(who).public_bytes(Encoding.PEM) for who in ("signer", "authority"))
    return (key + chain).decode("ascii")
