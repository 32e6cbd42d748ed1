"""The gate as a server: whoever has the password is passed on to the WebUI, streams and WebSockets included."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import time
from dataclasses import dataclass, field

from aiohttp import ClientError, ClientSession, ClientTimeout, ClientWebSocketResponse, TCPConnector, WSMsgType, WSServerHandshakeError, web
from yarl import URL

from reverie.host.gate import headers, login, pages

log = logging.getLogger(__name__)

OURS = "/.reverie/"
MOST_FORM = 8192  # bytes of a login form
MOST_MESSAGE = 512 * 2**20  # bytes of one WebSocket message; it is held in memory whole
CONNECT_S, CLOSE_S = 10, 5
NOTE_S = 30  # between two lines about wrong passwords
FORM_S = 30  # for a login form to come in
IDLE_S = 120  # a connection may say nothing, or not all of a request's head; longer than tunnels keep one that they do not use
NO_CODES = {1005, 1006, 1015}  # what a closing without a code is called; they are never sent
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "MKCOL", "COPY", "MOVE"}


@dataclass
class Proxy:
    """One gate. `port` is the WebUI's, on this machine; `proof` the key with which a ping shows that it reached this gate."""

    port: int
    password: login.Password
    proof: bytes = field(repr=False)
    title: str = "SD-Reverie"
    sessions: login.Session = field(default_factory=login.Session)
    tries: login.Tries | None = field(default_factory=login.Tries)  # None: this password cannot be guessed, so nobody has to wait
    hosts: set[str] = field(default_factory=set)  # under which visitors see this gate, as the tunnels told
    client: ClientSession | None = None
    _sockets: set = field(default_factory=set)
    _wrong: int = 0
    _next_note: float = 0.0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def cookie(self) -> str:
        """Its own name for every gate: browsers share cookies between the ports of a machine."""
        return headers.COOKIE + hashlib.sha256(self.proof).hexdigest()[:12]

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MOST_FORM)
        app.router.add_route("*", "/{path:.*}", self.answer)
        app.cleanup_ctx.append(self._client)
        app.on_shutdown.append(self._close_sockets)
        return app

    async def _client(self, app):
        # A new connection for every request: one that is kept may have been closed by the WebUI just now, and a POST cannot be repeated.
        connector = TCPConnector(limit=0, force_close=True)
        timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=None)
        untouched = {"auto_decompress": False, "trust_env": False, "skip_auto_headers": ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")}
        async with ClientSession(connector=connector, timeout=timeout, **untouched) as self.client:
            yield

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method not in METHODS or not request.raw_path.startswith("/"):
            return web.Response(status=405, text="This method does not pass the gate.\n")
        if request.path == f"{OURS}ping":
            return self._ping(request)
        if headers.from_elsewhere(request.method, request.headers, self.hosts):
            return web.Response(status=403, text="Another site's page asked for this; the gate does not pass it on.\n")
        if request.path.startswith(OURS):
            return await self._own(request)
        refused = self._refusal(request)
        if refused is not None:
            return refused
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._websocket(request)
        return await self._pass_on(request)

    # Who may pass

    def _ping(self, request: web.Request) -> web.Response:
        nonce = request.query.get("nonce", "")[:128]
        return web.Response(text=hmac.new(self.proof, nonce.encode("utf-8", "replace"), hashlib.sha256).hexdigest(), headers=pages.HEADERS)

    def _has_session(self, request: web.Request) -> bool:
        cookies = headers.own_cookies(request.headers.getall("Cookie", []), self.cookie)
        return any(self.sessions.holds(value) for value in cookies)

    def _client_of(self, request: web.Request) -> str:
        return headers.client_address(request.headers, request.remote)

    def _refusal(self, request: web.Request) -> web.Response | None:
        """None for who may pass. An Authorization header beside a valid session is the WebUI's own business."""
        if self._has_session(request):
            return None
        given = request.headers.get("Authorization")
        if not given:
            return self._ask(request)
        wrong = self._judge(request, lambda: self.password.fits_header(given))
        return wrong and self._ask(request, *wrong)

    def _judge(self, request: web.Request, fits) -> tuple[str, int] | None:
        """None if the password fits; else what to say, and with which status."""
        client, tries = self._client_of(request), self.tries
        wait = tries.wait_s(client) if tries else 0
        if wait > 0:
            return f"Too many wrong passwords. Try again in {int(wait) + 1} s.", 429
        if fits():
            if tries:
                tries.succeeded(client)
            return None
        if tries:
            tries.failed(client)
        self._note_wrong(client)
        return "That is not the password.", 401

    def _note_wrong(self, client: str) -> None:
        """A line now and then: who guesses must not fill the disk."""
        self._wrong, now = self._wrong + 1, time.monotonic()
        if now > self._next_note:
            log.warning("gate=wrong_password number=%d last_client=%s", self._wrong, client)
            self._next_note = now + NOTE_S

    def _ask(self, request: web.Request, complaint: str = "", status: int = 401, goal: str = "") -> web.Response:
        """The login page for people, one line for programs."""
        more = dict(pages.HEADERS)
        if status == 429:
            more["Retry-After"] = "".join(filter(str.isdigit, complaint))
        if headers.is_browser(request.headers) and "Upgrade" not in request.headers:
            page = pages.login(f"{headers.prefix_of(request.headers)}{OURS}login", login.safe_next(goal or request.raw_path), self.title, complaint)
            return web.Response(status=status, text=page, content_type="text/html", headers=more)
        if "Sec-Fetch-Mode" not in request.headers:  # a browser would open a box of its own
            more["WWW-Authenticate"] = 'Basic realm="SD-Reverie", charset="UTF-8"'
        return web.json_response({"error": complaint or "This address needs its password."}, status=status, headers=more)

    async def _own(self, request: web.Request) -> web.Response:
        if request.path == f"{OURS}login" and request.method == "POST":
            return await self._login(request)
        if request.path == f"{OURS}logout" and request.method == "POST":
            gone = web.Response(status=303, headers={**pages.HEADERS, "Location": f"{headers.prefix_of(request.headers)}/"})
            gone.del_cookie(self.cookie, path=f"{headers.prefix_of(request.headers)}/")
            return gone
        if request.path == f"{OURS}login":
            return self._ask(request, goal="/")
        return web.Response(status=404, text="There is nothing here.\n")

    async def _login(self, request: web.Request) -> web.Response:
        try:
            form = await asyncio.wait_for(request.post(), FORM_S)
        except asyncio.TimeoutError:
            return web.Response(status=408, text="The form did not come in.\n", headers={"Connection": "close"})
        given, goal = str(form.get("password", "")), login.safe_next(str(form.get("next", "")))
        wrong = self._judge(request, lambda: self.password.fits(given))
        if wrong:
            return self._ask(request, *wrong, goal=goal)
        prefix = headers.prefix_of(request.headers)
        welcome = web.Response(status=303, headers={**pages.HEADERS, "Location": prefix + goal})
        secure = headers.scheme(request.headers) == "https"
        welcome.set_cookie(self.cookie, self.sessions.new(), max_age=login.SESSION_S, path=f"{prefix}/", httponly=True, samesite="Lax", secure=secure)
        return welcome

    # Passing on

    def _asked(self, request: web.Request):
        given = request.headers.get("Authorization", "")
        ours = bool(given) and self.password.fits_header(given)
        return headers.upstream_request(request.headers, self.host, self._client_of(request), drop_authorization=ours or not self._has_session(request))

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        body = request.content.iter_any() if request.can_read_body else None
        address = URL(f"http://{self.host}{request.raw_path}", encoded=True)
        answer = None
        try:
            async with self.client.request(request.method, address, headers=self._asked(request), data=body, allow_redirects=False) as found:
                kept = headers.downstream_answer(found.headers, self.host, headers.prefix_of(request.headers))
                answer = web.StreamResponse(status=found.status, reason=found.reason, headers=kept)
                await answer.prepare(request)
                async for piece in found.content.iter_any():
                    await answer.write(piece)
                await answer.write_eof()
                return answer
        except (ClientError, asyncio.TimeoutError) as error:
            if answer is None:
                return self._unanswered(request, error)
            if request.transport is not None:
                request.transport.abort()  # half an answer is out, and must not look like a whole one
            return answer

    def _unanswered(self, request: web.Request, error: Exception) -> web.Response:
        log.info("gate=no_answer port=%s error=%s", self.port, type(error).__name__)
        if headers.is_browser(request.headers):
            return web.Response(status=502, text=pages.waiting(self.title), content_type="text/html", headers=pages.HEADERS)
        return web.json_response({"error": "The WebUI does not answer."}, status=502, headers=pages.HEADERS)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        names = [name.strip() for line in request.headers.getall("Sec-WebSocket-Protocol", []) for name in line.split(",") if name.strip()]
        address = URL(f"http://{self.host}{request.raw_path}", encoded=True)
        held = {"autoping": False, "autoclose": False, "max_msg_size": MOST_MESSAGE}
        try:
            inner = await self.client.ws_connect(address, headers=self._asked(request), protocols=names, compress=0, **held)
        except WSServerHandshakeError as error:
            return web.Response(status=error.status if error.status >= 400 else 502, text="The WebUI refused the WebSocket.\n")
        except (ClientError, asyncio.TimeoutError) as error:
            return self._unanswered(request, error)
        outer = web.WebSocketResponse(protocols=[inner.protocol] if inner.protocol else [], compress=False, timeout=CLOSE_S, **held)
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(inner.close)
            await outer.prepare(request)
            self._sockets.add(outer)
            ending.callback(self._sockets.discard, outer)
            await _both_ways(outer, inner)
        return outer

    async def _close_sockets(self, app) -> None:
        await asyncio.gather(*(socket.close(code=1001) for socket in list(self._sockets)), return_exceptions=True)


Socket = web.WebSocketResponse | ClientWebSocketResponse


async def _both_ways(outer: Socket, inner: Socket) -> None:
    """Messages from each side to the other until one ends; then the other is closed with the same code."""
    pumps = {asyncio.ensure_future(_pump(outer, inner)): inner, asyncio.ensure_future(_pump(inner, outer)): outer}
    try:
        done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
    first = done.pop()
    code, reason = first.result()
    other = pumps[first]
    await other.close(code=code, message=reason)
    await (outer if other is inner else inner).close(code=code, message=reason)


async def _pump(source: Socket, target: Socket) -> tuple[int, bytes]:
    """Messages from one side to the other; how it was closed. Pings go through: each side learns whether the far one lives."""
    with contextlib.suppress(ConnectionError, ClientError):
        while True:
            message = await source.receive()
            if message.type is WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type is WSMsgType.PING:
                await target.ping(message.data)
            elif message.type is WSMsgType.PONG:
                await target.pong(message.data)
            elif message.type is WSMsgType.CLOSE:
                told = message.data and message.data not in NO_CODES
                return (message.data, (message.extra or "").encode()[:120]) if told else (1000, b"")
            else:
                break
    return 1001, b""


async def serve(proxy: Proxy, port: int, ready, ended: asyncio.Event, host: str = "127.0.0.1", idle_s: float = IDLE_S) -> None:
    """Listen at `host`, tell `ready` the port, and end when `ended` is set."""
    known = {"access_log": None, "handler_cancellation": True, "shutdown_timeout": 2.0, "auto_decompress": False, "keepalive_timeout": idle_s}
    runner = web.AppRunner(proxy.application(), **known)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        ready(runner.addresses[0][1])
        await ended.wait()
    finally:
        await runner.cleanup()


def run(order: dict, listen, tell) -> None:
    """One gate as `order` says, until `listen(on_line)`, a blocking reader of the parent's lines, comes to its end."""
    import threading

    proxy = Proxy(order["upstream"], login.Password(order["password"]), bytes.fromhex(order["proof"]), order.get("title") or "SD-Reverie")
    if order.get("made"):
        proxy.tries = None
    host = "0.0.0.0" if order.get("everywhere") else "127.0.0.1"

    async def main() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def read() -> None:
            with contextlib.suppress(OSError, ValueError):
                listen(lambda line: loop.call_soon_threadsafe(proxy.hosts.add, str(json.loads(line).get("host", "")).lower()))
            with contextlib.suppress(RuntimeError):  # the loop has ended before
                loop.call_soon_threadsafe(ended.set)

        threading.Thread(target=read, daemon=True).start()
        await serve(proxy, order.get("port", 0), lambda port: tell({"port": port}), ended, host)

    asyncio.run(main())
