"""`python -m reverie.host.gate`: one gate as a process of its own.

Its first line of standard input is a JSON object: `password`, `upstream` (the WebUI's port), `proof` (hex), `port` (0: any), `title`,
`everywhere` (listen to the network, not to this machine alone), `made` (the password is one of ours, which nobody guesses).
Its only line of standard output is {"port": …}, or {"error": …}. Further lines of input tell hosts under which it is seen:
{"host": "x.trycloudflare.com"}. It ends when its input does: with whoever started it, however that one ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the notebook is not meant for the gate
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    source = sys.stdin.buffer

    def tell(answer: dict) -> None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()

    def listen(on_line) -> None:
        for line in source:
            on_line(line)

    order = json.loads(source.readline())
    _more_connections()
    from reverie.host.gate import proxy

    try:
        proxy.run(order, listen, tell)
    except OSError as error:
        tell({"error": f"{error.strerror or error}"})
        return 1
    return 0


def _more_connections() -> None:
    """As many as the system allows: a flood of idle ones must not keep its owner out."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the thread that reads standard input may still hold it
