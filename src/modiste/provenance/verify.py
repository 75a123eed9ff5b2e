"""What a file says of its own making: PNG metadata, a signed C2PA manifest, and how to read both back.

Metadata says it to programs that ask, and anyone can remove or add it. A C2PA manifest (Content Credentials, C2PA
technical specification 2.1) is signed, so that a change of the file shows; who signed is as certain as the certificate.
By default that is one made on this machine, which proves nothing about who signed. Both can be cut off; what stays in
the pixels is `watermark`.
"""

from __future__ import annotations

import importlib
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image, UnidentifiedImageError

from modiste import files as safe_files
from modiste import progress, runs
from modiste.data import archives, parquet, pictures, readers
from modiste.errors import ModisteError, UsageError
from modiste.provenance import certificates, claims, watermark
from modiste.provenance.certificates import TEST_NAME, read_pem
from modiste.provenance.claims import Claim

SOURCE_TYPE = claims.IPTC + "trainedAlgorithmicMedia"
"""IPTC's word for media made by a trained model (NewsCodes, digital source type); also what C2PA asks for."""
COMPOSITE_TYPE = claims.IPTC + "compositeWithTrainedAlgorithmicMedia"
"""IPTC's word for a picture in which such media stand beside others."""
SOURCE_KEY = safe_files.SOURCE_KEY
FOUND = 1e-6
"""Below this p-value a watermark counts as found."""
MIMES = {
    "PNG": "image/png", "JPEG": "image/jpeg", "MPO": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif",
    "TIFF": "image/tiff", "AVIF": "image/avif", "HEIF": "image/heif",
}  # fmt: skip

State = Literal["absent", "valid", "self-made", "test certificate", "invalid", "not read"]
"""A manifest is valid where an authority that is trusted vouches for who signed, and self-made where none does."""
Signer = Callable[[bytes, Mapping[str, str]], bytes]
"""From a PNG file and facts about it to the PNG file that carries them."""


# metadata


def stamp(png: bytes, facts: Mapping[str, str], source_type: str = SOURCE_TYPE) -> bytes:
    """The PNG file with these facts, `Synthetic: true`, and the digital source type also as XMP; pixels untouched.

    With COMPOSITE_TYPE it says `Synthetic: in part`.
    """
    texts = {
        "Software": safe_files.MARK,
        "Synthetic": "true" if claims.MADE[claims.code_of(source_type)] == "trained model" else "in part",
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
    chunks = b"".join(safe_files.text_chunk(key, text) for key, text in texts.items())
    return png[: safe_files.PNG_HEAD] + chunks + png[safe_files.PNG_HEAD :]


def read_metadata(content: bytes) -> dict[str, str]:
    """The texts of an image file that says it is synthetic, in any program's way that Modiste knows; else none."""
    texts = read_texts(content)
    return texts if claims.is_synthetic(claims_of(texts)) else {}


def read_texts(content: bytes) -> dict[str, str]:
    """The texts of an image file; what they say of its source, wherever, stands at DigitalSourceType as IPTC's address.

    Of several words one that says that a trained model made it, or a part of it, goes first.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            info = dict(picture.info)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ModisteError(f"this is no readable picture ({reason}); replace or remove it") from None
    xmp = info.pop("xmp", b"")
    xmp = info.pop("XML:com.adobe.xmp", "") or xmp
    comment = info.get("comment", b"")  # GIF files have no other place for words
    said = str(comment, "latin-1") if isinstance(comment, bytes) else str(comment)
    texts = {str(key): str(text) for key, text in info.items() if isinstance(text, str)}
    named = [text for key, text in texts.items() if key.rpartition(":")[2].lower() == "digitalsourcetype"]
    codes = [code for text in [*named, *said.splitlines()] if (code := claims.code_of(text))]
    codes += claims.said_in_xmp(_decoded(xmp) if isinstance(xmp, bytes) else str(xmp))
    codes.sort(key=lambda code: claims.MADE[code] not in claims.SYNTHETIC)
    return {**texts, "DigitalSourceType": claims.IPTC + codes[0]} if codes else texts


def _decoded(xmp: bytes) -> str:
    """XMP as text: UTF-8, or UTF-16 where every other byte of its beginning is zero."""
    code = "utf-16-le" if xmp[1:8:2].strip(b"\0") == b"" and len(xmp) > 8 else "utf-8"
    code = "utf-16-be" if xmp[0:8:2].strip(b"\0") == b"" and len(xmp) > 8 else code
    return xmp.decode("utf-16" if xmp[:2] in (b"\xff\xfe", b"\xfe\xff") else code, "replace")


def claims_of(texts: Mapping[str, str]) -> tuple[Claim, ...]:
    """What such texts say of how the file was made."""
    codes = [claims.code_of(texts.get("DigitalSourceType", ""))]
    plain = {"true": "trainedAlgorithmicMedia", "in part": "compositeWithTrainedAlgorithmicMedia"}
    codes += [plain.get(texts.get("Synthetic", "").lower(), "")] if not codes[0] else []
    return tuple(Claim(code, claims.MADE[code], "metadata") for code in codes if code)


# manifests


@dataclass(frozen=True)
class Manifest:
    """What a file's C2PA manifest is worth, and what it and those of the pictures that went into the file say."""

    state: State
    claims: tuple[Claim, ...] = ()
    issuer: str = ""
    """The name in the certificate that it was signed with, which proves something where the state is valid."""
    reason: str = ""


def make_signer(certificate: Path | None = None, private_key: Path | None = None) -> Signer:
    """A function that stamps and then signs PNG files, with these PEM files (the certificate's chain, signer first).

    Without them a test certificate is made once on this machine and kept in Modiste's cache.
    """
    c2pa = _c2pa()
    if (certificate is None) != (private_key is None):
        raise UsageError("--certificate and --private-key belong together; give both, or none for a test certificate")
    chain, key = (
        (read_pem(certificate, "CERTIFICATE"), read_pem(private_key, "PRIVATE KEY"))
        if certificate and private_key
        else certificates.test_credentials()
    )
    try:
        signer = c2pa.Signer.from_info(
            c2pa.C2paSignerInfo(certificates.algorithm(key), chain.encode(), key.encode(), None)
        )
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


def read_manifest(content: bytes, anchors: str = "") -> Manifest:
    """What the C2PA manifest in an image file is worth; without c2pa-python a manifest is only noticed.

    `anchors` are the certificates (PEM) of authorities that are trusted to vouch for who signed.
    """
    if b"c2pa" not in content:
        return Manifest("absent")
    try:
        c2pa = _c2pa()
    except ModisteError as error:
        return Manifest("not read", reason=str(error))
    with Image.open(io.BytesIO(content)) as picture:
        mime = MIMES.get(picture.format or "", "")
    if not mime:
        return Manifest("not read", reason=f"manifests in {picture.format} files are not read")
    try:
        trust = {"trust": {"trust_anchors": anchors}} if anchors else {}
        context = c2pa.Context(settings=c2pa.Settings.from_dict({**_SETTINGS, **trust}))
        reader = c2pa.Reader.try_create(mime, io.BytesIO(content), context=context)
        if reader is None:
            return Manifest("absent")
        with reader:
            store, state = json.loads(reader.json()), reader.get_validation_state()
    except c2pa.C2paError as error:
        return Manifest("invalid", reason=str(error))
    active = store["manifests"][store["active_manifest"]]
    issuer = str(active.get("signature_info", {}).get("issuer") or "")
    said = claims.of_store(store)
    if state not in ("Valid", "Trusted"):
        results = store.get("validation_results", {})
        deltas = [one.get("validationDeltas", {}) for one in results.get("ingredientDeltas") or []]
        failures = [
            failure for one in (results.get("activeManifest", {}), *deltas) for failure in one.get("failure", [])
        ]
        reasons = dict.fromkeys(failure["code"] for failure in failures)
        reasons.pop("signingCredential.untrusted", None)
        return Manifest("invalid", said, issuer, ", ".join(reasons))
    if state == "Trusted":
        return Manifest("valid", said, issuer)
    return Manifest("test certificate" if issuer == TEST_NAME else "self-made", said, issuer)


def _c2pa() -> Any:
    try:
        return importlib.import_module("c2pa")
    except (ImportError, OSError) as error:
        raise ModisteError(
            f"signed manifests need the package c2pa-python ({error}); pip install 'modiste[provenance]'"
        ) from None


def _version() -> str:
    from modiste.version import __version__

    return __version__


# verifying


@dataclass(frozen=True)
class FileProvenance:
    """What one file says of itself."""

    texts: Mapping[str, str]
    """Its metadata."""
    manifest: Manifest

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What metadata and a manifest that holds say."""
        return claims_of(self.texts) + (self.manifest.claims if self.manifest.state != "invalid" else ())

    @property
    def basis(self) -> State:
        """What the claims of synthetic making rest on: the state of the manifest that has one, or `absent`."""
        signed = claims.is_synthetic(self.manifest.claims) and self.manifest.state != "invalid"
        return self.manifest.state if signed else "absent"

    @property
    def is_by_parent(self) -> bool:
        """Whether only the picture that this one is an edited copy of is said to be synthetic."""
        makers = {claim.where for claim in self.claims if claim.made in claims.SYNTHETIC}
        return bool(makers) and makers <= {"parent"}


@dataclass(frozen=True)
class ProvenanceCounts:
    """What `verify` found in all files, as counts of files."""

    files: int
    synthetic: int
    """That are said to be made by a model or an algorithm, or a part of them."""
    in_part: int
    """Of these, those where it is a part."""
    by_parent: int
    """Of these, those that are edited copies of such a picture and say nothing more themselves."""
    by_algorithm: int
    """Of these, those that were made by an algorithm that did not learn from pictures."""
    bases: Mapping[State, int]
    """What these claims rest on, see `Said.basis`."""
    broken: int
    """Manifests that do not hold."""
    broken_synthetic: int
    """Of these, those that say so of files that otherwise do not."""
    reasons: tuple[str, ...]
    """Why they do not hold, or were not read."""
    others: Mapping[str, int]
    """Source types of files that are not said to be synthetic, as digitalCapture."""
    issuers: tuple[str, ...]
    """Names in certificates that no trusted authority vouches for."""
    mark: Mapping[str, Any] | None = None
    """The watermark's p-value and count, where a key was given."""


def count_provenance(said: Sequence[FileProvenance], mark: Mapping[str, Any] | None = None) -> ProvenanceCounts:
    """What the files say, counted."""
    synthetic = [one for one in said if claims.is_synthetic(one.claims)]
    broken = [one for one in said if one.manifest.state == "invalid"]
    others = [one for one in said if not claims.is_synthetic(one.claims)]
    makers = [{claim.made for claim in one.claims if claim.made in claims.SYNTHETIC} for one in synthetic]
    return ProvenanceCounts(
        files=len(said),
        synthetic=len(synthetic),
        in_part=sum(claims.is_in_part(one.claims) for one in synthetic),
        by_parent=sum(one.is_by_parent for one in synthetic),
        by_algorithm=makers.count({"algorithm"}),
        bases=Counter(one.basis for one in synthetic),
        broken=len(broken),
        broken_synthetic=sum(claims.is_synthetic(one.manifest.claims) for one in broken if one in others),
        reasons=tuple(sorted({one.manifest.reason for one in said if one.manifest.reason})),
        others=Counter(code for one in others for code in dict.fromkeys(claim.code for claim in one.claims)),
        issuers=tuple(sorted({one.manifest.issuer for one in said if one.manifest.state == "self-made"})),
        mark=mark,
    )


def verify(path: Path, key: str | None = None, *, each: bool = False, trust: Path | None = None) -> dict[str, Any]:
    """What a picture, a folder of pictures or IDX files, an .npz or Parquet file says of its making, as JSON values.

    `files`, `images`; `metadata` and `manifests` as counts; `synthetic`, and how many of these `in_part` and
    `by_parent`; `claims` of files that are not said to be synthetic; `issuers` that nobody vouches for; with a key
    `watermark`; with `each` the same per image. Pictures inside of Parquet files count as files. `trust` is a PEM file
    with the certificates of authorities that are trusted to vouch for who signed.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; give a picture, a folder of pictures, an .npz or a Parquet file")
    if path.is_dir() and runs.exists(path):
        raise UsageError(f"{path} is a run, not images; make some with `modiste sample {path} --out images`")
    files, said, opened = _gather(path, read_pem(trust, "CERTIFICATE") if trust else "")
    pixels = opened() if key is not None else None  # without a key pictures may have any size
    mark = None
    if key is not None and pixels is not None:
        seen = watermark.detect(pixels, key)
        mark = {
            "p_value": seen.p_value,
            "statistic": seen.statistic,
            "count": seen.count,
            "shift": list(seen.shift),
        }
    found = count_provenance(said, mark)
    report: dict[str, Any] = {
        "path": str(path),
        "files": found.files,
        "images": len(files),
        "metadata": sum(claims.is_synthetic(claims_of(one.texts)) for one in said),
        "manifests": dict(Counter(one.manifest.state for one in said)),
        "synthetic": found.synthetic,
        "in_part": found.in_part,
        "by_parent": found.by_parent,
        "claims": dict(found.others),
        "issuers": list(found.issuers),
        "notes": list(found.reasons),
        **({"watermark": mark} if mark else {}),
    }
    if each:
        rows: list[dict[str, Any]] = [{"image": file} for file in files]
        if len(said) == len(files):
            for row, one in zip(rows, said, strict=True):
                texts = one.texts if claims.is_synthetic(claims_of(one.texts)) else {}
                row |= {"metadata": dict(texts), "manifest": one.manifest.state, "issuer": one.manifest.issuer}
                row["claims"] = [asdict(claim) for claim in claims_of(one.texts) + one.manifest.claims]
        if key is not None and pixels is not None:
            for row, seen in zip(rows, watermark.detect_each(pixels, key), strict=True):
                row["p_value"] = seen.p_value
        report["each"] = rows
    return report | {"conclusion": conclusion(found)}


@progress.stage("asking files for their origin")
def _gather(path: Path, anchors: str) -> tuple[list[str], list[FileProvenance], Callable[[], watermark.Pixels]]:
    """A name per image, what each file says, and what gives the pixels."""
    nothing = Manifest("absent")
    if path.is_dir() and (idx := readers.idx_file(path, "train", "images")):
        pixels = readers.read_idx_folder(path, "train").pixels
        return [f"{idx.name}[{k}]" for k in range(len(pixels))], [FileProvenance({}, nothing)], lambda: pixels
    if path.suffix.lower() == ".npz":
        images = readers.read_npz(path, "train").pixels
        texts = {"DigitalSourceType": SOURCE_TYPE} if says_synthetic(path) else {}
        return [f"{path.name}[{k}]" for k in range(len(images))], [FileProvenance(texts, nothing)], lambda: images
    if kept := parquet.files(path):  # read twice, so that never all of the files' bytes are in memory
        names, said = [], []
        for one in parquet.pictures(kept):
            names.append(one.name)
            said.append(_asked(one.content, one, anchors))
        return names, said, lambda: np.ascontiguousarray(pictures.stacked(parquet.pictures(kept)))
    if path.is_file() and not pictures.is_picture(path):
        _check_known(path)
    files = [path] if path.is_file() else _pictures(path)
    if not files:
        raise UsageError(f"{path} holds no pictures; give another folder")
    said = [_asked(file.read_bytes(), file, anchors) for file in files]
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
            code = claims.code_of(str(archives.entry(archive, SOURCE_KEY, path))) if SOURCE_KEY in archive.files else ""
            return code != "" and claims.MADE[code] in claims.SYNTHETIC
    if path.suffix.lower() == ".parquet":
        return bool(read_metadata(next(parquet.pictures([path])).content))
    for file in _pictures(path):
        with suppress(ModisteError, OSError):  # a broken picture says nothing
            if read_metadata(file.read_bytes()):
                return True
    return False


def _pictures(folder: Path) -> list[Path]:
    return sorted(filter(pictures.is_picture, folder.rglob("*")))


def _asked(content: bytes, place: Path | parquet.Picture, anchors: str) -> FileProvenance:
    try:
        found = FileProvenance(read_texts(content), read_manifest(content, anchors))
    except ModisteError as error:
        raise ModisteError(f"{place}: {error}") from None
    pictures.open_picture(place)  # or an error: what cannot be looked at says nothing of itself
    return found


def conclusion(found: ProvenanceCounts) -> str:
    """One sentence: what the findings allow to say, and what they do not."""
    end = _about_broken(found)
    if found.mark and found.mark["p_value"] < FOUND:
        return (
            f"the images carry the watermark of this key (p at most {found.mark['p_value']:.1e} from "
            f"{found.mark['count']:,}): someone who has the key marked them as synthetic{end}"
        )
    without = f", and this key's watermark is not found (p {found.mark['p_value']:.2g})" if found.mark else ""
    if not found.synthetic:
        hint = "" if found.mark else "; with --key the pixels are asked too"
        real = "; ".join(
            f"{count:,} of {found.files:,} files claim {code}, which is a claim and no proof: anyone can write it"
            for code, count in found.others.items()
        )
        told = f"; {real}" if real else ""
        return (
            f"nothing found says that this is synthetic{without}, which does not show that it is real{told}{hint}{end}"
        )
    share = (
        "the file itself says" if found.files == 1 else f"{found.synthetic:,} of {found.files:,} files themselves say"
    )
    return f"{share} that {_made(found)}, {_worth(found)}{without}{end}"


def _made(found: ProvenanceCounts) -> str:
    maker = "an algorithm" if found.by_algorithm == found.synthetic else "a trained model"
    maker += " or another algorithm" if 0 < found.by_algorithm < found.synthetic else ""
    if found.by_parent == found.synthetic:
        return f"{maker} made the picture of which it is an edited copy"
    if found.in_part == found.synthetic:
        return f"{maker} made part of it"
    return f"{maker} made it or part of it" if found.in_part else f"{maker} made it"


def _worth(found: ProvenanceCounts) -> str:
    """What the claims rest on, the best first."""
    named = f" that calls itself {' or '.join(found.issuers)}" if found.issuers and all(found.issuers) else ""
    words: dict[State, str] = {
        "valid": "signed by somebody for whom an authority that you trust vouches",
        "self-made": f"signed with a self-made certificate{named}, for which nobody vouches: it shows later changes "
        "and not who signed",
        "test certificate": "signed with a test certificate, which shows later changes and not who signed",
        "absent": "in metadata that anyone can add or remove",
    }
    told = {words[basis]: found.bases[basis] for basis in words if found.bases.get(basis)}
    return "; ".join(f"{count:,} {text}" if len(told) > 1 else text for text, count in told.items())


def _about_broken(found: ProvenanceCounts) -> str:
    if not found.broken:
        return ""
    changed = bool(found.reasons) and all("mismatch" in reason for reason in found.reasons)
    why = f" ({'; '.join(found.reasons) or 'no reason given'})"
    why = ", so those files were changed after signing" if changed else why
    also = f", {found.broken_synthetic:,} of which say that the file is synthetic" if found.broken_synthetic else ""
    return f"; {found.broken:,} of {found.files:,} manifests are invalid{why}{also}"
