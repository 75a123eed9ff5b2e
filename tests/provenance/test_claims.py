"""What metadata and manifest stores say of a picture's making: every spelling, parents, parts, circles, issuers."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from support import Credentials, make_credentials
from typer.testing import CliRunner

from modiste import files
from modiste.cli import app
from modiste.provenance import c2pa, claims, metadata, verify
from modiste.provenance.claims import Claim
from modiste.sampling import grids

WHOLE = "trainedAlgorithmicMedia"
EDITOR, STUDIO = "Other Atelier", "Studio Example"
OPENED = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["one"]}}


def png(value: int) -> bytes:
    return grids.png(Image.new("L", (28, 28), value))


@pytest.fixture(scope="module")
def editor(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    """Certificates of somebody who made all of them himself."""
    pytest.importorskip("c2pa")
    return make_credentials(tmp_path_factory.mktemp("editor"), EDITOR)


def signed(
    editor: Credentials,
    actions: Sequence[Any] = (),
    ingredients: Sequence[tuple[str, bytes]] = (),
    assertions: Sequence[Any] = (),
) -> bytes:
    """A picture as another program signs it, with these actions, and ingredients as (relationship, PNG file)."""
    library = pytest.importorskip("c2pa")
    chain, key = editor.certificate.read_bytes(), editor.private_key.read_bytes()
    signer = library.Signer.from_info(library.C2paSignerInfo(b"es256", chain, key, None))
    told = [{"label": "c2pa.actions.v2", "data": {"actions": list(actions)}}] if actions else []
    definition = {"claim_generator_info": [{"name": "Editor", "version": "1"}], "assertions": [*told, *assertions]}
    context = library.Context(settings=library.Settings.from_dict(c2pa.SETTINGS))
    builder = library.Builder(json.dumps(definition), context)
    for k, (relationship, content) in enumerate(ingredients):
        about = {"title": f"{k}.png", "relationship": relationship, "instance_id": "one" if not k else f"no {k}"}
        builder.add_ingredient(json.dumps(about), "image/png", io.BytesIO(content))
    done = io.BytesIO()
    builder.sign(signer, "image/png", io.BytesIO(png(90)), done)
    return done.getvalue()


@pytest.fixture(scope="module")
def ours(credentials: Credentials) -> bytes:
    return c2pa.make_signer(credentials.certificate, credentials.private_key)(png(77), {"Title": "ours"})


def verified(content: bytes, folder: Path, **options: Any) -> dict[str, Any]:
    (folder / "picture.png").write_bytes(content)
    return verify.verify(folder / "picture.png", each=True, **options)


def test_a_picture_that_another_program_opened_and_signed(ours: bytes, editor: Credentials, tmp_path: Path) -> None:
    edited = signed(editor, [OPENED, {"action": "c2pa.color_adjustments"}], [("parentOf", ours)])
    assert metadata.read_metadata(edited) == {}  # nothing but the parent's manifest says so
    found = c2pa.read_manifest(edited)
    assert found.claims == (Claim(WHOLE, "trained model", "parent", STUDIO),)
    assert (found.state, found.issuer) == ("self-made", EDITOR)
    report = verified(edited, tmp_path)
    assert (report["synthetic"], report["in_part"], report["by_parent"], report["metadata"]) == (1, 0, 1, 0)
    assert report["issuers"] == [EDITOR] and report["manifests"] == {"self-made": 1}
    assert report["conclusion"].startswith(
        "the file itself says that a trained model made the picture of which it is an edited copy, signed with a "
        "self-made certificate that calls itself Other Atelier, for which nobody vouches"
    )
    told = CliRunner().invoke(app, ["verify", str(tmp_path / "picture.png"), "--each"])
    assert "parent: trainedAlgorithmicMedia" in told.output and "calls itself Other Atelier" in told.output
    again = signed(editor, [OPENED], [("parentOf", edited)])  # and once more
    assert c2pa.read_manifest(again).claims == found.claims
    collage = {"action": "c2pa.created", "digitalSourceType": claims.IPTC + "empty"}
    placed = {"action": "c2pa.placed", "parameters": {"ingredientIds": ["one"]}}
    part = c2pa.read_manifest(signed(editor, [collage, placed], [("componentOf", ours)]))
    assert part.claims[1:] == (Claim(WHOLE, "in part", "component", STUDIO),)
    of_a_part = signed(editor, [OPENED], [("parentOf", png(3)), ("inputTo", edited)])
    assert claims.is_in_part(c2pa.read_manifest(of_a_part).claims)


def test_an_authority_that_is_trusted_makes_the_name_worth_something(
    ours: bytes, editor: Credentials, tmp_path: Path
) -> None:
    edited = signed(editor, [OPENED], [("parentOf", ours)])
    report = verified(edited, tmp_path, trust=editor.authority)
    assert report["manifests"] == {"valid": 1} and not report["issuers"]
    assert "signed by somebody for whom an authority that you trust vouches" in report["conclusion"]
    others = make_credentials(tmp_path / "others", EDITOR)  # of the same name
    assert verified(edited, tmp_path, trust=others.authority)["manifests"] == {"self-made": 1}


def test_a_capture_is_a_claim(ours: bytes, editor: Credentials, tmp_path: Path) -> None:
    taken = {"action": "c2pa.created", "digitalSourceType": claims.IPTC + "digitalCapture"}
    report = verified(signed(editor, [taken]), tmp_path)
    assert (report["synthetic"], report["claims"]) == (0, {"digitalCapture": 1})
    assert "does not show that it is real" in report["conclusion"]
    assert "1 of 1 files claim digitalCapture, which is a claim and no proof" in report["conclusion"]
    told = CliRunner().invoke(app, ["verify", str(tmp_path / "picture.png")])
    assert "1 of 1 files claim digitalCapture, which proves nothing" in told.output
    both = c2pa.read_manifest(signed(editor, [taken], [("parentOf", ours)]))
    assert {claim.made for claim in both.claims} == {"capture", "trained model"} and claims.is_synthetic(both.claims)
    said = PngImagePlugin.PngInfo()
    said.add_text("DigitalSourceType", claims.IPTC + "digitalCapture")
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG", pnginfo=said)
    report = verified(buffer.getvalue(), tmp_path)
    assert (report["synthetic"], report["metadata"], report["claims"]) == (0, 0, {"digitalCapture": 1})


@pytest.mark.parametrize(
    "spelled",
    [
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        "https://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        "HTTPS://CV.IPTC.ORG/newscodes/digitalsourcetype/TRAINEDALGORITHMICMEDIA",
        "http://cv.iptc.org/newscodes/digitalsourcetype/trainedalgorithmicmedia/",
        "http://c2pa.org/digitalsourcetype/trainedAlgorithmicData",
        " digsrctype:trainedAlgorithmicMedia ",
        "TrainedAlgorithmicMedia",
    ],
)
def test_every_spelling(spelled: str, editor: Credentials, tmp_path: Path) -> None:
    action = {"action": "c2pa.created", "digitalSourceType": spelled}
    assert claims.is_synthetic(c2pa.read_manifest(signed(editor, [action])).claims)
    buffers = [io.BytesIO() for _ in range(4)]
    picture, forms = Image.new("RGB", (8, 8)), (
        f'<rdf:Description Iptc4xmpExt:DigitalSourceType="{spelled}"/>',
        f"<rdf:Description><Iptc4xmpExt:digitalsourcetype>\n{spelled}</Iptc4xmpExt:digitalsourcetype></rdf:Description>",
        f"<Iptc4xmpExt:DigitalSourceType rdf:resource='{spelled}'/>",
    )  # fmt: skip
    for buffer, form in zip(buffers, forms, strict=False):
        picture.save(buffer, "JPEG", xmp=form.encode())
        assert claims.codes_in_xmp(form)[0].lower() in spelled.lower()
    said = PngImagePlugin.PngInfo()
    said.add_itxt("XML:com.adobe.xmp", forms[1], zip=True)
    picture.save(buffers[3], "PNG", pnginfo=said)
    for buffer in buffers:
        texts = metadata.read_metadata(buffer.getvalue())
        assert texts["DigitalSourceType"].startswith(claims.IPTC + "trainedAlgorithmic")


def test_words_of_the_list_and_no_others() -> None:
    made = {code: claims.MADE[claims.code_of(claims.IPTC + code.upper())] for code in claims.MADE}
    assert made == claims.MADE
    assert made["algorithmicMedia"] == "algorithm" and made["compositeWithTrainedAlgorithmicMedia"] == "in part"
    for other in (
        "",
        "trainedAlgorithmicMediaNot",
        "media",
        None,
        7,
        "http://cv.iptc.org/newscodes/digitalsourcetype/",
    ):
        assert claims.code_of(other) == ""
    assert claims.codes_in_xmp("<dc:title>trainedAlgorithmicMedia</dc:title>") == []  # a title is no claim
    whole = verify.FileProvenance({"DigitalSourceType": claims.IPTC + "algorithmicMedia"}, c2pa.Manifest("absent"))
    assert verify.conclusion(verify.count_provenance([whole])).startswith(
        "the file itself says that an algorithm made it"
    )


def test_a_part_that_an_edit_added_is_a_part(editor: Credentials) -> None:
    filled = {"action": "c2pa.edited", "digitalSourceType": claims.IPTC + WHOLE}
    found = c2pa.read_manifest(signed(editor, [OPENED, filled], [("parentOf", png(5))]))
    assert claims.is_in_part(found.claims)
    elsewhere = [{"label": "org.example.iptc", "data": {"Iptc4xmpExt:DigitalSourceType": [{"@id": f"iptc:{WHOLE}"}]}}]
    told = c2pa.read_manifest(signed(editor, [OPENED], [("parentOf", png(5))], elsewhere))
    assert [claim.code for claim in told.claims] == [WHOLE]


def test_circles_and_nonsense_in_a_store_end() -> None:
    def manifest(*to: str, kind: str = "parentOf", **more: Any) -> dict[str, Any]:
        return {"ingredients": [{"relationship": kind, "active_manifest": one} for one in to], **more}

    ai = [{"label": "c2pa.actions", "data": {"actions": [{"action": "c2pa.created", "digitalSourceType": WHOLE}]}}]
    store: dict[str, Any] = {"active_manifest": "a", "manifests": {
        "a": manifest("b", "a"), "b": manifest("c", kind="componentOf"), "c": manifest("a", "b", assertions=ai),
        "d": manifest("d", assertions=ai), "e": "no manifest", "f": {"ingredients": 7, "assertions": [3, {"data": []}]},
    }}  # fmt: skip
    assert claims.claims_of_store(store) == (Claim(WHOLE, "in part", "component"), Claim(WHOLE, "in part", "elsewhere"))
    store["manifests"]["a"] = manifest("c", "b")
    assert claims.claims_of_store(store)[0] == Claim(WHOLE, "trained model", "parent")
    deep: Any = WHOLE
    for _ in range(5_000):
        deep = {"more": deep, "DigitalSourceType": WHOLE}
    long = {f"{k}": manifest(f"{k + 1}") for k in range(5_000)}
    long["5000"] = {"assertions": [{"label": "x", "data": deep}]}
    assert claims.claims_of_store({"active_manifest": "0", "manifests": long}) == (
        Claim(WHOLE, "trained model", "parent"),
    )
    assert claims.claims_of_store({"active_manifest": "a", "manifests": {}}) == () == claims.claims_of_store({})


def test_an_edited_copy_changed_after_signing_says_both(ours: bytes, editor: Credentials, tmp_path: Path) -> None:
    edited = signed(editor, [OPENED], [("parentOf", ours)])
    at = edited.index(b"IDAT") - 4
    changed = edited[:at] + files.text_chunk("Comment", "mine") + edited[at:]
    report = verified(changed, tmp_path)
    assert (report["synthetic"], report["manifests"]) == (0, {"invalid": 1})
    assert "1 of 1 manifests are invalid" in report["conclusion"]
    assert report["conclusion"].endswith("1 of which say that the file is synthetic")


def test_an_npz_file_in_another_spelling(tmp_path: Path) -> None:
    for spelled, synthetic in ((f"https://cv.iptc.org/{WHOLE}/", 1), (claims.IPTC + "digitalCapture", 0)):
        np.savez(tmp_path / "set.npz", images=np.zeros((2, 8, 8), np.uint8), digital_source_type=np.array(spelled))
        assert verify.verify(tmp_path / "set.npz")["synthetic"] == synthetic
