"""`python -m reverie.host.tunnels.gradio_share PORT`: Gradio's share tunnel to a port of this machine, as a program like the others:
it prints its address and runs on until it is ended. Gradio fetches frpc, the program behind it, the first time."""

from __future__ import annotations

import inspect
import secrets
import sys
import time

SERVICE = {  # what `setup_tunnel` may take, by name; versions of Gradio differ in which of them they have
    "local_host": "127.0.0.1", "share_server_address": None, "share_server_tls_certificate": None,
}


def main(port: int) -> None:
    from gradio import networking

    known = inspect.signature(networking.setup_tunnel).parameters
    given = {**SERVICE, "local_port": port, "share_token": secrets.token_urlsafe(32)}
    print(networking.setup_tunnel(**{name: value for name, value in given.items() if name in known}), flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main(int(sys.argv[1]))
