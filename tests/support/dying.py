"""The vendor's server, killed (9) before its n-th step: a statement, a commit, an answer.

dying = Dying(books)
url = dying.start(7)
...
assert dying.ended() == -signal.SIGKILL
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.support.books import Books

# The real server, which kills itself (9) before its n-th statement, commit or answer. Each server is a fork of one
# process that has imported everything, and says its address; how it ended is the next line.
_DYING = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import Engine, event
from licd_vendor import keys, listen, serve

folder = Path(sys.argv[1])

def child(left):
    def step(*_, **__):
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
    app = serve.create_app(folder, folder / "vendor.db", keys.read_signer(folder, None, lambda _: None))
    for name in ("before_cursor_execute", "commit", "rollback"):
        event.listen(Engine, name, step)
    inner = app.wsgi_app
    def stepping(environ, start_response):
        step()
        answer = inner(environ, start_response)
        step()
        return answer
    app.wsgi_app = stepping
    def say(port):
        print(f"serves http://127.0.0.1:{port} {os.getpid()}", file=sys.stderr, flush=True)
    listen.serve(app, "127.0.0.1", 0, None, say, proxied=False)

for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        child(int(line))
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print("ended", os.waitstatus_to_exitcode(status), file=sys.stderr, flush=True)
"""


class Dying:
    """Servers, one after another."""

    def __init__(self, books: Books) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _DYING, str(books.dir)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def start(self, steps: int) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        url, pid = self._wait("serves ").split()
        self.pid = int(pid)
        return url

    def ended(self) -> int:
        return int(self._wait("ended "))

    def _wait(self, words: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith(words):
                return line.removeprefix(words)
        raise AssertionError("it is gone")

    def close(self) -> None:
        assert self.process.stdin is not None
        os.kill(self.pid, signal.SIGTERM)
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
