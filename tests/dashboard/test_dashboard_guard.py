"""Who may ask the dashboard, and what a browser may do with its answers."""

from __future__ import annotations

import http.client
import importlib.util
import re
import socket
from pathlib import Path
from urllib.parse import quote

import pytest

import heron.dashboard
from heron.dashboard import plotly
from heron.dashboard.guard import Guard
from heron.dashboard.server import Dashboard
from heron.errors import ConfigError, MissingExtra, RunError

STATIC = Path(heron.dashboard.__file__).parent / "static"
RUN = f"/api/runs/{quote('first run')}"
ADDRESSES = ("/", "/static/app.js", "/plotly.min.js", "/api/runs", RUN, "/api/stream", "/nowhere")


@pytest.mark.parametrize("path", [*ADDRESSES, "/?token=wrong", "/api/runs?token=secret"])
def test_without_the_token_nothing_is_told(page, path: str) -> None:
    """Any other user of the machine, or any web page that guesses the port, could read prompts and completions."""
    assert page.raw(path, token=None)[0] == 403
    assert page.raw(path, token=None, Cookie=f"heron_{page.dashboard.port}=wrong")[0] == 403
    assert page.raw(path, token="ü".encode().decode("latin-1"), Cookie="\x01;;=")[0] == 403


def test_the_token_moves_from_the_address_into_a_cookie(page) -> None:
    """An address with the token in it ends up in histories and screenshots."""
    status, headers, _ = page.raw("/?token=secret", token=None)
    assert status == 303 and headers["location"] == "/"
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite" in cookie and str(page.dashboard.port) in cookie
    status, _, body = page.raw("/", token=None, Cookie=cookie.split(";")[0])
    assert status == 200 and b"/static/app.js" in body and b"secret" not in body


@pytest.mark.parametrize("other", ['x={"a":"b"}', "foo[bar]=1", "a=b c", 'a="q w', "novalue", "é=ü".encode().decode("latin-1"), "=", ""])
def test_the_cookies_of_other_pages_lock_nobody_out(page, other: str) -> None:
    """All ports of 127.0.0.1 share their cookies: one that some other local page had set, in a form that no standard allows, was enough
    to be refused for ever."""
    own = f"heron_{page.dashboard.port}=secret"
    assert page.raw("/api/runs", token=None, Cookie=f"{other}; {own}")[0] == 200
    assert page.raw("/api/runs", token=None, Cookie=f"{own}; {other}")[0] == 200
    assert page.raw("/api/runs", token=None, Cookie=f"{other}; x{own}")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost@evil.example", ""])
def test_a_foreign_host_name_is_refused_even_with_the_token(page, host: str) -> None:
    """DNS rebinding: a page whose name is made to point to 127.0.0.1 would be same-origin with the dashboard."""
    assert page.raw("/api/runs", Host=host)[0] == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1"])
def test_another_page_is_refused_even_with_the_cookie(page, origin: str) -> None:
    """A page on another port of this machine is sent the same cookies, and could ask in the user's name."""
    assert page.raw("/api/runs", Origin=origin)[0] == 403
    assert page.raw("/api/runs", Origin=f"http://127.0.0.1:{page.dashboard.port}")[0] == 200


def test_a_link_elsewhere_opens_the_page_and_nothing_else(page) -> None:
    """The address is pasted into chats and clicked in terminals that are web pages; the data must not be loaded from there."""
    elsewhere = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert page.raw("/", **elsewhere)[0] == 200 and page.raw("/?token=secret", token=None, **elsewhere)[0] == 303
    assert page.raw("/api/runs", **elsewhere)[0] == 403
    for site in ("cross-site", "same-site"):
        assert page.raw("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors")[0] == 403


def test_it_listens_on_this_machine_only_and_only_reads(page) -> None:
    """A dashboard on 0.0.0.0 is open to the whole network."""
    assert page.dashboard._socket.getsockname()[0] == "127.0.0.1" and page.dashboard.url.startswith("http://127.0.0.1:")
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert page.raw("/api/runs", method=method)[0] == 405


def test_an_answer_is_sent_without_delay(page, monkeypatch: pytest.MonkeyPatch) -> None:
    """Head and body of an answer are two writes: with Nagle's algorithm each question on an open connection took 40 ms longer."""
    found, whole = [], Guard.__call__

    async def looked_at(self, scope, receive, send) -> None:
        transport = send.__self__.transport
        found.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        await whole(self, scope, receive, send)

    monkeypatch.setattr(Guard, "__call__", looked_at)
    assert page.raw("/api/runs")[0] == 200 and found and all(found)


def test_every_answer_forbids_what_is_foreign_or_inline(page) -> None:
    """Should markup ever slip in, the browser still must not run it, restyle the page by it, or call home."""
    for path in (*(path for path in ADDRESSES if path != "/api/stream"), "/?token=secret"):
        headers = page.raw(path)[1]
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'" and {policy[kind] for kind in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert "unsafe" not in str(policy) and "nonce" not in str(policy) and "sha256" not in str(policy)
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in ("no-store", "no-cache")
    assert page.raw("/?token=wrong", token=None)[1]["content-security-policy"], "refusals too"


def test_all_that_the_page_loads_is_served_and_nothing_is_foreign(page) -> None:
    """A forgotten file leaves an empty page; a CDN leaves it empty offline."""
    files = [path for path in STATIC.rglob("*") if path.suffix in (".html", ".js", ".css", ".svg")]
    assert len(files) > 15
    text = "".join(path.read_text() for path in files)
    linked = re.findall(r'(?:href|src)="(/[^"]+)"', text) + re.findall(r'src: "(/[^"]+)"', text)
    imported = [f"/static/{(path.parent / name).resolve().relative_to(STATIC)}" for path in files if path.suffix == ".js"
                for name in re.findall(r'from "(\.[^"]+)"', path.read_text())]  # fmt: skip
    assert "/plotly.min.js" in linked and len(imported) > 20
    for needed in {*linked, *imported}:
        assert page.raw(needed)[0] == 200, needed
    assert set(re.findall(r"https?://[^\"'\s)]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "@import" not in text and "url(" not in text


def test_the_page_never_makes_markup_of_text() -> None:
    """One `innerHTML` is enough for a completion to run as a script; names of a run must not reach plotly, which reads markup in them."""
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|createContextualFragment"
    for path in STATIC.rglob("*.js"):
        assert not re.search(forbidden, path.read_text()), path.name
    assert not re.search(r"<script>|<style|style=|\son\w+=", (STATIC / "page.html").read_text())
    traces = re.search(r"function basis\(curve\) \{.*?\n\}", (STATIC / "drawing.js").read_text(), re.DOTALL)
    assert traces and not re.search(r"\b(name|text|label|title)\b", traces[0])


def test_plotly_is_told_not_to_add_style_sheets(page) -> None:
    """A new version of plotly that looks elsewhere would break the policy, or force it open."""
    ids = plotly.sheet_ids()
    assert ids and all(f'<meta id="{identity}">'.encode() in page.raw("/")[2] for identity in ids)
    assert b'id="plotly.js-style-global" class="no-inline-styles"' in page.raw("/")[2]
    assert b".no-inline-styles" in plotly.bundle().read_bytes()


@pytest.mark.parametrize(
    "path",
    ["/api/runs/..", "/api/runs/%2e%2e%2f%2e%2e%2fetc", f"{RUN}/groups/..%2f..%2frun/0", f"{RUN}/groups/99/0", f"{RUN}/groups/-1/0",
     f"{RUN}/curves?after=x", f"{RUN}/groups?filter=nonsense", "/static/../server.py", "/static/%2e%2e/server.py", "/server.py",
     "/api/compare"],
)  # fmt: skip
def test_a_path_never_leaves_the_runs(page, path: str) -> None:
    """A name that becomes a file path reads any file of the machine; a bad question must be an answer, not a dead thread."""
    status, headers, body = page.raw(path)
    assert status == 404 and headers["content-type"] == "application/json" and b'"error"' in body


def test_a_missing_folder_is_said_at_once(tmp_path: Path) -> None:
    """Otherwise one looks at an empty page and waits."""
    with pytest.raises(RunError, match="no folder"):
        Dashboard(tmp_path / "missing")


@pytest.mark.parametrize("port", [None, 70000])
def test_a_port_that_cannot_be_had_is_said_with_a_way_out(page, tmp_path: Path, port: int | None) -> None:
    """Starting the page twice is common; a traceback of the socket module is no answer."""
    wanted = port or page.dashboard.port
    with pytest.raises(ConfigError, match=f"Port {wanted} cannot be used.*0 takes a free one"):
        Dashboard(tmp_path / "runs", port=wanted)


def test_closing_frees_the_port_though_a_page_is_open(page) -> None:
    """A page that listens to the stream would keep `heron ui` from ending, and its port from being used again."""
    port = page.dashboard.port
    connection = http.client.HTTPConnection("127.0.0.1", page.dashboard.port, timeout=10)
    connection.request("GET", "/api/stream", headers={"Authorization": "Bearer secret"})
    assert connection.getresponse().status == 200
    page.dashboard.close()
    assert not page.dashboard._thread.is_alive()
    Dashboard(page.folder, port=port)._socket.close()


@pytest.mark.parametrize("package", heron.dashboard.PACKAGES)
def test_an_absent_package_is_named_with_its_extra(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback of an import does not say what to install."""
    whole = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else whole(name, *rest))
    with pytest.raises(MissingExtra, match=rf'"{package}".*heron-rl\[ui\]'):
        heron.dashboard.open_dashboard(tmp_path)


def test_the_address_is_printed_first(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts `heron ui` in a pipe sees nothing, if it is printed at the end."""
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(Dashboard, "serve_forever", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    heron.dashboard.serve(tmp_path / "runs")
    assert re.search(r"Open http://127\.0\.0\.1:\d+/\?token=\S{20,}\n", capsys.readouterr().out)
