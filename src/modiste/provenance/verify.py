"""Whether images are synthetic: what their metadata, their signed manifests and the watermark in their pixels say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from modiste import progress, runs
from modiste.data import idx, image_files, npz, parquet
from modiste.data.decoding import Picture
from modiste.errors import ModisteError, UsageError
from modiste.provenance import c2pa, claims, metadata, watermark
from modiste.provenance.c2pa import Manifest, State
from modiste.provenance.claims import Claim

FOUND = 1e-6
"""Below this p-value a watermark counts as found."""


@dataclass(frozen=True)
class FileProvenance:
    """What the metadata and the manifest of one file say."""

    texts: Mapping[str, str]
    """Its metadata, see `metadata.read_texts`."""
    manifest: Manifest

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Those of the metadata, and of the manifest unless it is invalid."""
        return metadata.claims_of(self.texts) + (self.manifest.claims if self.manifest.state != "invalid" else ())

    @property
    def basis(self) -> State:
        """The state of the manifest that says that the file is synthetic; `absent` where only metadata may say so."""
        signed = claims.is_synthetic(self.manifest.claims) and self.manifest.state != "invalid"
        return self.manifest.state if signed else "absent"

    @property
    def is_by_parent(self) -> bool:
        """Whether only the picture that this one is an edited copy of is said to be synthetic."""
        places = {claim.where for claim in self.claims if claim.made in claims.SYNTHETIC}
        return places == {"parent"}


@dataclass(frozen=True)
class ProvenanceCounts:
    """What `verify` found in all files, as counts of files."""

    files: int
    synthetic: int
    """Files that are said to be made by a model or an algorithm, or to have a part that is."""
    in_part: int
    """Of the synthetic ones, those where only a part is said to be."""
    by_parent: int
    """Of the synthetic ones, edited copies of such a picture that say nothing more themselves."""
    by_algorithm: int
    """Of the synthetic ones, those made by an algorithm that did not learn from pictures."""
    bases: Mapping[State, int]
    """What the synthetic ones rest on, see `FileProvenance.basis`."""
    invalid: int
    """Files with an invalid manifest."""
    changed: int
    """Of these, files that were changed after signing."""
    invalid_synthetic: int
    """Of the invalid manifests, those that say that a file is synthetic which nothing else says of it."""
    reasons: tuple[str, ...]
    """Why manifests are invalid or were not read."""
    others: Mapping[str, int]
    """Source types of files that are not said to be synthetic, as digitalCapture."""
    issuers: tuple[str, ...]
    """Names in certificates that no trusted authority vouches for."""
    mark: watermark.Detection | None = None
    """What was found of the watermark, where a key was given."""


def count_provenance(found: Sequence[FileProvenance], mark: watermark.Detection | None = None) -> ProvenanceCounts:
    """What these files say, counted."""
    synthetic = [file for file in found if claims.is_synthetic(file.claims)]
    others = [file for file in found if not claims.is_synthetic(file.claims)]
    invalid = [file for file in found if file.manifest.state == "invalid"]
    origins = [{claim.made for claim in file.claims if claim.made in claims.SYNTHETIC} for file in synthetic]
    return ProvenanceCounts(
        files=len(found),
        synthetic=len(synthetic),
        in_part=sum(claims.is_in_part(file.claims) for file in synthetic),
        by_parent=sum(file.is_by_parent for file in synthetic),
        by_algorithm=origins.count({"algorithm"}),
        bases=Counter(file.basis for file in synthetic),
        invalid=len(invalid),
        changed=sum(file.manifest.was_changed for file in invalid),
        invalid_synthetic=sum(claims.is_synthetic(file.manifest.claims) for file in invalid if file in others),
        reasons=tuple(sorted({file.manifest.reason for file in found if file.manifest.reason})),
        others=Counter(code for file in others for code in dict.fromkeys(claim.code for claim in file.claims)),
        issuers=tuple(sorted({file.manifest.issuer for file in found if file.manifest.state == "self-made"})),
        mark=mark,
    )


def verify(path: Path, key: str | None = None, *, each: bool = False, trust: Path | None = None) -> dict[str, Any]:
    """What a picture, a folder of pictures or IDX files, an .npz or Parquet file says of its making, as JSON values.

    `files`, `images`; `metadata` and `manifests` as counts; `synthetic`, and how many of these `in_part` and
    `by_parent`; `claims` of files that are not said to be synthetic; `issuers` that nobody vouches for; with a key
    `watermark`; with `each` the same per image; `conclusion`, a sentence. Pictures inside of Parquet files count as
    files. `trust` is a PEM file with the certificates of authorities that are trusted to vouch for who signed.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist; give a picture, a folder of pictures, an .npz or a Parquet file")
    if path.is_dir() and runs.exists(path):
        raise UsageError(f"{path} is a run, not images; make some with `modiste sample {path} --out images`")
    names, found, read_pixels = _read(path, c2pa.read_pem(trust, "CERTIFICATE") if trust else "")
    pixels = None if key is None else read_pixels()  # without a key pictures may have any size
    counts = count_provenance(found, None if key is None or pixels is None else watermark.detect(pixels, key))
    report: dict[str, Any] = {
        "path": str(path),
        "files": counts.files,
        "images": len(names),
        "metadata": sum(claims.is_synthetic(metadata.claims_of(file.texts)) for file in found),
        "manifests": dict(Counter(file.manifest.state for file in found)),
        "synthetic": counts.synthetic,
        "in_part": counts.in_part,
        "by_parent": counts.by_parent,
        "claims": dict(counts.others),
        "issuers": list(counts.issuers),
        "notes": list(counts.reasons),
    }
    if counts.mark:
        report["watermark"] = {**asdict(counts.mark), "shift": list(counts.mark.shift)}
    if each:
        rows: list[dict[str, Any]] = [{"image": name} for name in names]
        if len(found) == len(names):
            for row, file in zip(rows, found, strict=True):
                texts, its_claims = file.texts, metadata.claims_of(file.texts)
                row["metadata"] = dict(texts) if claims.is_synthetic(its_claims) else {}
                row |= {"manifest": file.manifest.state, "issuer": file.manifest.issuer}
                row["claims"] = [asdict(claim) for claim in its_claims + file.manifest.claims]
        if key is not None and pixels is not None:
            for row, detection in zip(rows, watermark.detect_each(pixels, key), strict=True):
                row["p_value"] = detection.p_value
        report["each"] = rows
    return report | {"conclusion": conclusion(counts)}


@progress.stage("reading what the files say of their origin")
def _read(path: Path, trust_anchors: str) -> tuple[list[str], list[FileProvenance], Callable[[], watermark.Pixels]]:
    """A name per image, what each file says, and a function that gives the pixels."""
    if path.is_dir() and (file := idx.idx_file(path, "train", "images")):
        pixels = idx.read_idx_folder(path, "train").pixels
        names = [f"{file.name}[{k}]" for k in range(len(pixels))]
        return names, [FileProvenance({}, Manifest("absent"))], lambda: pixels
    if path.suffix.lower() == ".npz":
        pixels = npz.read_arrays(path, "train").pixels
        names = [f"{path.name}[{k}]" for k in range(len(pixels))]
        texts = {"DigitalSourceType": metadata.SOURCE_TYPE} if metadata.says_synthetic(path) else {}
        return names, [FileProvenance(texts, Manifest("absent"))], lambda: pixels
    if parts := parquet.files(path):  # read twice, so that never all of the files' bytes are in memory
        names, found = [], []
        for picture in parquet.pictures(parts):
            names.append(picture.name)
            found.append(_read_picture(picture.content, picture, trust_anchors))
        return names, found, lambda: np.ascontiguousarray(image_files.read_pixels(parquet.pictures(parts))[0])
    if path.is_file() and not image_files.is_picture(path):
        _check_known(path)
    files = [path] if path.is_file() else metadata.list_pictures(path)
    if not files:
        raise UsageError(f"{path} holds no pictures; give another folder")
    found = [_read_picture(file.read_bytes(), file, trust_anchors) for file in files]
    names = [str(file.relative_to(path)) if path.is_dir() else file.name for file in files]
    return names, found, lambda: np.ascontiguousarray(image_files.read_pixels(files)[0])


def _check_known(file: Path) -> None:
    """UsageError for a file that does not even begin like a picture."""
    try:
        Image.open(file).close()
    except UnidentifiedImageError:
        raise UsageError(
            f"{file} has an unknown format; give a picture, a folder of pictures or of IDX files, an .npz or a "
            ".parquet file"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # reading it gives a better message
        pass


def _read_picture(content: bytes, place: Picture, trust_anchors: str) -> FileProvenance:
    try:
        found = FileProvenance(metadata.read_texts(content), c2pa.read_manifest(content, trust_anchors))
    except ModisteError as error:
        raise ModisteError(f"{place}: {error}") from None
    image_files.open_picture(place)  # an error where the picture itself cannot be decoded
    return found


# the findings in words


def conclusion(counts: ProvenanceCounts) -> str:
    """One sentence: what the findings allow to say, and what they do not."""
    end, mark = _about_invalid(counts), counts.mark
    if mark and mark.p_value < FOUND:
        return (
            f"the images carry the watermark of this key (p at most {mark.p_value:.1e} from {mark.count:,}): someone "
            f"who has the key marked them as synthetic{end}"
        )
    without = f", and this key's watermark is not found (p {mark.p_value:.2g})" if mark else ""
    if not counts.synthetic:
        hint = "" if mark else "; with --key the pixels are asked too"
        others = "".join(
            f"; {count:,} of {counts.files:,} files claim {code}, which is a claim and no proof: anyone can write it"
            for code, count in counts.others.items()
        )
        return (
            f"nothing found says that this is synthetic{without}, which does not show that it is real"
            f"{others}{hint}{end}"
        )
    who = f"{counts.synthetic:,} of {counts.files:,} files themselves say"
    who = "the file itself says" if counts.files == 1 else who
    return f"{who} that {_origin(counts)}, {_basis(counts)}{without}{end}"


def _origin(counts: ProvenanceCounts) -> str:
    maker = "an algorithm" if counts.by_algorithm == counts.synthetic else "a trained model"
    maker += " or another algorithm" if 0 < counts.by_algorithm < counts.synthetic else ""
    if counts.by_parent == counts.synthetic:
        return f"{maker} made the picture of which it is an edited copy"
    if counts.in_part == counts.synthetic:
        return f"{maker} made part of it"
    return f"{maker} made it or part of it" if counts.in_part else f"{maker} made it"


def _basis(counts: ProvenanceCounts) -> str:
    """What the claims rest on, the best first."""
    named = f" that calls itself {' or '.join(counts.issuers)}" if counts.issuers and all(counts.issuers) else ""
    words: dict[State, str] = {
        "valid": "signed by somebody for whom an authority that you trust vouches",
        "self-made": f"signed with a self-made certificate{named}, for which nobody vouches: it shows later changes "
        "and not who signed",
        "absent": "in metadata that anyone can add or remove",
    }
    parts = [(counts.bases[state], text) for state, text in words.items() if counts.bases.get(state)]
    return "; ".join(f"{count:,} {text}" if len(parts) > 1 else text for count, text in parts)


def _about_invalid(counts: ProvenanceCounts) -> str:
    if not counts.invalid:
        return ""
    why = f" ({'; '.join(counts.reasons) or 'no reason given'})"
    why = ", so those files were changed after signing" if counts.changed == counts.invalid else why
    synthetic = counts.invalid_synthetic
    also = f", {synthetic:,} of which say that the file is synthetic" if synthetic else ""
    return f"; {counts.invalid:,} of {counts.files:,} manifests are invalid{why}{also}"
