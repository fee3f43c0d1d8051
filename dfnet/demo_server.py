"""The demo's page and pictures, served to this machine alone.

    /, /demo.css, /demo.js    the page
    /about                    which file computes, as text
    /wide.png                 the picture as it was captured
    /picture?focus_at=X,Y&f_stop=N | target=NAME | tilt_shift=Y,HALF    a refocused PNG

A query that cannot be answered gets a 400 and one sentence. Nothing else on disk is served.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dfnet.artifact import Artifact
from dfnet.capture import Capture, Image
from dfnet.errors import DFNetError, UnsupportedError
from dfnet.refocus_command import pixels_of, run
from dfnet.runner import Runner
from dfnet.wish import Wish

_PAGE = Path(__file__).with_name("demo_page")
_STATIC = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
}
_HOST = "127.0.0.1"


class DemoServer(ThreadingHTTPServer):
    """Serves ``capture`` refocused by ``runner`` on 127.0.0.1; port 0 takes a free one."""

    daemon_threads = True

    def __init__(self, port: int, runner: Runner, artifact: Artifact, capture: Capture) -> None:
        super().__init__((_HOST, port), _Handler)
        self._runner, self._artifact, self._capture = runner, artifact, capture
        self._one_at_a_time = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.server_port}/"

    @property
    def about(self) -> str:
        sha256 = self._artifact.manifest.artifact_sha256[:12]
        where = self._runner.device.name
        return f"Computed by {self._artifact.id} (sha256 {sha256}) on {where}."

    @property
    def wide(self) -> bytes:
        return _png(self._capture.wide)

    def refocused(self, query: str) -> bytes:
        """The PNG that ``query`` asks for.

        Raises:
            DFNetError: the query is malformed, or asks for what cannot be.
        """
        target = wish_of(query).target_of(self._capture)
        with self._one_at_a_time:
            return _png(run(self._runner, self._artifact, self._capture, target))


def wish_of(query: str) -> Wish:
    """The wish that a query string spells.

    Raises:
        UnsupportedError: an unknown or repeated name, or a value of another form.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    values = dict(pairs)
    if len(values) < len(pairs) or not values.keys() <= _FIELDS.keys():
        raise UnsupportedError(
            f"Query: got {[name for name, _ in pairs]}, needed some of {', '.join(_FIELDS)} once."
        )
    try:
        return Wish(**{name: _FIELDS[name](text) for name, text in values.items()})
    except ValueError as error:
        raise UnsupportedError(
            f"Query: got {query[:80]!r}, needed numbers such as focus_at=10,20 and f_stop=2.8."
        ) from error


def _pair_of(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> tuple[Any, Any]:
        first, second = text.split(",")
        return kind(first), kind(second)

    return parse


_FIELDS: dict[str, Callable[[str], Any]] = {
    "target": str,
    "focus_at": _pair_of(int),
    "f_stop": float,
    "tilt_shift": _pair_of(float),
}


def _png(picture: Image) -> bytes:
    stream = io.BytesIO()
    pixels_of(picture).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        # Another site's name that resolves to this machine must not read the pictures.
        allowed = {f"{host}:{self.server.server_port}" for host in (_HOST, "localhost")}
        if self.headers.get("Host") not in allowed:
            self._answer(HTTPStatus.FORBIDDEN, f"Open {self.server.url} instead.".encode())
        elif parts.path in _STATIC:
            name, kind = _STATIC[parts.path]
            self._answer(HTTPStatus.OK, (_PAGE / name).read_bytes(), kind)
        elif parts.path == "/about":
            self._answer(HTTPStatus.OK, self.server.about.encode())
        elif parts.path == "/wide.png":
            self._answer(HTTPStatus.OK, self.server.wide, "image/png")
        elif parts.path == "/picture":
            self._refocused(parts.query)
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"There is no such page.")

    def _refocused(self, query: str) -> None:
        try:
            picture = self.server.refocused(query)
        except DFNetError as error:
            self._answer(HTTPStatus.BAD_REQUEST, str(error).encode())
        else:
            self._answer(HTTPStatus.OK, picture, "image/png")

    def _answer(
        self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            self.close_connection = True  # the page was closed or asked for something newer

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line on the console."""
