"""Our files beside the SDKs' own: what is compared, and that nothing is left out silently."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.peers.comparison import FLOAT, OURS, PEER, RECIPES, UNFUSED, compare
from benchmarks.peers.measuring import network_macs
from benchmarks.peers.peak import RESOLUTION, SIDE, make
from benchmarks.peers.rendering import render_peers
from benchmarks.row import Row
from dfnet.errors import ArtifactError
from dfnet.model import DFNet
from dfnet.profiles import Resolution
from dfnet.tensors import example_inputs
from export.variants import RUNTIMES

MS = {FLOAT: 100.0, UNFUSED: 120.0, OURS: 40.0, "int8-full": 30.0, PEER: 60.0}


@pytest.fixture
def rows() -> list[Row]:
    """One runtime's, with times of their own."""
    every = [Row(**row) for row in json.loads(Path("docs/results.json").read_text())]
    some = next(row for row in every if row.runtime == "litert" and row.recipe == "int8")
    return [
        replace(some, recipe=recipe, median_ms=ms, latency_validity="VALID", artifact_sha256=recipe)
        for recipe, ms in MS.items()
    ]


def compared(rows: list[Row], **changes: Any) -> dict[str, Any]:
    figures = {"network_macs": 8_000_000_000, "peak": 400.0, "profile_ms": None, **changes}
    return compare(rows, **figures).to_json()


def test_ratios_are_over_one_where_the_first_is_faster(rows: list[Row]) -> None:
    row = compared(rows)
    assert (row["speed_ratio"], row["over_fp32"], row["fusing_ratio"]) == (1.5, 2.5, 1.2)
    assert row["gmac_per_s"] == 200.0
    assert row["validity"] == "VALID"
    assert row["artifacts"][PEER] == PEER


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_missing_file_is_an_error(recipe: str, rows: list[Row]) -> None:
    with pytest.raises(ArtifactError, match=f"without {recipe}"):
        compared([row for row in rows if row.recipe != recipe])


def test_a_runtime_that_cannot_hold_the_unfused_network_is_compared_all_the_same(
    rows: list[Row],
) -> None:
    row = compared([one for one in rows if one.recipe != UNFUSED])
    assert row["fusing_ratio"] is None
    assert row["speed_ratio"] == 1.5


def test_files_of_two_sizes_are_not_compared(rows: list[Row]) -> None:
    rows[0] = replace(rows[0], resolution="64x64")
    with pytest.raises(ArtifactError, match="one runtime, backend and resolution"):
        compared(rows)


def test_an_invalid_time_is_said_and_a_missing_one_is_not_run(rows: list[Row]) -> None:
    rows[0] = replace(rows[0], latency_validity="INVALID (repeats spread by 30%)")
    rows[2] = replace(rows[2], median_ms=None)
    row = compared(rows)
    assert "fp32: INVALID (repeats spread by 30%)" in row["validity"]
    assert row["speed_ratio"] is None
    assert "not run" in render_peers([row])


def test_the_page_says_where_the_time_goes(rows: list[Row]) -> None:
    page = render_peers([compared(rows, profile_ms={"Convolution": 90.0, "Add": 0.5})])
    assert "99% Convolution" in page
    assert "Add" not in page


def test_work_is_counted_at_the_size_that_runs(tiny_network: DFNet) -> None:
    small, large = (network_macs(tiny_network, Resolution(64, side)) for side in (64, 128))
    assert large == 2 * small > 0


def test_the_peak_is_made_of_matrix_products_of_2048() -> None:
    positions = RESOLUTION.height * RESOLUTION.width // 64
    assert positions == SIDE
    products = network_macs(make(), RESOLUTION) / SIDE**3
    assert 2 < products < 2.5  # two products, and the way in and out
    with torch.no_grad():
        assert make()(*example_inputs(Resolution(64, 64))).shape == (1, 3, 64, 64)


def test_every_runtime_that_is_compared_offers_every_recipe() -> None:
    for runtime in ("litert", "executorch", "onnx"):
        offered = {v.recipe for v in RUNTIMES[runtime].variants if v.platform == "android"}
        assert set(RECIPES) <= offered
