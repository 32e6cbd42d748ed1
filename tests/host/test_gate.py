"""The gate before a real WebUI in small (tests/host/upstream.py, a process of its own): who passes, and what arrives unharmed."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import aiohttp
import httpx
import psutil
import pytest

from reverie import settings
from reverie.errors import BadInput, HostFailed
from reverie.host.gate import Gate

UPSTREAM = Path(__file__).with_name("upstream.py")
PASSWORD = "correct-horse-battery"
PATIENCE_S = 60
PAGE = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}


class WebUI:
    def __init__(self, port=0):
        self.process = subprocess.Popen([sys.executable, str(UPSTREAM), str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def webui():
    server = WebUI()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return dataclasses.replace(settings.load(), storage=tmp_path_factory.mktemp("gate"))


@pytest.fixture(scope="module")
def gate(webui, home):
    with Gate.start(webui.port, home, PASSWORD) as running:
        yield running


@pytest.fixture
def fresh(webui, home):
    """A gate whose count of wrong passwords begins at nothing."""
    with Gate.start(webui.port, home, PASSWORD) as running:
        yield running


@pytest.fixture
def visitor(gate):
    """Somebody who has logged in with a browser."""
    with httpx.Client(base_url=gate.url, timeout=PATIENCE_S) as client:
        assert log_in(client).status_code == 303
        yield client


def log_in(client, password=PASSWORD, goal="/", **more):
    return client.post("/.reverie/login", data={"password": password, "next": goal}, **more)


def got(answer):
    """The headers that the WebUI saw, lower case."""
    return {name.lower(): value for name, value in answer.json()["headers"]}


def wait_for(what):
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def raw(port, data, until=b"\r\n\r\n"):
    """Bytes to the gate as they are, and what it answers until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                answer += piece
        return answer


# Who passes


def test_nobody_passes_without_the_password(gate):
    for path in ("/", "/download?pieces=1", "/ws", "//", "/.reverie/../seen", "/%2e%2e/seen"):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = httpx.request(method, gate.url.rstrip("/") + path)
            assert answer.status_code == 401 and "headers" not in answer.text, (method, path)


def test_a_person_gets_a_form_and_a_program_a_line(gate):
    page = httpx.get(gate.url + "deep/page?x=1", headers=PAGE)
    assert page.status_code == 401 and '<form method="post" action="/.reverie/login">' in page.text
    assert 'value="/deep/page?x=1"' in page.text and "www-authenticate" not in page.headers
    assert page.headers["cache-control"] == "no-store" and "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"(src|href|url)\s*[=(]", page.text), "the page fetches nothing"
    line = httpx.get(gate.url)
    assert line.headers["www-authenticate"].startswith("Basic") and line.json()["error"]
    script = httpx.get(gate.url, headers={"Sec-Fetch-Mode": "cors", "Accept": "*/*"})
    assert "www-authenticate" not in script.headers, "a browser would open a box of its own"


def test_the_login_leads_where_one_was_going(gate):
    with httpx.Client(base_url=gate.url) as client:
        answer = log_in(client, goal="/deep/page?x=1&y=%2F")
        assert answer.headers["location"] == "/deep/page?x=1&y=%2F"
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie and PASSWORD not in cookie
        assert client.get("/seen").json()["path"] == "/seen"
    secure = httpx.post(gate.url + ".reverie/login", data={"password": PASSWORD}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in secure.headers["set-cookie"]


@pytest.mark.parametrize("goal", ["https://evil.example/", "//evil.example/", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "javascript:alert(1)", "evil", "", "/a\r\nSet-Cookie: x=1", "/.reverie/logout", " //evil.example", "/%0d\n"])
def test_the_login_leads_nowhere_else(gate, goal):
    answer = httpx.post(gate.url + ".reverie/login", data={"password": PASSWORD, "next": goal})
    assert answer.status_code == 303 and answer.headers["location"] == "/" and "x=1" not in answer.headers.get_list("set-cookie")


def test_a_page_that_is_asked_for_in_an_evil_way_is_escaped(gate):
    page = httpx.get(gate.url + 'x"><script>alert(1)</script>', headers=PAGE)
    assert "<script" not in page.text
    answer = raw(gate.port, b'GET /"><script>alert(1)</script> HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n')
    assert b"<script" not in answer


def test_scripts_may_use_basic_or_bearer(gate):
    for more in ({"auth": ("anybody", PASSWORD)}, {"headers": {"Authorization": f"Bearer {PASSWORD}"}}):
        answer = httpx.get(gate.url + "seen", **more)
        assert answer.status_code == 200 and "authorization" not in got(answer)


def test_the_gate_keeps_its_secrets_from_the_webui_and_passes_on_others(visitor):
    own = [name for name in visitor.cookies][0]
    answer = visitor.get("/seen", headers={"Authorization": "Basic dXNlcjpvdGhlcg==", "Cookie": f"mine=1; {own}={visitor.cookies[own]}; reverie_gate_ffff=x; b=2"})
    assert got(answer)["cookie"] == "mine=1; b=2"
    assert got(answer)["authorization"] == "Basic dXNlcjpvdGhlcg=="
    assert PASSWORD not in answer.text


@pytest.mark.parametrize("forged", ["", "x", "9999999999.aaaa.bbbb", "9999999999..", ".", "99999999999999999999.é.ü"])
def test_forged_sessions_do_not_pass(gate, visitor, forged):
    own = [name for name in visitor.cookies][0]
    answer = httpx.get(gate.url, headers={"Cookie": f"{own}={forged}".encode()})
    assert answer.status_code == 401


def test_a_changed_session_does_not_pass(gate, visitor):
    [(own, value)] = visitor.cookies.items()
    expiry, nonce, signature = value.split(".")
    for changed in (f"{int(expiry) + 1}.{nonce}.{signature}", f"{expiry}.{nonce}x.{signature}", f"{expiry}.{nonce}.{signature[:-1]}", value[::-1]):
        assert httpx.get(gate.url, headers={"Cookie": f"{own}={changed}"}).status_code == 401
    assert httpx.get(gate.url, headers={"Cookie": f"{own}=planted; {own}={value}"}).status_code == 200, "a planted one beside it locks nobody out"


def test_a_session_ends(monkeypatch):
    from reverie.host.gate import login

    clock = [1000.0]
    sessions = login.Session(now=lambda: clock[0])
    cookie = sessions.new()
    assert sessions.holds(cookie) and not login.Session().holds(cookie)
    clock[0] += login.SESSION_S - 1
    assert sessions.holds(cookie)
    clock[0] += 2
    assert not sessions.holds(cookie)


def test_who_guesses_waits_and_everybody_else_does_not(fresh):
    answers = [log_in_as(fresh, "wrong-password", "203.0.113.9").status_code for _ in range(5)]
    assert answers == [401] * 5
    blocked = log_in_as(fresh, PASSWORD, "203.0.113.9")
    assert blocked.status_code == 429 and int(blocked.headers["retry-after"]) >= 1, "the right one is not looked at either"
    assert log_in_as(fresh, PASSWORD, "198.51.100.4").status_code == 303
    assert log_in_as(fresh, "wrong", "7.7.7.7, 203.0.113.9").status_code == 429, "an address that the client itself put in front changes nothing"
    assert httpx.get(fresh.url, headers={"Authorization": f"Bearer {PASSWORD}", "X-Forwarded-For": "203.0.113.9"}).status_code == 429
    deadline = time.monotonic() + PATIENCE_S
    while log_in_as(fresh, PASSWORD, "203.0.113.9").status_code != 303:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def log_in_as(gate, password, client):
    return httpx.post(gate.url + ".reverie/login", data={"password": password}, headers={"X-Forwarded-For": client})


def test_guessing_from_many_addresses_is_slowed_too(fresh):
    codes = [log_in_as(fresh, "wrong-password", f"203.0.{n // 200}.{n % 200}").status_code for n in range(80)]
    assert codes[:50] == [401] * 50 and codes[-1] == 429


def test_who_has_been_in_is_not_kept_out_by_others_guessing(fresh):
    assert log_in_as(fresh, PASSWORD, "198.51.100.4").status_code == 303
    codes = [log_in_as(fresh, "wrong-password", f"203.0.{n // 200}.{n % 200}").status_code for n in range(80)]
    assert codes[-1] == 429 and log_in_as(fresh, PASSWORD, "198.51.100.5").status_code == 429
    assert log_in_as(fresh, PASSWORD, "198.51.100.4").status_code == 303
    codes = [log_in_as(fresh, "wrong-password", "198.51.100.4").status_code for n in range(8)]
    assert codes[-1] == 429, "of its own mistakes it has no more than others"


def test_a_made_password_cannot_be_guessed_and_so_nobody_waits(webui, home):
    with Gate.start(webui.port, home) as running:
        assert {log_in_as(running, "wrong-password", f"203.0.113.{n % 3}").status_code for n in range(90)} == {401}
        assert log_in_as(running, running.password, "203.0.113.0").status_code == 303
        psutil.Process(running._process.pid).kill()
        wait_for(lambda: not running.alive)
        running.revive(home)
        assert {log_in_as(running, "wrong-password", "203.0.113.9").status_code for n in range(9)} == {401}


def test_who_connects_and_never_asks_is_let_go(webui):
    """The same server in this process, with less patience."""
    from reverie.host.gate import login, proxy

    async def idle():
        ready, ended = asyncio.get_running_loop().create_future(), asyncio.Event()
        serving = asyncio.create_task(proxy.serve(proxy.Proxy(webui.port, login.Password(PASSWORD), b"x"), 0, ready.set_result, ended, idle_s=0.5))
        port = await ready
        for said in (b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            assert b"200" not in await asyncio.wait_for(reader.read(), PATIENCE_S), "it is closed"
            writer.close()
        ended.set()
        await serving

    asyncio.run(idle())


def test_waiting_grows_and_ends():
    from reverie.host.gate import login

    clock = [0.0]
    tries = login.Tries(now=lambda: clock[0])
    waits = []
    for _ in range(20):
        tries.failed("203.0.113.9")
        waits.append(tries.wait_s("203.0.113.9"))
        clock[0] += waits[-1]
        assert tries.wait_s("203.0.113.9") == 0
    assert waits[:4] == [0, 0, 0, 0] and waits[4:8] == [1, 2, 4, 8] and waits[-1] == login.LONGEST_WAIT_S
    tries.succeeded("203.0.113.9")
    tries.failed("203.0.113.9")
    assert tries.wait_s("203.0.113.9") == 0


def test_one_customer_of_ipv6_is_one_client():
    from reverie.host.gate import login

    tries = login.Tries(now=lambda: 0.0)
    for n in range(8):
        tries.failed(f"2001:db8:1:2::{n}")
    assert tries.wait_s("2001:db8:1:2:ffff::1") > 0 and tries.wait_s("2001:db8:1:3::1") == 0


@pytest.mark.parametrize("password", ["short", "1234567", "new\nline-in-it", "x" * 600, ""])
def test_a_password_that_guards_nothing_is_refused(webui, home, password):
    with pytest.raises(BadInput):
        Gate.start(webui.port, home, password)


def test_a_made_password_is_new_each_time_and_opens(webui, home):
    with Gate.start(webui.port, home) as one, Gate.start(webui.port, home) as other:
        assert one.password != other.password and len(one.password) >= 20
        assert httpx.get(one.url, auth=("", one.password)).status_code == 200
        assert httpx.get(one.url, auth=("", other.password)).status_code == 401


def test_a_password_in_another_writing_of_its_letters_opens(webui, home):
    with Gate.start(webui.port, home, "pässwörter-grün") as running:
        assert httpx.post(running.url + ".reverie/login", data={"password": "pa\u0308sswo\u0308rter-gru\u0308n"}).status_code == 303


def test_the_password_is_nowhere_to_be_seen(gate, home):
    process = psutil.Process(gate._process.pid)
    assert PASSWORD not in " ".join(process.cmdline()) and PASSWORD not in "".join(process.environ().values())
    httpx.post(gate.url + ".reverie/login", data={"password": PASSWORD + "x"})
    assert PASSWORD not in (home.storage / "logs" / "gate.log").read_text() and PASSWORD not in repr(gate)


def test_another_sites_page_cannot_act_through_a_visitors_browser(visitor, gate):
    evil = {"Origin": "https://evil.example"}
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert visitor.request(method, "/seen", headers=evil).status_code == 403
    assert visitor.post("/seen", headers={"Origin": "null"}).status_code == 403
    assert visitor.post("/seen", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert visitor.post("/seen", headers={**evil, "Sec-Fetch-Site": "same-site"}).status_code == 403
    assert log_in(visitor, headers=evil).status_code == 403
    assert visitor.get("/seen", headers={"Sec-Fetch-Site": "cross-site", **PAGE}).status_code == 200, "a link from a notebook is welcome"
    for own in ({"Origin": gate.url.rstrip("/")}, {"Sec-Fetch-Site": "same-origin", "Origin": gate.url.rstrip("/")}, {}):
        answer = visitor.post("/seen", headers=own)
        assert answer.status_code == 200 and got(answer).get("sec-fetch-site") is None


def test_the_webui_sees_a_visitor_of_its_own_machine(visitor, webui):
    told = {"Host": "abc.trycloudflare.com", "Origin": "https://abc.trycloudflare.com", "X-Forwarded-For": "198.51.100.4, 203.0.113.9", "X-Forwarded-Proto": "https"}
    [(name, value)] = visitor.cookies.items()
    saw = got(httpx.post(f"http://127.0.0.1:{visitor.base_url.port}/seen", headers={**told, "Cookie": f"{name}={value}"}))
    assert saw["host"] == f"127.0.0.1:{webui.port}" and saw["origin"] == f"http://127.0.0.1:{webui.port}"
    assert saw["x-forwarded-for"] == "203.0.113.9" and saw["x-forwarded-proto"] == "https" and saw["x-forwarded-host"] == "abc.trycloudflare.com"


def test_an_address_that_the_tunnel_told_is_no_other_site(visitor, gate):
    headers = {"Origin": "https://told.example", "Host": "localhost"}
    assert visitor.post("/seen", headers=headers).status_code == 403
    gate.seen_as("https://told.example/")
    wait_for(lambda: visitor.post("/seen", headers=headers).status_code == 200)


# What arrives


def test_every_method_path_and_query_arrives_as_it_was(visitor, gate):
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        answer = visitor.request(method, "/a%20b/%2Fc/ü?x=%26&y=a+b&z", content=b"\x00\xff" if method != "GET" else None)
        assert answer.json()["method"] == method and answer.json()["path"] == "/a%20b/%2Fc/%C3%BC?x=%26&y=a+b&z"
        assert answer.json()["body"] == ("\x00\xff" if method != "GET" else "")
    assert visitor.head("/download?pieces=3").headers["content-length"] == str(3 * 65536)


def test_headers_of_one_hop_stay_there(visitor):
    saw = got(visitor.get("/seen", headers={"Connection": "X-Secret-Hop, keep-alive", "X-Secret-Hop": "1", "TE": "trailers", "X-Kept": "1", "Proxy-Authorization": "Basic eA==", "Keep-Alive": "timeout=5"}))
    assert saw["x-kept"] == "1" and not {"x-secret-hop", "te", "proxy-authorization", "keep-alive"} & set(saw)
    answer = visitor.get("/cookies")
    assert answer.headers["x-kept"] == "1" and "x-only-this-hop" not in answer.headers
    assert [line.partition("=")[0] for line in answer.headers.get_list("set-cookie")] == ["one", "two"], "the WebUI cannot set the gate's cookie"


@pytest.mark.parametrize("to, expected", [
    ("http://HOST/x?y=1#z", "/x?y=1#z"), ("http://HOST//evil.example/", "/evil.example/"), ("/inside", "/inside"), ("next", "next"),
    ("https://huggingface.co/x", "https://huggingface.co/x"),
])
def test_redirects_of_the_webui_to_itself_lead_to_the_gate(visitor, to, expected):
    assert visitor.get("/away", params={"to": to}).headers["location"] == expected


def test_behind_a_notebook_server_paths_keep_its_prefix(gate):
    under = {"X-Forwarded-Context": "/user/me/proxy/8190"}
    page = httpx.get(gate.url + "seen", headers={**PAGE, **under})
    assert 'action="/user/me/proxy/8190/.reverie/login"' in page.text
    answer = httpx.post(gate.url + ".reverie/login", data={"password": PASSWORD, "next": "/seen"}, headers=under)
    assert answer.headers["location"] == "/user/me/proxy/8190/seen" and "Path=/user/me/proxy/8190/" in answer.headers["set-cookie"]
    for bad in ("//evil.example", "/a/../b", '/"onload=', "evil"):
        assert httpx.post(gate.url + ".reverie/login", data={"password": PASSWORD}, headers={"X-Forwarded-Context": bad}).headers["location"] == "/"


def test_parts_of_a_file_can_be_asked_for(visitor):
    whole = UPSTREAM.read_bytes()
    part = visitor.get("/file", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == whole[10:20] and part.headers["content-range"] == f"bytes 10-19/{len(whole)}"
    same = visitor.get("/file", headers={"If-None-Match": visitor.get("/file").headers["etag"]})
    assert same.status_code == 304 and same.content == b""


@pytest.mark.parametrize("way", ["", "&chunked"])
def test_a_large_download_streams(visitor, gate, way):
    process, most, digest, size = psutil.Process(gate._process.pid), 0, hashlib.sha256(), 0
    before = process.memory_info().rss
    with visitor.stream("GET", f"/download?pieces=1600{way}") as answer:  # 100 MiB
        for n, piece in enumerate(answer.iter_bytes()):
            digest.update(piece)
            size += len(piece)
            if n % 50 == 0:
                most = max(most, process.memory_info().rss)
    expected = hashlib.sha256()
    for _ in range(1600):
        expected.update(bytes(range(256)) * 256)
    assert size == 1600 * 65536 and digest.hexdigest() == expected.hexdigest()
    assert most - before < 40e6, "it holds a piece, not the file"


@pytest.mark.parametrize("length", [True, False], ids=["with its length", "chunked"])
def test_a_large_upload_streams(visitor, gate, length):
    process, piece, pieces, most = psutil.Process(gate._process.pid), bytes(range(256)) * 4096, 100, [0]
    before, digest = process.memory_info().rss, hashlib.sha256()

    def body():
        for _ in range(pieces):
            digest.update(piece)
            most[0] = max(most[0], process.memory_info().rss)
            yield piece

    size = len(piece) * pieces
    answer = visitor.post("/upload", content=body(), headers={"Content-Length": str(size)} if length else {})
    assert answer.json() == {"sha256": digest.hexdigest(), "size": size, "length": str(size) if length else None}
    assert most[0] - before < 40e6


def test_events_arrive_one_by_one(visitor):
    with visitor.stream("GET", "/events") as answer:
        lines = (line for line in answer.iter_lines() if line)
        assert next(lines) == "data: first"  # the second is not even made yet
        assert visitor.get("/go_on").text == "ok"
        assert next(lines) == "data: second"


def test_half_an_answer_does_not_look_like_a_whole_one(visitor):
    with pytest.raises(httpx.HTTPError):
        visitor.get("/half")


# WebSockets


async def _with_socket(gate, talk, path="/ws", **more):
    auth = {"Authorization": f"Bearer {PASSWORD}"}
    async with aiohttp.ClientSession(headers=auth) as session:
        async with session.ws_connect(gate.url.rstrip("/") + path, max_msg_size=0, **more) as connection:
            return await asyncio.wait_for(talk(connection), PATIENCE_S)


def test_websockets_carry_text_and_large_pictures_both_ways(gate):
    async def talk(connection):
        await connection.send_str("hällo")
        assert (await connection.receive()).data == "hällo"
        for size in (0, 1, 125, 126, 65535, 65536, 24 * 2**20):
            await connection.send_bytes(b"\x89" * size)
            assert (await connection.receive()).data == b"\x89" * size
        await connection.send_str("headers")
        return json.loads((await connection.receive()).data)

    saw = asyncio.run(_with_socket(gate, talk, protocols=("other", "comfy")))
    assert "authorization" not in saw and saw["sec-websocket-protocol"] == "other,comfy"


def test_websockets_close_with_the_code_of_either_side(gate):
    async def by_webui(connection):
        await connection.send_str("close 4321")
        message = await connection.receive()
        return connection.close_code, message.extra

    assert asyncio.run(_with_socket(gate, by_webui)) == (4321, "as you wished")

    async def by_visitor(connection):
        await connection.send_str("x")
        await connection.receive()
        await connection.close(code=4001)

    asyncio.run(_with_socket(gate, by_visitor))
    told = lambda: httpx.get(gate.url + "sockets", auth=("", PASSWORD)).json()
    wait_for(lambda: told()["open"] == 0)
    assert told()["closed_with"] == 4001


def test_a_visitor_who_vanishes_leaves_no_socket_behind(gate):
    async def vanish(connection):
        await connection.send_str("x")
        await connection.receive()
        connection._response.connection.transport.abort()

    asyncio.run(_with_socket(gate, vanish))
    wait_for(lambda: httpx.get(gate.url + "sockets", auth=("", PASSWORD)).json()["open"] == 0)


def test_pings_of_the_visitor_are_answered(gate):
    async def talk(connection):
        await connection.ping(b"are you there")
        while (message := await connection.receive()).type is not aiohttp.WSMsgType.PONG:
            pass
        return message.data

    assert asyncio.run(_with_socket(gate, talk, autoping=False)) == b"are you there"


@pytest.mark.parametrize("path, origin, status", [("/ws", "https://evil.example", 403), ("/seen", None, 502)])
def test_websockets_that_may_not_be_are_refused(gate, path, origin, status):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        asyncio.run(_with_socket(gate, None, path, origin=origin))
    assert refused.value.status == status


def test_websockets_need_the_password(gate):
    async def try_it():
        async with aiohttp.ClientSession() as session:
            await session.ws_connect(gate.url + "ws")

    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        asyncio.run(try_it())
    assert refused.value.status == 401


# Whoever tries to trick it


@pytest.mark.parametrize("request_lines", [
    b"POST /seen HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /seen HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    b"POST /seen HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"GET /seen HTTP/1.1\r\nHost: x\r\nX: a\r\n smuggled: b\r\n\r\n",
    b"GET /seen HTTP/1.1\r\nHost : x\r\n\r\n",
    b"GET http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"TRACE /seen HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET @169.254.169.254/ HTTP/1.1\r\nHost: x\r\n\r\n",
], ids=["both lengths", "two lengths", "unknown coding", "folded", "space before colon", "absolute", "connect", "trace", "at"])
def test_smuggling_is_refused(gate, request_lines):
    import base64

    head, _, rest = request_lines.partition(b"\r\n\r\n")
    pair = base64.b64encode(b"x:" + PASSWORD.encode())
    answer = raw(gate.port, head + b"\r\nAuthorization: Basic " + pair + b"\r\nConnection: close\r\n\r\n" + rest)
    assert re.match(rb"HTTP/1\.[01] (400|404|405)", answer) and len(re.findall(rb"^HTTP/1", answer, re.M)) == 1, answer[:300]


def test_the_ping_proves_itself_without_a_login(gate):
    assert httpx.get(gate.url + ".reverie/ping?nonce=abc").text == gate.proof("abc")
    assert httpx.get(gate.url + ".reverie/ping?nonce=abd").text != gate.proof("abc")
    assert len(httpx.get(gate.url + ".reverie/ping?nonce=" + "x" * 5000).text) == 64


def test_an_endless_form_is_not_read(fresh):
    answer = httpx.post(fresh.url + ".reverie/login", content=b"password=" + b"x" * 200_000, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 413


# What comes and goes


def test_a_webui_that_is_down_gives_a_page_that_looks_again_and_one_that_returns_is_served(home):
    server = WebUI()
    with Gate.start(server.port, home, PASSWORD, title="ComfyUI") as running, httpx.Client(base_url=running.url, auth=("", PASSWORD), timeout=PATIENCE_S) as client:
        assert client.get("/seen").status_code == 200
        server.stop()
        page = client.get("/", headers=PAGE)
        assert page.status_code == 502 and "ComfyUI does not answer yet" in page.text and '<meta http-equiv="refresh"' in page.text
        assert client.post("/seen").json() == {"error": "The WebUI does not answer."}
        again = WebUI(server.port)
        try:
            assert client.post("/seen", content=b"x").status_code == 200
        finally:
            again.stop()


def test_the_gate_ends_with_whoever_started_it(webui, home):
    """Killed, so that it could not tidy up."""
    script = (
        "import dataclasses, pathlib, sys, time\nfrom reverie import settings\nfrom reverie.host.gate import Gate\n"
        "gate = Gate.start(int(sys.argv[1]), dataclasses.replace(settings.load(), storage=pathlib.Path(sys.argv[2])), 'correct-horse-battery')\n"
        "print(gate._process.pid, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(webui.port), str(home.storage)], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait(30)
    parent.stdout.close()
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_stopping_closes_what_is_open(webui, home):
    running = Gate.start(webui.port, home, PASSWORD)
    closed = []

    async def talk(connection):
        await connection.send_str("x")
        await connection.receive()
        threading.Thread(target=running.stop).start()
        closed.append((await connection.receive()).type)

    asyncio.run(_with_socket(running, talk))
    assert closed[0] in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    wait_for(lambda: not running.alive)
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url)


def test_it_listens_on_this_machine_only(gate):
    listening = [found.laddr for found in psutil.Process(gate._process.pid).net_connections() if found.status == psutil.CONN_LISTEN]
    assert listening and all(place.ip == "127.0.0.1" for place in listening)


def test_a_port_that_is_taken_is_one_clear_sentence(webui, home):
    with pytest.raises(HostFailed, match="does not start"):
        Gate.start(webui.port, home, PASSWORD, port=webui.port)
