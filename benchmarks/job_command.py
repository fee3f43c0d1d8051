"""What ``python -m benchmarks job`` does: write what a runner on a device needs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.command import Options, prepare
from benchmarks.device_job import JobOptions, write_jobs
from benchmarks.mosaic import fill_frame
from dfnet.captureset import open_captures
from dfnet.console import EXIT_OK, results_console
from dfnet.profiles import Resolution
from dfnet.signature import Feed


def write(options: Options, folder: Path, job: JobOptions) -> int:
    """Writes a job per chosen artifact into ``folder``, with captures as inputs."""
    chosen = prepare(options)
    captures = tuple(open_captures(options.captures))

    def feed(resolution: Resolution) -> Feed:
        return fill_frame(captures, resolution)[0].feed

    console = results_console()
    for path in write_jobs(chosen, feed, folder, job):
        console.print(str(path), markup=False)
    return EXIT_OK
