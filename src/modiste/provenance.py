"""What a file says of its own making: PNG metadata, a signed C2PA manifest, and how to read both back.

Metadata says it to programs that ask, and anyone can remove or add it. A C2PA manifest (Content Credentials, C2PA
technical specification 2.1) is signed, so that a change of the file shows; who signed is as certain as the certificate.
By default that is one made on this machine, which proves nothing about who signed. Both can be cut off; what stays in
the pixels is `watermark`.
"""

from __future__ import annotations

import datetime
import importlib
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image, UnidentifiedImageError

from modiste import marks, runs, watermark, writing
from modiste.data import archives, parquet, pictures, readers
from modiste.data.download import cache_root
from modiste.errors import ModisteError, UsageError

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for media made by a trained model (NewsCodes, digital source type); also what C2PA asks for."""
COMPOSITE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's word for a picture in which such media stand beside others."""
PARTLY = (COMPOSITE_TYPE, "http://cv.iptc.org/newscodes/digitalsourcetype/compositeSynthetic")
"""The words of IPTC that say so of a part of a picture."""
SOURCE_TYPES = (SOURCE_TYPE, *PARTLY)
SOURCE_KEY = marks.SOURCE_KEY
TEST_NAME = "Modiste test certificate, proves nothing"
TEST_DAYS = 3650
FOUND = 1e-6
"""Below this p-value a watermark counts as found."""
MIMES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}

State = Literal["absent", "valid", "test certificate", "invalid", "not read"]
Seal = Callable[[bytes, Mapping[str, str]], bytes]
"""From a PNG file and facts about it to the PNG file that carries them."""


# metadata


def stamp(png: bytes, facts: Mapping[str, str], source_type: str = SOURCE_TYPE) -> bytes:
    """The PNG file with these facts, `Synthetic: true`, and the digital source type also as XMP; pixels untouched.

    With COMPOSITE_TYPE it says `Synthetic: in part`.
    """
    texts = {
        "Software": marks.MARK,
        "Synthetic": "in part" if source_type in PARTLY else "true",
        "DigitalSourceType": source_type,
        **facts,
        "XML:com.adobe.xmp": (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
            'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
            f"Iptc4xmpExt:DigitalSourceType={quoteattr(source_type)}/></rdf:RDF></x:xmpmeta>"
            '<?xpacket end="w"?>'
        ),
    }
    chunks = b"".join(marks.text_chunk(key, text) for key, text in texts.items())
    return png[: marks.PNG_HEAD] + chunks + png[marks.PNG_HEAD :]


def read_metadata(content: bytes) -> dict[str, str]:
    """The texts of an image file that says it is synthetic, in any program's way that Modiste knows; else none."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            info = dict(picture.info)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ModisteError(f"this is no readable picture ({reason}); replace or remove it") from None
    comment = info.get("comment", b"")  # GIF files have no other place for words
    if isinstance(comment, bytes) and comment.decode("latin-1") in SOURCE_TYPES:
        info["DigitalSourceType"] = comment.decode("latin-1")
    xmp = info.pop("xmp", b"")
    xmp = info.pop("XML:com.adobe.xmp", "") or (xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else xmp)
    texts = {str(key): str(text) for key, text in info.items() if isinstance(text, str)}
    if known := next((word for word in SOURCE_TYPES if word.rpartition("/")[2] in str(xmp)), None):
        texts.setdefault("DigitalSourceType", known)
    says_so = texts.get("DigitalSourceType") in SOURCE_TYPES or texts.get("Synthetic", "").lower() == "true"
    return texts if says_so else {}


# manifests


@dataclass(frozen=True)
class Manifest:
    """What a file's C2PA manifest is worth."""

    state: State
    synthetic: bool = False
    """Whether it says that a trained model made the image, or a part of it."""
    issuer: str = ""
    reason: str = ""
    in_part: bool = False


def sealer(certificate: Path | None = None, private_key: Path | None = None) -> Seal:
    """A function that stamps and then signs PNG files, with these PEM files (the certificate's chain, signer first).

    Without them a test certificate is made once on this machine and kept in Modiste's cache.
    """
    c2pa = _c2pa()
    if (certificate is None) != (private_key is None):
        raise UsageError("--certificate and --private-key belong together; give both, or none for a test certificate")
    chain, key = _own(certificate, private_key) if certificate and private_key else _test_credentials()
    try:
        signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(_algorithm(key), chain.encode(), key.encode(), None))
    except c2pa.C2paError as error:
        raise UsageError(
            f"{certificate or 'the test certificate'} cannot sign ({error}); C2PA asks for a chain of PEM "
            "certificates, signer first, with the digitalSignature usage and an extended usage such as emailProtection"
        ) from None
    context = c2pa.Context(settings=c2pa.Settings.from_dict(_SETTINGS))
    agent = {"name": "Modiste", "version": _version()}
    action = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": agent}

    def seal(png: bytes, facts: Mapping[str, str]) -> bytes:
        definition = {
            "claim_generator_info": [agent],
            "title": facts.get("Title", "synthetic image"),
            "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [action]}}],
        }
        signed = io.BytesIO()
        try:
            c2pa.Builder(json.dumps(definition), context).sign(
                signer, "image/png", io.BytesIO(stamp(png, facts)), signed
            )
        except c2pa.C2paError as error:
            raise ModisteError(f"signing with {certificate or 'the test certificate'} failed: {error}") from None
        return signed.getvalue()

    return seal


_SETTINGS = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False},  # nothing of Modiste's asks the network unasked
    "builder": {"thumbnail": {"enabled": False}},
}


def read_manifest(content: bytes) -> Manifest:
    """What the C2PA manifest in an image file is worth; without c2pa-python a manifest is only noticed."""
    if b"c2pa" not in content:
        return Manifest("absent")
    try:
        c2pa = _c2pa()
    except ModisteError as error:
        return Manifest("not read", reason=str(error))
    with Image.open(io.BytesIO(content)) as picture:
        mime = MIMES.get(picture.format or "", "")
    try:
        context = c2pa.Context(settings=c2pa.Settings.from_dict(_SETTINGS))
        reader = c2pa.Reader.try_create(mime, io.BytesIO(content), context=context)
        if reader is None:
            return Manifest("absent")
        with reader:
            store, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError as error:
        return Manifest("invalid", reason=str(error))
    active = store["manifests"][store["active_manifest"]]
    issuer = str(active.get("signature_info", {}).get("issuer", ""))
    actions = [
        action
        for assertion in active.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"].get("actions", [])
    ]
    told = {action.get("digitalSourceType") for action in actions}
    synthetic, in_part = not told.isdisjoint(SOURCE_TYPES), SOURCE_TYPE not in told and not told.isdisjoint(PARTLY)
    if state not in ("Valid", "Trusted"):
        failures = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
        reasons = [failure["code"] for failure in failures if failure["code"] != "signingCredential.untrusted"]
        return Manifest("invalid", synthetic, issuer, ", ".join(reasons), in_part)
    return Manifest("test certificate" if issuer == TEST_NAME else "valid", synthetic, issuer, in_part=in_part)


def _c2pa() -> Any:
    try:
        return importlib.import_module("c2pa")
    except (ImportError, OSError) as error:
        raise ModisteError(
            f"signed manifests need the package c2pa-python ({error}); pip install 'modiste[provenance]'"
        ) from None


def _version() -> str:
    from modiste import __version__

    return __version__


def _own(certificate: Path, private_key: Path) -> tuple[str, str]:
    texts = []
    for path, word in ((certificate, "CERTIFICATE"), (private_key, "PRIVATE KEY")):
        try:
            text = path.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None
        if f"{word}-----" not in text:
            raise UsageError(f"{path} holds no PEM {word.lower()}; give a text file with -----BEGIN ... {word}-----")
        texts.append(text)
    return texts[0], texts[1]


def _algorithm(key: str) -> bytes:
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


def _test_credentials() -> tuple[str, str]:
    """Certificate chain and private key in PEM of this machine's test signer, made on first use."""
    place = cache_root() / "provenance" / "test-signer.pem"
    with suppress(OSError, ValueError):
        return _parted(place.read_bytes())
    content = _make_credentials().encode("ascii")  # none is there yet, or it is damaged
    place.parent.mkdir(parents=True, exist_ok=True)
    writing.write_bytes(place, content, private=True)
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


def _make_credentials() -> str:
    """A private key, its certificate and that of the authority that signed it, as C2PA's profile wants them, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    names = {
        who: x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, TEST_NAME),
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


# verifying


def verify(path: Path, key: str | None = None, *, each: bool = False) -> dict[str, Any]:
    """What a picture, a folder of pictures or IDX files, an .npz or Parquet file says of its making, as JSON values.

    `files`, `images`; `metadata` and `manifests` as counts; `synthetic`, and how many of these `in_part`; with a key
    `watermark`; with `each` the same per image. Pictures inside of Parquet files count as files.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; give a picture, a folder of pictures, an .npz or a Parquet file")
    if path.is_dir() and runs.exists(path):
        raise UsageError(f"{path} is a run, not images; make some with `modiste sample {path} --out images`")
    files, said, opened = _gather(path)
    pixels = opened() if key is not None else None  # without a key pictures may have any size
    report: dict[str, Any] = {"path": str(path), "files": len(said), "images": len(files)}
    report["metadata"] = sum(bool(texts) for texts, _ in said)
    report["manifests"] = dict(Counter(manifest.state for _, manifest in said))
    kinds = Counter(_says(texts, manifest) for texts, manifest in said)
    report["synthetic"], report["in_part"] = kinds["synthetic"] + kinds["in part"], kinds["in part"]
    report["notes"] = sorted({manifest.reason for _, manifest in said if manifest.reason})
    if key is not None and pixels is not None:
        found = watermark.detect(pixels, key)
        report["watermark"] = {
            "p_value": found.p_value,
            "statistic": found.statistic,
            "count": found.count,
            "shift": list(found.shift),
        }
    if each:
        rows: list[dict[str, Any]] = [{"image": file} for file in files]
        if len(said) == len(files):
            for row, (texts, manifest) in zip(rows, said, strict=True):
                row |= {"metadata": texts, "manifest": manifest.state, "issuer": manifest.issuer}
        if key is not None and pixels is not None:
            for row, found in zip(rows, watermark.detect_each(pixels, key), strict=True):
                row["p_value"] = found.p_value
        report["each"] = rows
    return report | {"conclusion": conclusion(report)}


def _says(texts: Mapping[str, str], manifest: Manifest) -> str:
    """What metadata, or else a manifest that holds, says of a file: synthetic, in part, or nothing."""
    if texts:
        return "in part" if texts.get("DigitalSourceType") in PARTLY else "synthetic"
    if not manifest.synthetic or manifest.state == "invalid":
        return ""
    return "in part" if manifest.in_part else "synthetic"


def _gather(path: Path) -> tuple[list[str], list[tuple[dict[str, str], Manifest]], Callable[[], watermark.Pixels]]:
    """A name per image, what each file says, and what gives the pixels."""
    nothing = Manifest("absent")
    if path.is_dir() and (idx := readers.idx_file(path, "train", "images")):
        pixels = readers.read_idx_folder(path, "train").pixels
        return [f"{idx.name}[{k}]" for k in range(len(pixels))], [({}, nothing)], lambda: pixels
    if path.suffix.lower() == ".npz":
        images = readers.read_npz(path, "train").pixels
        texts = {"DigitalSourceType": SOURCE_TYPE} if says_synthetic(path) else {}
        return [f"{path.name}[{k}]" for k in range(len(images))], [(texts, nothing)], lambda: images
    if kept := parquet.files(path):  # read twice, so that never all of the files' bytes are in memory
        names, said = [], []
        for one in parquet.pictures(kept):
            names.append(one.name)
            said.append(_asked(one.content, one))
        return names, said, lambda: np.ascontiguousarray(pictures.stacked(parquet.pictures(kept)))
    if path.is_file() and not pictures.is_picture(path):
        _check_known(path)
    files = [path] if path.is_file() else _pictures(path)
    if not files:
        raise UsageError(f"{path} holds no pictures; give another folder")
    said = [_asked(file.read_bytes(), file) for file in files]
    names = [str(file.relative_to(path)) if path.is_dir() else file.name for file in files]
    return names, said, lambda: np.ascontiguousarray(pictures.stacked(files))


def _check_known(file: Path) -> None:
    """UsageError for a file that is not even the beginning of a picture."""
    try:
        Image.open(file).close()
    except UnidentifiedImageError:
        raise UsageError(
            f"{file} has an unknown format; give a picture, a folder of pictures or of IDX files, an .npz or a "
            ".parquet file"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what is wrong with it is said later
        pass


def says_synthetic(path: Path) -> bool:
    """Whether an .npz file, the first picture in a Parquet file or any in a folder says that it is synthetic."""
    if path.suffix.lower() == ".npz":
        with archives.open_npz(path) as archive:
            return SOURCE_KEY in archive.files and str(archives.entry(archive, SOURCE_KEY, path)) == SOURCE_TYPE
    if path.suffix.lower() == ".parquet":
        return bool(read_metadata(next(parquet.pictures([path])).content))
    for file in _pictures(path):
        with suppress(ModisteError, OSError):  # a broken picture says nothing
            if read_metadata(file.read_bytes()):
                return True
    return False


def _pictures(folder: Path) -> list[Path]:
    return sorted(filter(pictures.is_picture, folder.rglob("*")))


def _asked(content: bytes, place: Path | parquet.Picture) -> tuple[dict[str, str], Manifest]:
    try:
        found = read_metadata(content), read_manifest(content)
    except ModisteError as error:
        raise ModisteError(f"{place}: {error}") from None
    pictures.open_picture(place)  # or an error: what cannot be looked at says nothing of itself
    return found


def conclusion(report: Mapping[str, Any]) -> str:
    """One sentence: what the findings of `verify` allow to say, and what they do not."""
    mark, files = report.get("watermark"), report["files"]
    synthetic, in_part = report["synthetic"], report["in_part"]
    broken = report["manifests"].get("invalid", 0)
    reasons = report["notes"]
    changed = bool(reasons) and all("mismatch" in reason for reason in reasons)
    why = ", so those files were changed after signing" if changed else f" ({'; '.join(reasons) or 'no reason given'})"
    end = f"; {broken:,} of {files:,} manifests are invalid{why}" if broken else ""
    if mark and mark["p_value"] < FOUND:
        return (
            f"the images carry the watermark of this key (p at most {mark['p_value']:.1e} from {mark['count']:,}): "
            f"someone who has the key marked them as synthetic{end}"
        )
    without = f", and this key's watermark is not found (p {mark['p_value']:.2g})" if mark else ""
    if not synthetic:
        hint = "" if mark else "; with --key the pixels are asked too"
        return f"nothing found says that this is synthetic{without}, which does not show that it is real{hint}{end}"
    share = "the file itself says" if files == 1 else f"{synthetic:,} of {files:,} files themselves say"
    signed = report["manifests"].get("valid", 0)
    worth = (
        f"{signed:,} with a signature whose issuer you have to trust"
        if signed
        else "signed with a test certificate, which shows later changes and not who signed"
        if report["manifests"].get("test certificate")
        else "in metadata that anyone can add or remove"
    )
    made = "part of it" if in_part == synthetic else "it or part of it" if in_part else "it"
    return f"{share} that a trained model made {made}, {worth}{without}{end}"
