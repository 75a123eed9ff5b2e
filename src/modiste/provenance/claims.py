"""Claims: what metadata and C2PA manifests say of how a picture was made, as facts.

A source type is a word of IPTC's list (NewsCodes, digital source type), which programs spell in many ways. A manifest
store holds the manifest of a file and those of the pictures that went into it, of which this file is an edited copy
(parentOf) or which are parts of it (componentOf, inputTo): C2PA technical specification 2.1, section 11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
"""Where IPTC's words live; C2PA has words of its own besides."""

Made = Literal["trained model", "in part", "algorithm", "capture", "other"]
Where = Literal["metadata", "manifest", "parent", "component", "elsewhere"]

MADE: dict[str, Made] = {
    "trainedAlgorithmicMedia": "trained model",
    "trainedAlgorithmicData": "trained model",
    "compositeWithTrainedAlgorithmicMedia": "in part",
    "compositeSynthetic": "in part",
    "virtualRecording": "in part",
    "algorithmicMedia": "algorithm",
    "digitalCapture": "capture",
    "computationalCapture": "capture",
    "compositeCapture": "capture",
    "negativeFilm": "capture",
    "positiveFilm": "capture",
    "print": "capture",
    "screenCapture": "other",
    "composite": "other",
    "humanEdits": "other",
    "minorHumanEdits": "other",
    "algorithmicallyEnhanced": "other",
    "digitalCreation": "other",
    "digitalArt": "other",
    "softwareImage": "other",
    "dataDrivenMedia": "other",
    "empty": "other",
}
"""IPTC's and C2PA's words, also those that are retired, and what they say of a picture."""

_CODES = {code.lower(): code for code in MADE}
SYNTHETIC: tuple[Made, ...] = ("trained model", "algorithm", "in part")


@dataclass(frozen=True)
class Claim:
    """A source type that a file gives itself, or a picture that went into it."""

    code: str
    """IPTC's or C2PA's word."""
    made: Made
    """What follows for this file: a part of it where a component was made so."""
    where: Where
    """Whose manifest says so; `elsewhere` is one of the store that nothing in the file points to."""
    issuer: str = ""
    """Who signed that, by his own certificate."""


def code_of(spelled: object) -> str:
    """The IPTC source type that a text names as web address, QCode or bare word, in any case; empty if none."""
    if not isinstance(spelled, str):
        return ""
    return _CODES.get(re.split(r"[/#:]", spelled.strip().rstrip("/#").lower())[-1].strip(), "")


def codes_in_xmp(xmp: str) -> list[str]:
    """The codes of every DigitalSourceType in XMP, as an attribute, an element or a resource, in that order."""
    name = r"(?i:\bDigitalSource(?:File)?Type)"
    patterns = (
        rf"{name}\s*=\s*[\"']([^\"']*)[\"']",
        rf"{name}\b[^>]*?\bresource\s*=\s*[\"']([^\"']*)[\"']",
        rf"<[\w.-]*:?{name}\b[^>]*>\s*([^<]+)",
        rf"{name}\b[^>]*>\s*<rdf:(?:Bag|Seq|Alt)[^>]*>\s*<rdf:li[^>]*>\s*([^<]+)",
    )
    return list(dict.fromkeys(code for one in patterns for found in re.findall(one, xmp) if (code := code_of(found))))


def claims_of_store(store: Mapping[str, Any]) -> tuple[Claim, ...]:
    """The claims in a whole manifest store (c2pa's JSON): the file's own first, then those of what went into it.

    Every manifest is read once as what the file was made from and once as a part of it, so that circles end.
    """
    manifests = {label: one for label, one in store.get("manifests", {}).items() if isinstance(one, dict)}
    todo: list[tuple[str, Where]] = [(str(store.get("active_manifest")), "manifest")]
    seen: set[tuple[str, bool]] = set()
    found: list[Claim] = []
    while todo:
        label, where = todo.pop(0)
        whole = where in ("manifest", "parent")
        if label not in manifests or (label, whole) in seen or (label, True) in seen:
            continue
        seen.add((label, whole))
        found += _of_manifest(manifests[label], where)
        for ingredient in _dicts(manifests[label].get("ingredients")):
            its = _where(ingredient, whole)
            issuer = _issuer(manifests[label])
            found += [_claim(code, its, issuer) for code in _types(_without(ingredient, "validation_results"))]
            for key in ("active_manifest", "c2pa_manifest"):
                todo += [(str(ingredient[key]), its)] if key in ingredient else []
    reached = {label for label, _ in seen}
    for label in sorted(manifests.keys() - reached):  # what nothing points to is read as well
        found += _of_manifest(manifests[label], "elsewhere")
    return tuple(dict.fromkeys(found))


def _of_manifest(manifest: Mapping[str, Any], where: Where) -> Iterator[Claim]:
    """What a manifest says itself. What an edit of an earlier picture added is a part of the file."""
    edits = any(one.get("relationship") == "parentOf" for one in _dicts(manifest.get("ingredients")))
    for assertion in _dicts(manifest.get("assertions")):
        content = assertion.get("data")
        actions = content.get("actions") if isinstance(content, dict) else None
        for action in _dicts(actions):
            added = edits and action.get("action") != "c2pa.created"
            for code in _types(action):
                yield _claim(code, where, _issuer(manifest), part=added)
        rest = _without(content, "actions") if isinstance(content, dict) else content
        for code in _types(rest):
            yield _claim(code, where, _issuer(manifest))


def _claim(code: str, where: Where, issuer: str, part: bool = False) -> Claim:
    made = MADE[code]
    part = part or where not in ("manifest", "parent")
    return Claim(code, "in part" if part and made in SYNTHETIC else made, where, issuer)


def _where(ingredient: Mapping[str, Any], whole: bool) -> Where:
    return "parent" if whole and ingredient.get("relationship") == "parentOf" else "component"


def _issuer(manifest: Mapping[str, Any]) -> str:
    signature = manifest.get("signature_info")
    return str(signature.get("issuer") or "") if isinstance(signature, dict) else ""


def _types(tree: Any) -> list[str]:
    """The codes under every key called digitalSourceType, however deep and with whatever prefix."""
    found, todo = [], [tree]
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            for key, value in one.items():
                if re.split(r"[:/#]", str(key))[-1].lower() == "digitalsourcetype":
                    found += [code for text in _strings(value) if (code := code_of(text))]
                else:
                    todo.append(value)
        elif isinstance(one, list):
            todo += one
    return found


def _strings(value: Any) -> list[Any]:
    """A text, several, or what JSON-LD makes of one: {"@id": text}."""
    several = value if isinstance(value, list) else [value]
    return [text for one in several for text in (one.values() if isinstance(one, dict) else [one])]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _without(tree: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != key}


# what they come to


def is_synthetic(claims: Sequence[Claim]) -> bool:
    """Whether a file is said to be made by a model or an algorithm, or a part of it."""
    return any(claim.made in SYNTHETIC for claim in claims)


def is_in_part(claims: Sequence[Claim]) -> bool:
    """Whether that is said of a part of it only."""
    return is_synthetic(claims) and all(claim.made not in ("trained model", "algorithm") for claim in claims)
