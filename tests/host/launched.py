"""A WebUI for tests of launching: installed by hand, its server a script that behaves as its first argument says."""

import json
import sys
import textwrap

from reverie.host import webuis

SERVER = textwrap.dedent('''
    """A small server: `python server.py PORT HOW [PORT OF ITS OWN]`."""
    import http.server, os, signal, subprocess, sys, time

    port, how = int(sys.argv[1]), sys.argv[2]
    host, asked = "127.0.0.1", 0
    print("loading", flush=True)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            global asked
            asked += 1
            self.send_response(500 if how == "moody" and asked < 4 or how == "ill" else 200)
            self.end_headers()
            self.wfile.write(" ".join(sys.argv).encode())

        def log_message(self, *words):
            pass

    if how == "dies":
        print("Traceback (most recent call last):\\n  File x\\nModuleNotFoundError: No module named 'torch_of_old'", flush=True)
        sys.exit(3)
    if how == "quiet death":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "will not end":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if how == "hangs":
        time.sleep(1000)
    if how == "chatters":
        for step in range(8):
            print("step", step, flush=True)
            time.sleep(0.5)
    if how == "bars":
        for step in range(300):
            print(f"\\r{step}/300", end="", flush=True)
            time.sleep(0.01)
        print()
    if how == "floods":
        line = b"x" * 1023 + b"\\n"
        for _ in range(40):
            sys.stdout.buffer.write(line * 1024)
        sys.stdout.flush()
    if how == "taken once" and not os.path.exists("was taken"):
        open("was taken", "w").close()
        sys.exit("OSError: [Errno 98] error while attempting to bind on address: Address already in use")
    if how == "open":
        host = "0.0.0.0"
    if how == "family":
        subprocess.Popen([sys.executable, "-c", "import subprocess, sys; subprocess.Popen(['sleep', '1000'], start_new_session=True).wait()"])
    if how == "shows":
        print("TOKEN", os.environ.get("HF_TOKEN"), "MODULES", os.environ.get("PYTHONPATH"), "SHARE", os.environ.get("GRADIO_SHARE"), flush=True)
    http.server.ThreadingHTTPServer((host, port), Handler).serve_forever()
''')


def installed(settings, how, **more):
    """A WebUI whose server behaves like that, as if it had been installed."""
    ui = webuis.WebUI(id="small", title="Small", start=("$PYTHON", "server.py", "$PORT", how), **{"health": "/ping", "port": 0, **more})
    home, python = webuis.home(ui, settings), webuis.venv_python(ui, settings)
    home.mkdir(parents=True, exist_ok=True)
    (home / "server.py").write_text(SERVER)
    (home / webuis.RECEIPT).write_text(json.dumps({"state": "installed", "venv": "small"}))
    python.parent.mkdir(parents=True, exist_ok=True)
    if not python.exists():
        python.symlink_to(sys.executable)
    return ui
