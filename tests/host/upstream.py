"""A real WebUI in small, for the gate's tests: `python upstream.py PORT` prints its port and serves until its input ends.

It refuses foreign origins as ComfyUI does, echoes WebSockets, streams events, large downloads and uploads, and tells what headers it got.
"""

import asyncio
import hashlib
import sys
import threading

from aiohttp import WSMsgType, web

PIECE = bytes(range(256)) * 256  # 64 KiB


@web.middleware
async def only_own_origin(request, handler):
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        return web.Response(status=403)
    origin = request.headers.get("Origin")
    if origin and origin.partition("://")[2] != request.headers["Host"]:
        return web.Response(status=403, text="foreign origin")
    return await handler(request)


async def seen(request):
    pairs = [[name, value] for name, value in request.headers.items()]
    return web.json_response({"method": request.method, "path": request.raw_path, "headers": pairs, "body": (await request.read()).decode("latin-1")})


async def download(request):
    pieces = int(request.query["pieces"])
    answer = web.StreamResponse(headers={"Content-Type": "application/octet-stream"} | ({} if "chunked" in request.query else {"Content-Length": str(pieces * len(PIECE))}))
    await answer.prepare(request)
    for _ in range(pieces if request.method == "GET" else 0):
        await answer.write(PIECE)
    return answer


async def upload(request):
    digest, size = hashlib.sha256(), 0
    async for piece in request.content.iter_any():
        digest.update(piece)
        size += len(piece)
    return web.json_response({"sha256": digest.hexdigest(), "size": size, "length": request.headers.get("Content-Length")})


async def events(request):
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    await answer.write(b"data: first\n\n")
    await request.app["go_on"].wait()
    await answer.write(b"data: second\n\n")
    return answer


async def go_on(request):
    request.app["go_on"].set()
    return web.Response(text="ok")


async def echo(request):
    socket = web.WebSocketResponse(protocols=("comfy",), max_msg_size=0)
    await socket.prepare(request)
    request.app["told"]["open"] += 1
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data.startswith("close "):
                await socket.close(code=int(message.data[6:]), message=b"as you wished")
            elif message.type is WSMsgType.TEXT and message.data == "headers":
                await socket.send_json({name.lower(): value for name, value in request.headers.items()})
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
    finally:
        request.app["told"]["open"] -= 1
        request.app["told"]["closed_with"] = socket.close_code
    return socket


async def sockets(request):
    return web.json_response(request.app["told"])


async def half(request):
    answer = web.StreamResponse(headers={"Content-Length": "1000"})
    await answer.prepare(request)
    await answer.write(b"x" * 500)
    request.transport.close()
    return answer


async def ranged(request):
    return web.FileResponse(request.app["file"])


async def cookies(request):
    answer = web.Response(text="two", headers={"Connection": "X-Only-This-Hop", "X-Only-This-Hop": "1", "X-Kept": "1"})
    answer.set_cookie("one", "1")
    answer.set_cookie("two", "2")
    answer.headers.add("Set-Cookie", "reverie_gate_0123=stolen; Path=/")
    return answer


async def away(request):
    return web.Response(status=302, headers={"Location": request.query["to"].replace("HOST", request.headers["Host"])})


def main(port):
    app = web.Application(middlewares=[only_own_origin], client_max_size=2**30)
    app["go_on"], app["told"], app["file"] = asyncio.Event(), {"open": 0, "closed_with": None}, __file__
    for path, handler in {"/download": download, "/events": events, "/go_on": go_on, "/ws": echo, "/sockets": sockets, "/half": half, "/file": ranged, "/cookies": cookies, "/away": away}.items():
        app.router.add_get(path, handler)
    app.router.add_post("/upload", upload)
    app.router.add_route("*", "/{path:.*}", seen)

    async def serve():
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        print(runner.addresses[0][1], flush=True)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)), daemon=True).start()
        await ended.wait()
        await runner.cleanup()

    asyncio.run(serve())


if __name__ == "__main__":
    main(int(sys.argv[1]))
