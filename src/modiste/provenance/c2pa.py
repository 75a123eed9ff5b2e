"""C2PA manifests (Content Credentials, C2PA technical specification 2.1): signed into PNG files, and checked.

A signature shows any later change of the file. It shows who signed only as far as an authority that the reader trusts
vouches for the certificate. A manifest can be cut off like any metadata.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from modiste.environment import __version__
from modiste.errors import ModisteError, UsageError
from modiste.provenance import claims
from modiste.provenance.claims import Claim
from modiste.provenance.metadata import SOURCE_TYPE, Marker, stamp

MIMES = {
    "PNG": "image/png", "JPEG": "image/jpeg", "MPO": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif",
    "TIFF": "image/tiff", "AVIF": "image/avif", "HEIF": "image/heif",
}  # fmt: skip
SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},  # reading a file must not use the network
    "builder": {"thumbnail": {"enabled": False}},
}

State = Literal["absent", "valid", "self-made", "invalid", "not read"]
"""A manifest is valid where a trusted authority vouches for its signer, and self-made where none does."""


@dataclass(frozen=True)
class Manifest:
    """The state of a file's C2PA manifest, and the claims of it and of the manifests that it includes."""

    state: State
    claims: tuple[Claim, ...] = ()
    issuer: str = ""
    """The name in the certificate that it was signed with, which proves something only where the state is valid."""
    reason: str = ""
    """Why it is invalid or was not read."""
    was_changed: bool = False
    """Whether it is invalid because the file was changed after signing."""


def make_signer(certificate: Path | None, private_key: Path | None) -> Marker:
    """A function that stamps and then signs PNG files with these PEM files: a chain, the signer's first, and its key.

    UsageError where one of them is missing or cannot sign.
    """
    c2pa = _import_c2pa()
    if certificate is None or private_key is None:
        missing = "--certificate CHAIN.pem" if certificate is None else "--private-key KEY.pem"
        raise UsageError(
            f"to sign, {missing} is missing: give the PEM files of your certificate and its key both "
            "(docs/provenance.md shows how to make them)"
        )
    chain, key = read_pem(certificate, "CERTIFICATE"), read_pem(private_key, "PRIVATE KEY")
    try:
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(_algorithm(key), chain.encode(), key.encode(), None))
    except c2pa.C2paError as error:
        raise UsageError(
            f"{certificate} cannot sign ({error}); C2PA asks for a chain of PEM certificates, signer first, with the "
            "digitalSignature usage and an extended usage such as emailProtection"
        ) from None
    context = c2pa.Context(settings=c2pa.Settings.from_dict(SETTINGS))
    agent = {"name": "Modiste", "version": __version__}
    action = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": agent}

    def sign(png: bytes, facts: Mapping[str, str]) -> bytes:
        definition = {
            "claim_generator_info": [agent],
            "title": facts.get("Title", "synthetic image"),
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        builder, signed = c2pa.Builder(json.dumps(definition), context), io.BytesIO()
        try:
            builder.sign(signer, "image/png", io.BytesIO(stamp(png, facts)), signed)
        except c2pa.C2paError as error:
            raise ModisteError(f"signing with {certificate} failed: {error}") from None
        return signed.getvalue()

    return sign


def read_manifest(content: bytes, trust_anchors: str = "") -> Manifest:
    """The C2PA manifest in an image file, checked; without c2pa-python it is only found to be there.

    `trust_anchors` are the certificates (PEM) of authorities that are trusted to vouch for who signed.
    """
    if b"c2pa" not in content:
        return Manifest("absent")
    try:
        c2pa = _import_c2pa()
    except ModisteError as error:
        return Manifest("not read", reason=str(error))
    with Image.open(io.BytesIO(content)) as picture:
        mime = MIMES.get(picture.format or "", "")
    if not mime:
        return Manifest("not read", reason=f"manifests in {picture.format} files are not read")
    try:
        trust = {"trust": {"trust_anchors": trust_anchors}} if trust_anchors else {}
        context = c2pa.Context(settings=c2pa.Settings.from_dict({**SETTINGS, **trust}))
        reader = c2pa.Reader.try_create(mime, io.BytesIO(content), context=context)
        if reader is None:
            return Manifest("absent")
        with reader:
            store, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError as error:
        return Manifest("invalid", reason=str(error))
    active = store["manifests"][store["active_manifest"]]
    issuer = str(active.get("signature_info", {}).get("issuer") or "")
    found = claims.claims_of_store(store)
    if state in ("Valid", "Trusted"):
        return Manifest("valid" if state == "Trusted" else "self-made", found, issuer)
    failures = _failures(store)
    return Manifest("invalid", found, issuer, ", ".join(failures), any("mismatch" in code for code in failures))


def _failures(store: Mapping[str, Any]) -> list[str]:
    """C2PA's codes of what is wrong with a store, but for who signed it."""
    results = store.get("validation_results", {})
    deltas = [one.get("validationDeltas", {}) for one in results.get("ingredientDeltas") or []]
    parts = (results.get("activeManifest", {}), *deltas)
    codes = dict.fromkeys(failure["code"] for part in parts for failure in part.get("failure", []))
    codes.pop("signingCredential.untrusted", None)
    return list(codes)


def read_pem(path: Path, kind: Literal["CERTIFICATE", "PRIVATE KEY"]) -> str:
    """The text of a PEM file with such a block; UsageError for any other file."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
    if f"{kind}-----" not in text:
        raise UsageError(f"{path} holds no PEM {kind.lower()}; give a text file with -----BEGIN ... {kind}-----")
    return text


def _algorithm(private_key: str) -> bytes:
    """C2PA's name of the signature that a private key in PEM makes."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        loaded = load_pem_private_key(private_key.encode(), None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the private key cannot be read ({error}); give it in PEM without a password") from None
    if isinstance(loaded, ec.EllipticCurvePrivateKey) and loaded.key_size in (256, 384):
        return f"es{loaded.key_size}".encode()
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return b"ed25519"
    if isinstance(loaded, rsa.RSAPrivateKey):
        return b"ps256"
    raise UsageError("the private key is of a kind that C2PA does not take; use P-256, P-384, Ed25519 or RSA")


def _import_c2pa() -> Any:
    try:
        return importlib.import_module("c2pa")
    except (ImportError, OSError) as error:
        raise ModisteError(
            f"signed manifests need the package c2pa-python ({error}); pip install 'modiste[provenance]'"
        ) from None
