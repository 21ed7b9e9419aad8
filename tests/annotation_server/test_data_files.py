"""A large dashboard's data, in files beside it: exactly those are served, and nothing else that lies there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Generator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.annotation_server.service import Service, running, stop

NAME = "layer-03-0f9ac1.js"
CONTENT = "loradash.take('π');\n".encode()
SECRET = b"secret"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a page's data, and with much else that is not to be had."""
    folder = tmp_path_factory.mktemp("place")
    data = folder / "page_data"
    (data / "inner").mkdir(parents=True)
    (data / "directory.js").mkdir()
    (data / NAME).write_bytes(CONTENT)
    secrets = ["secret.js", "page_data.js", "page_data/x.json", "page_data/UPPER.js", "page_data/a_b.js"]
    secrets += ["page_data/é.js", "page_data/a b.js", "page_data/.js", "page_data/a.b.js", "page_data/inner/x.js"]
    secrets += [f"page_data/{'x' * 81}.js", "page_data/end.js\n", "other_data/x.js", "page.html_data/x.js"]
    for secret in secrets:
        (folder / secret).parent.mkdir(exist_ok=True)
        (folder / secret).write_bytes(SECRET)
    (data / "link.js").symlink_to(folder / "secret.js")
    (data / "inside.js").symlink_to(data / NAME)
    (data / "dangling.js").symlink_to("nowhere")
    os.mkfifo(data / "pipe.js")
    return folder


@pytest.fixture(scope="module")
def serving(place: Path) -> Generator[Service]:
    with running(place) as service:
        yield service


def test_a_data_file_is_served_to_be_kept_for_ever(serving: Service) -> None:
    reply = serving.request("GET", f"/page_data/{NAME}")
    assert (reply.status, reply.body) == (200, CONTENT)
    assert reply.headers["content-type"] == "text/javascript; charset=utf-8"
    assert reply.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert reply.headers["content-length"] == str(len(CONTENT))
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert reply.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    head = serving.request("HEAD", f"/page_data/{NAME}")
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": ""} == {**reply.headers, "date": ""}


NOT_SERVED = [
    *("secret.js", "page_data.js", "page_data", "page_data/", "page_data//" + NAME, "/page_data/" + NAME),
    *("page_data/x.json", "page_data/UPPER.js", "page_data/a_b.js", "page_data/é.js", "page_data/a b.js"),
    *("page_data/.js", "page_data/a.b.js", f"page_data/{'x' * 81}.js", f"page_data/{'x' * 5000}.js"),
    *("page_data/end.js\n", f"page_data/{NAME}\n", f"page_data/{NAME}\0", "page_data/\0.js", f"page_data/{NAME}/"),
    *("page_data/../secret.js", "page_data/..\\secret.js", "page_data/inner/x.js", "page_data/./" + NAME),
    *("other_data/x.js", "page.html_data/x.js", "../place/page_data/" + NAME, "PAGE_data/" + NAME),
    *("page_data/directory.js", "page_data/link.js", "page_data/inside.js", "page_data/dangling.js"),
    *("page_data/pipe.js", "page_data/missing.js", "page_data/\ud7ff.js", "page_data/ſ.js", "page_data/１.js"),
    "page_data/／etc／passwd.js",
]


@pytest.mark.parametrize("path", NOT_SERVED, ids=ascii)
@pytest.mark.parametrize("safe", ["/", ""], ids=["slashes", "%2F"])
def test_nothing_else_is_served(serving: Service, path: str, safe: str) -> None:
    for method in ("GET", "HEAD"):
        reply = serving.request(method, f"/{quote(path, safe=safe)}")
        assert reply.status == 404
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["cache-control"] == "no-store"
    assert serving.request("GET", f"/{quote(path, safe=safe)}").code == "not_found"


@pytest.mark.parametrize(
    "path", ["/page_data/../secret.js", "/page_data/%2e%2e/secret.js", "/page_data/%2e%2e%2fsecret.js"]
)
def test_dots_in_the_path_lead_nowhere(serving: Service, path: str) -> None:
    assert serving.request("GET", path).code == "not_found"


def test_an_absolute_path_is_none_of_its_files(serving: Service, place: Path) -> None:
    for path in (place / "secret.js", place / "page_data" / NAME):
        assert serving.request("GET", f"/page_data/{quote(str(path), safe='')}").code == "not_found"
        assert serving.request("GET", str(path)).code == "not_found"


def test_a_page_elsewhere_cannot_have_it(serving: Service) -> None:
    assert serving.request("GET", f"/page_data/{NAME}", headers={"Host": "evil.example"}).status == 421
    assert serving.request("POST", f"/page_data/{NAME}").code == "method_not_allowed"


@pytest.mark.parametrize(("address", "name"), [("/page_data/large.js", "page_data/large.js"), ("/", "page.html")])
def test_a_large_file_goes_out_in_pieces(tmp_path: Path, address: str, name: str) -> None:
    size = 64 * 1024 * 1024
    (tmp_path / "page_data").mkdir()
    with (tmp_path / name).open("wb") as file:
        file.truncate(size)
        file.seek(size - 3)
        file.write(b"end")
    with running(tmp_path) as service:
        before = peak(service)
        body = service.request("GET", address).body
        assert (len(body), body[-3:], body.count(b"\0")) == (size, b"end", size - 3)
        assert peak(service) - before < size // 4


def test_who_hangs_up_in_the_middle_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / "page_data").mkdir()
    (tmp_path / "page_data" / "large.js").write_bytes(bytes(32 * 1024 * 1024))
    with running(tmp_path) as service:
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
                connection.sendall(b"GET /page_data/large.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(12) == b"HTTP/1.1 200"
        for _ in range(3000):
            if open_files(service, "large.js"):
                time.sleep(0.01)
        assert not open_files(service, "large.js")
        assert service.request("GET", "/api/health").status == 200
        assert stop(service).err == ""


def peak(service: Service) -> int:
    """The most memory that the service had so far, in bytes."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def open_files(service: Service, name: str) -> list[Path]:
    """What the service holds open of that name."""
    links = Path(f"/proc/{service.process.pid}/fd").iterdir()
    return [link for link in links if os.path.lexists(link) and os.readlink(link).endswith(name)]
