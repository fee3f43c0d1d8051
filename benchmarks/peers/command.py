"""What ``python -m benchmarks.peers`` does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.markdown import Markdown

from benchmarks.latency import PROTOCOLS
from benchmarks.peers.measuring import RUNTIMES, PeersRequest, measure
from benchmarks.peers.rendering import render_peers
from dfnet.capture import Split
from dfnet.captureset import open_captures, require_disjoint, require_split
from dfnet.console import EXIT_OK, Progress, results_console
from dfnet.logs import log_records_to
from dfnet.network import NetworkChoice
from dfnet.profiles import parse_resolution


@dataclass(frozen=True)
class Options:
    """The command line as given; see ``python -m benchmarks.peers --help``."""

    runtimes: tuple[str, ...]
    resolution: str
    protocol: str
    threads: int
    output: Path
    captures: Path
    checkpoint: Path | None
    factory: str | None
    weights: Path | None
    calibration: Path
    as_json: bool


def run(options: Options) -> int:
    """Measures and prints; 0 whatever the ratios, which are figures, not bars.

    Raises:
        DFNetError: an option is wrong, or a file could not be made, scored or timed.
    """
    torch.set_num_threads(options.threads)
    calibration = require_split(open_captures(options.calibration), Split.CALIBRATION)
    captures = require_split(open_captures(options.captures), Split.HELD_OUT)
    require_disjoint(calibration, captures)
    options.output.mkdir(parents=True, exist_ok=True)
    log = options.output / "benchmarks.log"
    request = PeersRequest(
        runtimes=options.runtimes or RUNTIMES,
        resolution=parse_resolution(options.resolution),
        checkpoint=NetworkChoice(options.checkpoint, options.factory, options.weights).load(),
        calibration=calibration,
        captures=captures,
        output=options.output,
        protocol=PROTOCOLS[options.protocol],
        threads=options.threads,
        log=log,
    )
    with log_records_to(log), Progress() as progress:
        rows = [comparison.to_json() for comparison in measure(request, progress)]
    console = results_console()
    if options.as_json:
        console.print_json(json.dumps(rows, allow_nan=False))
    else:
        console.print(Markdown(render_peers(rows)))
    return EXIT_OK
