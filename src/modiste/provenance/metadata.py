"""What the metadata of an image file says of how it was made: written into PNG files, and read from any format.

Programs that ask for metadata find it; anyone can remove or add it. What is signed is in `c2pa`, and what stays in the
pixels in `watermark`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from xml.sax.saxutils import quoteattr

from PIL import Image, UnidentifiedImageError

from modiste import files
from modiste.data import image_files, npz, parquet
from modiste.errors import ModisteError
from modiste.provenance import claims
from modiste.provenance.claims import Claim

SOURCE_TYPE = claims.IPTC + "trainedAlgorithmicMedia"
"""IPTC's term for media made by a trained model (NewsCodes, digital source type); also what C2PA asks for."""
COMPOSITE_TYPE = claims.IPTC + "compositeWithTrainedAlgorithmicMedia"
"""IPTC's term for a picture in which such media stand beside others."""
PNG_XMP = "XML:com.adobe.xmp"
"""The keyword under which a PNG file keeps XMP."""

Marker = Callable[[bytes, Mapping[str, str]], bytes]
"""From a PNG file and facts about it to the PNG file that carries them: `stamp`, or a signer of `c2pa.make_signer`."""


def stamp(png: bytes, facts: Mapping[str, str], source_type: str = SOURCE_TYPE) -> bytes:
    """The PNG file with these facts, `Synthetic: true`, and the digital source type also as XMP; pixels unchanged.

    With COMPOSITE_TYPE it says `Synthetic: in part`.
    """
    texts = {
        "Software": files.MARK,
        "Synthetic": "true" if claims.MADE[claims.code_of(source_type)] == "trained model" else "in part",
        "DigitalSourceType": source_type,
        **facts,
        PNG_XMP: (
            '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
            '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
            'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
            f"Iptc4xmpExt:DigitalSourceType={quoteattr(source_type)}/></rdf:RDF></x:xmpmeta>"
            '<?xpacket end="w"?>'
        ),
    }
    chunks = b"".join(files.text_chunk(key, text) for key, text in texts.items())
    return png[: files.PNG_HEAD] + chunks + png[files.PNG_HEAD :]


def read_metadata(content: bytes) -> dict[str, str]:
    """The texts of an image file if they say that it is synthetic, in any spelling that Modiste knows; else none."""
    texts = read_texts(content)
    return texts if claims.is_synthetic(claims_of(texts)) else {}


def read_texts(content: bytes) -> dict[str, str]:
    """The texts of an image file; its source type, wherever the file has it, is under DigitalSourceType.

    Of several source types one that says that a trained model made it, or a part of it, goes first. ModisteError for
    what is no readable picture.
    """
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            info = dict(picture.info)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
        raise ModisteError(f"this is no readable picture ({reason}); replace or remove it") from None
    xmp = info.pop("xmp", b"")
    xmp = info.pop(PNG_XMP, "") or xmp
    comment = info.get("comment", b"")  # GIF files have no other place for text
    comment = str(comment, "latin-1") if isinstance(comment, bytes) else str(comment)
    texts = {str(key): str(text) for key, text in info.items() if isinstance(text, str)}
    named = [text for key, text in texts.items() if key.rpartition(":")[2].lower() == "digitalsourcetype"]
    codes = [code for text in [*named, *comment.splitlines()] if (code := claims.code_of(text))]
    codes += claims.codes_in_xmp(_decode_xmp(xmp) if isinstance(xmp, bytes) else str(xmp))
    codes.sort(key=lambda code: claims.MADE[code] not in claims.SYNTHETIC)
    return {**texts, "DigitalSourceType": claims.IPTC + codes[0]} if codes else texts


def _decode_xmp(xmp: bytes) -> str:
    """XMP as text: UTF-8, or UTF-16 where every other one of its first bytes is zero."""
    code = "utf-16-le" if xmp[1:8:2].strip(b"\0") == b"" and len(xmp) > 8 else "utf-8"
    code = "utf-16-be" if xmp[0:8:2].strip(b"\0") == b"" and len(xmp) > 8 else code
    return xmp.decode("utf-16" if xmp[:2] in (b"\xff\xfe", b"\xfe\xff") else code, "replace")


def claims_of(texts: Mapping[str, str]) -> tuple[Claim, ...]:
    """What the texts of `read_texts` say of how the file was made."""
    code = claims.code_of(texts.get("DigitalSourceType", ""))
    if not code:
        short = {"true": "trainedAlgorithmicMedia", "in part": "compositeWithTrainedAlgorithmicMedia"}
        code = short.get(texts.get("Synthetic", "").lower(), "")
    return (Claim(code, claims.MADE[code], "metadata"),) if code else ()


def says_synthetic(path: Path) -> bool:
    """Whether an .npz file, the first picture in a Parquet file or any in a folder says that it is synthetic."""
    if path.suffix.lower() == ".npz":
        with npz.open_npz(path) as archive:
            if files.SOURCE_KEY not in archive.files:
                return False
            code = claims.code_of(str(npz.read_array(archive, files.SOURCE_KEY, path)))
            return code != "" and claims.MADE[code] in claims.SYNTHETIC
    if path.suffix.lower() == ".parquet":
        return bool(read_metadata(next(parquet.pictures([path])).content))
    for file in list_pictures(path):
        with suppress(ModisteError, OSError):  # a broken picture says nothing
            if read_metadata(file.read_bytes()):
                return True
    return False


def list_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder and its sub-folders, by path."""
    return sorted(filter(image_files.is_picture, folder.rglob("*")))
