"""python -m export.coreml_calibrate: int8 the way coremltools does it, on any system.

coremltools calibrates activations by predicting, hence on macOS only; here the reference evaluator
predicts. The product quantizes one torch graph for every runtime instead (``quantize``); this is
the second path to compare it with.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfnet.console import Progress, debug_option, run_command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dfnet.signature import Feed

_PATH = click.Path(path_type=Path)


@click.command("export.coreml_calibrate")
@click.argument("package", type=_PATH)
@click.option("--output", type=_PATH, required=True, help="The .mlpackage folder to write.")
@click.option(
    "--captures",
    type=_PATH,
    default=Path("data/captures/calibration"),
    show_default=True,
    help="Captures of the package's own size to calibrate with.",
)
@debug_option
def main(package: Path, output: Path, captures: Path) -> None:
    """Quantize PACKAGE, a float Core ML package, with coremltools' own calibration.

    Weights become int8 per channel, activations int8 per tensor.
    """
    from dfnet.capture import Split
    from dfnet.captureset import open_captures, require_split
    from dfnet.errors import UnsupportedError
    from export.mil import Package
    from export.sdk_log import sdk_log

    if output.exists():
        raise UnsupportedError(f"Output {output}: exists already. Remove it, or name another.")
    Package(package)  # refuses what is no package, before anything is written
    calibration = require_split(open_captures(captures), Split.CALIBRATION)
    feeds = (c.feed(target) for c in calibration for target in c.targets)
    log = output.with_suffix(".log")
    with Progress() as progress, progress.step(f"Calibrate {package}"), sdk_log(log):
        quantize_package(package, feeds, output)
    click.echo(f"{output}: int8 by coremltools (log: {log})")


def quantize_package(package: Path, feeds: Iterable[Feed], output: Path) -> None:
    """Writes ``package`` with int8 activations and weights to ``output``; nothing on failure.

    ``feeds`` have the package's own input shapes.

    Raises:
        UnsupportedError: there are no feeds, or they do not fit the package.
    """
    import coremltools as ct
    import coremltools.optimize.coreml as cto

    from dfnet.errors import UnsupportedError
    from export.coreml_package import normalise_package
    from export.coreml_proxy import evaluator_as_core_ml

    samples = [dict(feed) for feed in feeds]
    if not samples:
        raise UnsupportedError("Calibration: got no feeds, needed at least one. Add captures.")
    linear = cto.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    config = cto.OptimizationConfig(global_config=linear)
    scratch = output.with_suffix(".part")
    try:
        model = ct.models.MLModel(str(package), skip_model_load=True)
        with evaluator_as_core_ml():
            activations = cto.linear_quantize_activations(model, config, samples)
            quantized = cto.linear_quantize_weights(activations, config)
        quantized.save(str(scratch / output.name))
        normalise_package(scratch / output.name)
        (scratch / output.name).rename(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    run_command(main)
