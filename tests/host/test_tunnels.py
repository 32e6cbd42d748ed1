"""Ways in from outside, with real programs that behave as the tunnels' do (tunnel_program.py) and a real gate behind them."""

import dataclasses
import http.server
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from reverie import settings
from reverie.errors import BadInput, TunnelFailed
from reverie.host import tunnels
from reverie.host import launch
from reverie.host.launch import processes
from reverie.host.platform import Platform
from reverie.host.tunnels import reach, tools, ways

PROGRAM = str(Path(__file__).with_name("tunnel_program.py"))
PATIENCE_S = 90
HERE = Platform(id="linux", name="Linux", root="/tmp")
STRICT = Platform(id="kaggle", name="Kaggle", root="/tmp", public_ui=False, policy="Kaggle does not allow public web interfaces.")
ADDRESS = r"https?://(?:127\.0\.0\.1:\d+|[\w.-]+\.invalid)"


def row(name, kind=None, *more, **other):
    """A row as configs/tunnels.yaml has them, whose program is ours."""
    command = ["$BINARY", PROGRAM, kind or name, "$PORT", *map(str, more)]
    return {"id": name, "title": name, "way": "command", "programs": [{"binary": "$PYTHON", "command": command}], "address": ADDRESS, "ignore": ["http://127.0.0.1:9"], "wait_s": 30, "check_s": 20, **other}


def book(*rows):
    return {"outside": ["http://127.0.0.1:9/"], "tunnels": list(rows)}


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def webui():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path):
    yield dataclasses.replace(settings.load(), storage=tmp_path / "storage")
    assert not processes.running(dataclasses.replace(settings.load(), storage=tmp_path / "storage")), "something was left running"


@pytest.fixture
def opened(webui, home):
    """Opens tunnels and closes them after the test; `notes` is what they told."""
    kept = []

    def opening(*rows, **more):
        notes = opening.notes = []
        more.setdefault("where", HERE)
        tunnel = tunnels.open_tunnel(webui, home, catalogue=book(*rows), on_note=notes.append, **more)
        kept.append(tunnel)
        return tunnel

    yield opening
    for tunnel in kept:
        tunnel.close()


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


@pytest.mark.parametrize("kind", ["cloudflared", "ssh", "lt", "zrok", "colourful"])
def test_the_address_that_a_program_prints_leads_through_the_gate_to_the_webui(opened, kind):
    tunnel = opened(row(kind))
    assert tunnel.kind == kind and tunnel.checked and tunnel.up
    assert httpx.get(tunnel.url).status_code == 401, "nothing is public without a password"
    assert httpx.get(tunnel.url, auth=("", tunnel.password)).text == "hello"
    assert tunnel.password not in repr(tunnel)


def test_the_first_that_works_is_taken_and_every_refusal_has_its_reason(opened):
    missing = row("missing", programs=[{"binary": "no-such-program", "command": ["$BINARY"]}])
    tunnel = opened(
        missing, row("fails"), row("silent", check_s=3), row("stranger", check_s=3), row("hangs", wait_s=2), row("tokenless", token="NO_SUCH_TOKEN", token_env="X"),
        row("unset", files=["/nowhere/environment.json"], **{"else": "Run it once."}), row("module", module="no_such_module"), row("lt"), row("never"),
    )
    assert tunnel.kind == "lt"
    why = dict(tunnel.refused)
    assert list(why) == ["missing", "fails", "silent", "stranger", "hangs", "tokenless", "unset", "module"]
    assert "not installed" in why["missing"] and "no such host" in why["fails"] and "did not answer" in why["silent"]
    assert "HTTP 530" in why["stranger"] and "no address within 2 s" in why["hangs"] and "NO_SUCH_TOKEN" in why["tokenless"]
    assert "Run it once" in why["unset"] and "no_such_module" in why["module"]
    assert len(opened.notes) == 8


def test_when_nothing_opens_it_says_why_and_leaves_nothing_running(webui, home):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(TunnelFailed, match="fails: its program ended.*silent: "):
        tunnels.open_tunnel(webui, home, catalogue=book(row("fails"), row("silent", check_s=2)), where=HERE)
    wait_for(lambda: not {child.pid for child in psutil.Process().children(recursive=True)} - before)


def test_the_order_can_be_chosen(opened, webui, home):
    tunnel = opened(row("one"), row("two"), order=["two", "one"])
    assert tunnel.kind == "two" and not tunnel.refused
    with pytest.raises(BadInput, match="no tunnel 'three'.*one, two"):
        tunnels.open_tunnel(webui, home, ["three"], catalogue=book(row("one"), row("two")), where=HERE)
    with pytest.raises(BadInput):
        tunnels.open_tunnel(webui, home, [], catalogue=book(row("one")), where=HERE)


def test_what_is_only_asked_for_is_not_tried_by_itself(webui, home):
    local = {"id": "local", "title": "here", "way": "local", "public": False, "only_asked": True}
    with pytest.raises(TunnelFailed):
        tunnels.open_tunnel(webui, home, catalogue=book(row("fails"), local), where=HERE)
    with tunnels.open_tunnel(webui, home, "local", catalogue=book(row("fails"), local), where=HERE) as tunnel:
        assert tunnel.checked and not tunnel.public and httpx.get(tunnel.url).status_code == 401


@pytest.mark.parametrize("port", [0, 70000, True, "8188", None, "127.0.0.1:8188"])
def test_only_a_port_of_this_machine_can_be_opened(home, port):
    with pytest.raises(BadInput):
        tunnels.open_tunnel(port, home, catalogue=book(row("lt")), where=HERE)


def test_the_program_never_learns_the_webuis_own_port(opened, webui, home):
    tunnel = opened(row("lt"))
    record = processes.find(tunnel.link.process, home)
    assert str(tunnel.gate.port) in record.command and str(webui) not in record.command


def test_an_unchecked_address_says_so(opened):
    tunnel = opened(row("nowhere", check_s=2))
    assert tunnel.up and not tunnel.checked and "never-there.invalid" in tunnel.url
    assert any("not checked" in note for note in opened.notes)


def test_a_program_that_dies_is_started_again_and_the_new_address_told(opened):
    told = []
    tunnel = opened(row("lt", "lt", 6), on_address=lambda changed: told.append((changed.up, changed.url)))
    first = tunnel.url
    wait_for(lambda: any(up and url != first for up, url in told))
    wait_for(lambda: tunnel.up and httpx_or_none(tunnel.url) == 401)
    assert any("opening it again" in note for note in opened.notes) and tunnel.url != first


def httpx_or_none(url):
    try:
        return httpx.get(url).status_code
    except httpx.HTTPError:
        return None


def test_when_it_dies_for_good_the_next_one_takes_over(opened, tmp_path):
    once = tmp_path / "once.py"
    once.write_text(f"import os, sys\nif os.path.exists({str(tmp_path / 'ran')!r}): sys.exit('no more')\nopen({str(tmp_path / 'ran')!r}, 'w').close()\nos.execv(sys.executable, [sys.executable, {PROGRAM!r}, 'lt', sys.argv[1], '5'])\n")
    first = row("once", programs=[{"binary": "$PYTHON", "command": ["$BINARY", str(once), "$PORT"]}])
    tunnel = opened(first, row("two", "lt"))
    assert tunnel.kind == "once"
    wait_for(lambda: tunnel.kind == "two" and tunnel.up)
    assert httpx.get(tunnel.url).status_code == 401 and dict(tunnel.refused)["once"].endswith("no more")


def test_before_its_time_ends_a_new_one_is_opened(opened):
    tunnel = opened(row("lt", reopen_after_h=4 / 3600))
    first = tunnel.url
    wait_for(lambda: tunnel.up and tunnel.url != first)
    assert any("about to end" in note for note in opened.notes)


def test_a_gate_that_was_killed_comes_back_at_the_same_port(opened):
    tunnel = opened(row("lt"))
    port, pid = tunnel.gate.port, tunnel.gate._process.pid
    psutil.Process(pid).kill()
    wait_for(lambda: tunnel.gate.alive and tunnel.gate._process.pid != pid)
    wait_for(lambda: httpx_or_none(tunnel.url) == 401)
    assert tunnel.gate.port == port and httpx.get(tunnel.url, auth=("", tunnel.password)).text == "hello"


def test_closing_leaves_nothing_and_may_be_done_twice(opened, home):
    tunnel = opened(row("lt"))
    url, gate = tunnel.url, tunnel.gate
    tunnel.close()
    tunnel.close()
    assert not processes.running(home) and not gate.alive and not tunnel.up and httpx_or_none(url) is None


def test_a_token_is_in_no_argument_log_or_message(webui, home, monkeypatch):
    secret = "2abcDEF_not-to-be-seen"
    monkeypatch.setenv("NGROK_AUTHTOKEN", secret)
    with_token = {"token": "NGROK_AUTHTOKEN", "token_env": "NGROK_AUTHTOKEN"}
    with tunnels.open_tunnel(webui, home, catalogue=book(row("ngrok", **with_token)), where=HERE) as tunnel:
        record = processes.find(tunnel.link.process, home)
        assert psutil.Process(record.pid).environ()["NGROK_AUTHTOKEN"] == secret
        assert secret not in " ".join(psutil.Process(record.pid).cmdline()) and secret not in repr(tunnel.link)
    monkeypatch.setenv("NGROK_AUTHTOKEN", secret)
    with pytest.raises(TunnelFailed) as refused:
        tunnels.open_tunnel(webui, home, catalogue=book(row("refuses", **with_token)), where=HERE)
    assert "not valid" in str(refused.value) and secret not in str(refused.value)
    for path in home.storage.rglob("*"):
        assert not path.is_file() or secret not in path.read_text(errors="replace"), path


def test_other_tunnels_do_not_get_the_token(opened, home, monkeypatch):
    monkeypatch.setenv("NGROK_AUTHTOKEN", "2abcDEF")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    tunnel = opened(row("lt"))
    env = psutil.Process(processes.find(tunnel.link.process, home).pid).environ()
    assert not {"NGROK_AUTHTOKEN", "HF_TOKEN"} & set(env)


def test_where_public_interfaces_are_forbidden_none_is_opened_unless_one_insists(webui, home):
    notes = []
    with pytest.raises(TunnelFailed, match="only if you insist"):
        tunnels.open_tunnel(webui, home, catalogue=book(row("lt")), where=STRICT, on_note=notes.append)
    assert notes[0] == STRICT.policy
    with tunnels.open_tunnel(webui, home, catalogue=book(row("lt")), where=STRICT, allow_public=True, on_note=notes.append) as tunnel:
        assert tunnel.public and tunnel.checked and notes.count(STRICT.policy) == 2, "the rule is shown all the same"


def test_the_platforms_own_address_comes_first_and_is_checked(webui, home):
    own = {"id": "platform", "title": "own", "way": "platform", "check_s": 3}
    local = dataclasses.replace(HERE, url="http://localhost:$PORT")
    with tunnels.open_tunnel(webui, home, catalogue=book(own, row("lt")), where=local) as tunnel:
        assert tunnel.kind == "platform" and tunnel.checked and not tunnel.public
    broken = dataclasses.replace(HERE, url="http://127.0.0.1:9/?p=$PORT")
    with tunnels.open_tunnel(webui, home, catalogue=book(own, row("lt")), where=broken) as tunnel:
        assert tunnel.kind == "lt" and tunnel.refused[0][0] == "platform"
    with tunnels.open_tunnel(webui, home, catalogue=book(own, row("lt")), where=HERE) as tunnel:
        assert dict(tunnel.refused)["platform"] == "Linux has no address of its own"


def test_a_platform_with_one_port_gets_the_gate_there(webui, home):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {"id": "platform", "title": "own", "way": "platform", "check_s": 3}
    where = dataclasses.replace(HERE, url=f"http://127.0.0.1:{port}/", port=port)
    with tunnels.open_tunnel(webui, home, catalogue=book(own), where=where) as tunnel:
        assert tunnel.gate.port == port
    with socket.create_server(("127.0.0.1", port)), pytest.raises(TunnelFailed, match="that one is taken"):
        tunnels.open_tunnel(webui, home, catalogue=book(own), where=where)


@pytest.mark.skipif(not launch._own_addresses(), reason="this machine has no address but its own")
def test_where_a_platform_comes_in_by_the_network_the_gate_answers_there_with_its_password_and_else_nowhere(webui, home):
    own = {"id": "platform", "title": "own", "way": "platform", "check_s": 5}
    address = launch._own_addresses()[0]
    where = dataclasses.replace(HERE, url=f"http://{address}:$PORT/", listen="all")
    with tunnels.open_tunnel(webui, home, catalogue=book(own, row("lt")), where=where) as tunnel:
        assert tunnel.kind == "platform" and tunnel.checked and tunnel.public and address in tunnel.url
        assert httpx.get(tunnel.url).status_code == 401 and httpx.get(tunnel.url, auth=("", tunnel.password)).text == "hello"
        pid = tunnel.gate._process.pid
        psutil.Process(pid).kill()
        wait_for(lambda: httpx_or_none(tunnel.url) == 401)
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{address}:{webui}/")
    for more in ({"order": ["lt"], "where": where}, {"where": dataclasses.replace(where, public_ui=False), "order": ["platform", "local"]}):
        local = {"id": "local", "title": "here", "way": "local", "public": False}
        with tunnels.open_tunnel(webui, home, catalogue=book(own, row("lt"), local), **more) as tunnel:
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"http://{address}:{tunnel.gate.port}/")


def test_a_killed_parent_leaves_no_tunnel(webui, home):
    script = (
        "import dataclasses, pathlib, sys, time\nfrom reverie import settings\nfrom reverie.host import tunnels\nfrom reverie.host.platform import Platform\nimport json\n"
        "home = dataclasses.replace(settings.load(), storage=pathlib.Path(sys.argv[2]))\n"
        "tunnel = tunnels.open_tunnel(int(sys.argv[1]), home, catalogue=json.loads(sys.argv[3]), where=Platform(id='linux', name='Linux', root='/tmp'))\n"
        "print(tunnel.url, flush=True)\ntime.sleep(600)\n"
    )
    import json

    parent = subprocess.Popen([sys.executable, "-c", script, str(webui), str(home.storage), json.dumps(book(row("lt")))], stdout=subprocess.PIPE, text=True)
    url = parent.stdout.readline().strip()
    assert httpx.get(url).status_code == 401
    parent.kill()
    parent.wait(30)
    parent.stdout.close()
    wait_for(lambda: not processes.running(home) and httpx_or_none(url) is None)


# The rows


def test_every_row_is_one_that_can_be_tried():
    known = {"id", "title", "way", "public", "programs", "address", "ignore", "module", "token", "token_env", "files", "else", "get", "wait_s", "check_s", "reopen_after_h", "headers", "only_asked", "note", "unchecked", "ports"}
    for found in tunnels.rows():
        assert found["way"] in ways.WAYS and set(found) <= known, found["id"]
        if found["way"] == "command":
            re.compile(found["address"])
            commands = [choice["command"] for choice in found["programs"]]
            assert all(isinstance(part, str) for command in commands for part in command) and all("$PORT" in " ".join(command) for command in commands)
            assert not any("TOKEN" in part for command in commands for part in command)


def test_the_order_is_the_platforms_own_first():
    ids = [found["id"] for found in tunnels.rows()]
    assert ids == ["colab", "jupyter", "platform", "gradio", "cloudflared", "ngrok", "zrok", "pinggy", "localtunnel", "localhost.run", "local"]


@pytest.mark.parametrize("name, printed, expected", [
    ("cloudflared", 'ERR error="Post https://api.trycloudflare.com/tunnel: no such host"', None),
    ("cloudflared", "INF |  https://quick-brown-fox-jumps.trycloudflare.com  |", "https://quick-brown-fox-jumps.trycloudflare.com"),
    ("ngrok", 'msg="started tunnel" addr=http://127.0.0.1:80 url=https://3f1a-35-1-2-3.ngrok-free.app', "https://3f1a-35-1-2-3.ngrok-free.app"),
    ("ngrok", "url=https://mine.ngrok-free.dev", "https://mine.ngrok-free.dev"),
    ("zrok", '"msg":"access your zrok share at the following endpoints:\\n https://abc123.share.zrok.io"', "https://abc123.share.zrok.io"),
    ("zrok", "https://abc123.shares.zrok.io", "https://abc123.shares.zrok.io"),
    ("pinggy", "http://rnabc-1-2-3-4.a.free.pinggy.link\nhttps://rnabc-1-2-3-4.a.free.pinggy.link\n", "https://rnabc-1-2-3-4.a.free.pinggy.link"),
    ("pinggy", "Sign up at https://dashboard.pinggy.io", None),
    ("gradio", "https://0a1b2c3d4e5f.gradio.live", "https://0a1b2c3d4e5f.gradio.live"),
    ("localtunnel", "your url is: https://brave-cat-12.loca.lt", "https://brave-cat-12.loca.lt"),
    ("localhost.run", "abc123.lhr.life tunneled with tls termination, https://abc123.lhr.life", "https://abc123.lhr.life"),
    ("localhost.run", "create an account: https://admin.localhost.run/", None),
])
def test_the_address_is_found_in_what_the_program_prints(name, printed, expected):
    found = next(known for known in tunnels.rows() if known["id"] == name)
    assert next((match[0] for match in re.finditer(found["address"], printed) if match[0] not in found.get("ignore", [])), None) == expected


# Programs that are fetched


class Releases(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = self.server.files.get(self.path)
        self.send_response(200 if data is not None else 404)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def releases():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Releases)
    script = f'#!/bin/sh\nexec "{sys.executable}" "{PROGRAM}" "$@"\n'.encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, data in (("../outside", b"x"), ("pack/theprogram", script)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    server.files = {"/program": script, "/pack.tgz": packed.getvalue(), "/page": b"<!doctype html><title>Sorry</title>", "/short": packed.getvalue()[:50]}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def fetched(url, name="lt", **more):
    return row(name, programs=[{"binary": "theprogram", "command": ["$BINARY", "lt", "$PORT"]}], get={tools.machine(): {"url": url, **more}})


@pytest.mark.skipif(os.name == "nt", reason="the program here is a shell script")
@pytest.mark.parametrize("what", [("/program", {}), ("/pack.tgz", {"member": "theprogram"})], ids=["program", "archive"])
def test_a_missing_program_is_fetched_once(opened, home, releases, what):
    tunnel = opened(fetched(releases + what[0], **what[1]))
    assert tunnel.checked and (home.storage / "tools" / "theprogram").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in (home.storage / "tools").iterdir()] == ["theprogram"]
    assert tools.program(fetched("http://127.0.0.1:9/gone"), home)[0] == str(home.storage / "tools" / "theprogram")


@pytest.mark.parametrize("path, more, why", [
    ("/page", {}, "no program"), ("/nothing", {}, "HTTP 404"), ("/program", {"sha256": "0" * 64}, "another sha256"),
    ("/short", {"member": "theprogram"}, "no archive"), ("/pack.tgz", {"member": "other"}, "has no other in it"),
])
def test_what_is_no_program_is_not_kept(home, releases, path, more, why):
    with pytest.raises(TunnelFailed, match=why):
        tools.program(fetched(releases + path, **more), home)
    assert not list((home.storage / "tools").iterdir())


def test_a_machine_without_a_build_is_told(home):
    with pytest.raises(TunnelFailed, match="there is none for"):
        tools.program(row("x", programs=[{"binary": "theprogram", "command": []}], get={"plan9-mips": {"url": "http://127.0.0.1:9/"}}), home)


def test_addresses_of_this_machine_are_known_as_such():
    assert all(reach.is_here(url) for url in ("http://localhost:1/", "http://127.0.0.1:1/", "http://[::1]:1/", "http://a.localhost/"))
    assert not any(reach.is_here(url) for url in ("https://x.trycloudflare.com/", "http://127.0.0.1.evil.example/", "http://10.0.0.1/", "/proxy/1/"))


# Without a program


COLAB = Platform(id="colab", name="Google Colab", root="/content", public_ui=False, policy="Mind Colab's rules.")
COLAB_ROW = {"id": "colab", "title": "Colab's own proxy", "way": "colab", "public": False}


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """A `google.colab` that answers as the real one does, for port numbers."""
    package = tmp_path / "colab" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "colab"))
    for name in [name for name in sys.modules if name == "google" or name.startswith("google.")]:
        monkeypatch.delitem(sys.modules, name)
    yield lambda body: (package / "output.py").write_text(f"def eval_js(script, ignore_result=False, timeout_sec=None):\n    {body}\n")
    for name in [name for name in sys.modules if name == "google" or name.startswith("google.")]:
        del sys.modules[name]


def test_colabs_own_proxy_is_for_its_owner_and_so_allowed(webui, home, colab):
    colab("return 'https://x-8190-colab.googleusercontent.com' if script == f'google.colab.kernel.proxyPort({int(script.split(chr(40))[1][:-1])})' else ''")
    notes = []
    with tunnels.open_tunnel(webui, home, catalogue=book(COLAB_ROW, row("lt")), where=COLAB, on_note=notes.append) as tunnel:
        assert (tunnel.kind, tunnel.url, tunnel.checked, tunnel.public) == ("colab", "https://x-8190-colab.googleusercontent.com/", False, False)
    assert notes[0] == COLAB.policy and "only your own browser" in notes[1]


@pytest.mark.parametrize("body", ["raise TimeoutError('no page')", "return None", "return 'about:blank'"])
def test_a_colab_page_that_does_not_answer_is_a_refusal(webui, home, colab, body):
    colab(body)
    with pytest.raises(TunnelFailed, match="colab: the notebook's page"):
        tunnels.open_tunnel(webui, home, catalogue=book(COLAB_ROW), where=COLAB)


class Notebook(http.server.BaseHTTPRequestHandler):
    """A notebook server with jupyter-server-proxy: /user/me/proxy/PORT/x is PORT's /x, for who has the token."""

    def do_GET(self):
        found = re.fullmatch(r"(/user/me/proxy/(\d+))(/.*)", self.path)
        if not found or self.headers.get("Authorization") != "token secret-of-the-notebook":
            self.send_response(404)
            self.end_headers()
            return
        answer = httpx.get(f"http://127.0.0.1:{found[2]}{found[3]}", headers={"X-Forwarded-Context": found[1]})
        self.send_response(answer.status_code)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    def log_message(self, *_):
        pass


def test_the_notebook_servers_own_proxy_is_checked_from_inside(webui, home, tmp_path, monkeypatch):
    import json

    jupyter = {"id": "jupyter", "title": "notebook", "way": "jupyter", "public": False}
    with pytest.raises(TunnelFailed, match="not run in a notebook"):
        monkeypatch.delenv("JPY_PARENT_PID", raising=False)
        tunnels.open_tunnel(webui, home, catalogue=book(jupyter), where=HERE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Notebook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("JPY_PARENT_PID", str(os.getppid()))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    for name in ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "runtime").mkdir()

    def told(token, base="/user/me/"):
        about = {"pid": os.getppid(), "port": server.server_address[1], "base_url": base, "token": token, "url": f"http://127.0.0.1:{server.server_address[1]}{base}"}
        (tmp_path / "runtime" / f"jpserver-{os.getppid()}.json").write_text(json.dumps(about))

    try:
        told("secret-of-the-notebook")
        with tunnels.open_tunnel(webui, home, catalogue=book(jupyter), where=STRICT) as tunnel:
            assert tunnel.url == f"/user/me/proxy/{tunnel.gate.port}/" and tunnel.checked and not tunnel.public
        told("secret-of-the-notebook", "/elsewhere/")
        with pytest.raises(TunnelFailed, match="no jupyter-server-proxy"):
            tunnels.open_tunnel(webui, home, catalogue=book(jupyter), where=HERE)
    finally:
        server.shutdown()
        server.server_close()


def test_gradios_share_is_a_program_like_the_others(opened, tmp_path, monkeypatch):
    """With a `gradio` whose setup_tunnel is called as the real ones are, and forwards for real."""
    (tmp_path / "gradio").mkdir()
    (tmp_path / "gradio" / "__init__.py").write_text("")
    (tmp_path / "gradio" / "networking.py").write_text(
        f"import subprocess, sys\ndef setup_tunnel(local_host, local_port, share_token, share_server_address, share_server_tls_certificate):\n"
        f"    assert local_host == '127.0.0.1' and share_token and share_server_address is None\n"
        f"    program = subprocess.Popen([sys.executable, {PROGRAM!r}, 'plain', str(local_port)], stdout=subprocess.PIPE, text=True)\n"
        f"    return program.stdout.readline().strip()\n"
    )
    real = next(found for found in tunnels.rows() if found["id"] == "gradio")
    start = "import sys, runpy; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('reverie.host.tunnels.gradio_share', run_name='__main__')"
    command = ["$BINARY", "-c", start, str(tmp_path), *real["programs"][0]["command"][3:]]
    monkeypatch.syspath_prepend(str(tmp_path))
    tunnel = opened({**real, "address": ADDRESS, "programs": [{"binary": "$PYTHON", "command": command}]})
    assert tunnel.checked and httpx.get(tunnel.url, auth=("", tunnel.password)).text == "hello"
