"""Nobody but this machine's user gets in, and nothing comes from or goes to another origin."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from modiste.studio import access, server

HOME = "http://127.0.0.1:8765"


@pytest.fixture
def stranger(folder, entry):
    with TestClient(server.make_app(folder, entry), HOME, follow_redirects=False) as opened:
        yield opened


@pytest.mark.parametrize("path", ["/", "/api/runs", "/static/main.js", "/?token=wrong", "/api/runs?token=wrong"])
def test_without_the_token_nothing_is_shown(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code == 403
    assert answer.text == "open the address that the terminal shows: it lets this browser in\n"


def test_the_token_becomes_a_strict_cookie_and_works_once(stranger, entry):
    announced = []
    entry.announce = announced.append
    first = entry.token
    answer = stranger.get(f"/?token={first}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"modiste-studio-8765={entry.session};")
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert first not in (entry.token, entry.session)
    assert stranger.get("/").status_code == 200
    assert stranger.get(f"/?token={first}").status_code == 303  # the same browser may open it again
    stranger.cookies.clear()
    assert stranger.get(f"/?token={first}").status_code == 403
    assert announced == [entry.address] and entry.token in entry.address
    assert stranger.get(f"/?token={entry.token}").status_code == 303


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "192.168.1.7:8765", "[", ""]
)
def test_a_foreign_host_name_is_refused(client, host):
    assert client.get("/api/runs", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:8765", "[::1]:8765", "localhost:9000"])
def test_this_machine_is_known_by_its_names(client, host):
    assert client.get("/api/runs", headers={"Host": host}).status_code == 200


def test_beyond_loopback_an_address_in_numbers_is_a_host_and_a_domain_is_not():
    wide = access.Access("0.0.0.0", 8765, lambda address: None)
    assert wide.knows_host("192.168.1.7:8765") and wide.knows_host("localhost:8765")
    assert not wide.knows_host("evil.example:8765")
    assert wide.address.startswith("http://127.0.0.1:8765/?token=")


@pytest.mark.parametrize(
    "origin", [None, "http://evil.example", "null", "http://127.0.0.1:3000", "https://127.0.0.1:8765"]
)
def test_a_post_from_another_origin_is_refused(client, origin):
    headers = {} if origin is None else {"Origin": origin}
    del client.headers["Origin"]
    assert client.post("/api/runs", headers=headers).status_code == 403


def test_a_post_from_the_studio_arrives(client):
    assert client.post("/api/runs").status_code == 405  # which has no post


@pytest.mark.parametrize("path", ["/", "/api/runs", "/static/main.js", "/nothing"])
def test_every_answer_keeps_other_origins_out(client, path):
    headers = client.get(path, headers={"Origin": "http://evil.example"}).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd"])
def test_static_files_stay_in_their_folder(client, path):
    assert client.get(path).status_code == 404
