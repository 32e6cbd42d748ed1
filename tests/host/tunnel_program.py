"""What a tunnel's program does, in small: `python tunnel_program.py KIND PORT [SECONDS]` prints that program's banner with the address
of a forwarder on this machine, which it really runs: what comes there goes to PORT, byte by byte."""

import os
import select
import socket
import sys
import threading
import time

BANNERS = {
    "cloudflared": (
        "2026-11-22T03:00:00Z INF Thank you for trying Cloudflare Tunnel.\n"
        "2026-11-22T03:00:00Z INF Requesting new quick Tunnel on http://127.0.0.1:9 ...\n"
        "2026-11-22T03:00:01Z INF +----------------------------------------------------------+\n"
        "2026-11-22T03:00:01Z INF |  Your quick Tunnel has been created! Visit it at:         |\n"
        "2026-11-22T03:00:01Z INF |  {url}                |\n"
        "2026-11-22T03:00:01Z INF +----------------------------------------------------------+\n"
    ),
    "ssh": "Pseudo-terminal will not be allocated because stdin is not a terminal.\nYou are not authenticated.\nYour tunnel will expire in 60 minutes.\n{url}\n",
    "lt": "your url is: {url}\n",
    "zrok": '{{"file":"share.go","level":"info","msg":"access your zrok share at the following endpoints:\\n {url}"}}\n',
    "ngrok": 't=2026 lvl=info msg="started tunnel" obj=tunnels name=command_line addr=http://127.0.0.1:9 url={url}\n',
    "colourful": "\x1b[32m\x1b[1mhere: {url}\x1b[0m\n",
}


def forward(client, port):
    with client, socket.create_connection(("127.0.0.1", port)) as inner:
        pairs = {client: inner, inner: client}
        while True:
            for source in select.select(list(pairs), [], [])[0]:
                data = source.recv(65536)
                if not data:
                    return
                pairs[source].sendall(data)


def accept(listener, port):
    while True:
        client, _ = listener.accept()
        threading.Thread(target=forward, args=(client, port), daemon=True).start()


def other_answer(listener):
    while True:
        client, _ = listener.accept()
        with client:
            client.recv(65536)
            client.sendall(b"HTTP/1.1 530 Not ours\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")


def main(kind, port, *more):
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    if kind == "hangs":
        print("connecting to the edge ...", flush=True)
        time.sleep(3600)
    if kind == "fails":
        print('ERR failed to request quick Tunnel: Post "http://127.0.0.1:9/tunnel": no such host', flush=True)
        sys.exit(1)
    if kind == "refuses":
        print(f"ERROR: authentication failed: the authtoken you gave is not valid. Your authtoken: {os.environ['NGROK_AUTHTOKEN']}", flush=True)
        sys.exit(1)
    if kind == "silent":  # an address where nothing listens
        listener.close()
    elif kind == "stranger":
        threading.Thread(target=other_answer, args=(listener,), daemon=True).start()
    else:
        threading.Thread(target=accept, args=(listener, int(port)), daemon=True).start()
    if kind == "nowhere":
        url = "https://never-there.invalid"
    if kind == "ngrok" and "NGROK_AUTHTOKEN" not in os.environ:
        sys.exit("no token")
    print(BANNERS.get(kind, "{url}\n").format(url=url), end="", flush=True)
    time.sleep(float(more[0]) if more else 3600)


if __name__ == "__main__":
    main(*sys.argv[1:])
