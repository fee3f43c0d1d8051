"""What ``python -m dfnet demo`` does."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from pathlib import Path

from dfnet.console import EXIT_OK, progress_console
from dfnet.demo_scene import SCENES, kept_demo_capture
from dfnet.demo_server import DemoServer
from dfnet.errors import UnsupportedError
from dfnet.exported import find_artifact, opened, resolution_of
from dfnet.refocus_command import find_capture
from dfnet.signature import STRIDE


@dataclass(frozen=True)
class Options:
    """The command line as given; see ``python -m dfnet demo --help``."""

    artifact: Path
    capture: Path | None
    port: int
    browser: bool
    threads: int


def demo(options: Options) -> int:
    """Serves the page until Ctrl-C.

    Raises:
        DFNetError: an option is wrong, the file cannot run, or the port is taken.
    """
    artifact = find_artifact(options.artifact)
    frame = resolution_of(artifact).require_multiple_of(STRIDE)
    console = progress_console()
    capture = (
        kept_demo_capture(SCENES, frame)
        if options.capture is None
        else find_capture(options.capture)
    )
    with opened(artifact, threads=options.threads) as runner:
        try:
            server = DemoServer(options.port, runner, artifact, capture)
        except OSError as error:
            raise UnsupportedError(
                f"Port {options.port}: cannot be used ({error.strerror}). Choose another --port."
            ) from error
        with server:
            console.print(f"{server.url} shows the demo; Ctrl-C ends it.", markup=False)
            if options.browser:
                webbrowser.open(server.url)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                console.print("Ended.")
    return EXIT_OK
