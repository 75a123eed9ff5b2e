"""Products are made by their command and come down as one file."""

from __future__ import annotations

import io
import shutil
import zipfile

import pytest
from support import open_part, wait_for_command

from modiste.provenance import metadata


@pytest.mark.parametrize("product", ["nothing", "../small", "%2e%2e", 3, None])
def test_only_the_products_are_made_and_fetched(client, ids, product):
    answer = client.post(f"/api/runs/{ids['small']}/products", json={"product": product})
    assert answer.status_code == 400 and "there is no such product" in answer.json()["error"]
    assert client.get(f"/api/runs/{ids['small']}/products/{product}").status_code in (400, 404)
    assert client.get(f"/api/runs/{ids['small']}/products/onnx").json() == {
        "error": "this is not made yet; make it first"
    }


def test_samples_come_as_a_zip_with_their_provenance(client, ids, folder):
    offered = client.get(f"/api/runs/{ids['small']}/products").json()
    assert not offered["samples"]["made"] and offered["samples"]["command"].startswith("modiste sample ")
    client.post(f"/api/runs/{ids['small']}/products", json={"product": "samples"})
    job = wait_for_command(client)
    assert job["code"] == 0, job["output"]
    assert client.get(f"/api/runs/{ids['small']}/products").json()["samples"]["made"]
    answer = client.get(f"/api/runs/{ids['small']}/products/samples")
    assert 'filename="small-samples.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        names = packed.namelist()
        pictures = [name for name in names if name.endswith(".png")]
        assert len(pictures) == 1000 and "samples/README.md" in names
        assert metadata.read_metadata(packed.read(pictures[0]))["Synthetic"] == "true"


def test_a_report_is_served_under_a_policy_without_scripts(client, ids, folder):
    (folder / "small" / "report.html").write_text("<script>alert(1)</script>", encoding="utf-8")
    answer = client.get(f"/api/runs/{ids['small']}/products/report")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "sandbox" in policy and "script" not in policy


def test_in_the_browser(page, folder):
    shutil.copytree(folder / "small" / "samples", folder / "small" / "onnx")
    open_part(page, "take-away")
    page.wait_for_selector("[data-product=onnx] a")
    with page.expect_download() as download:
        page.click("[data-product=onnx] a")
    assert download.value.suggested_filename == "small-onnx.zip"
    page.click("[data-product=samples] button:has-text('Make')")
    page.wait_for_selector("[data-product=samples] a", timeout=120_000)
