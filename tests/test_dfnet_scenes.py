"""Rendered scenes: determinism, occlusion, ranges, and the shipped sets."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dfnet.capture import Split, TargetKind
from dfnet.capturefiles import capture_sha256
from dfnet.captureset import open_captures, require_disjoint
from dfnet.errors import CaptureError
from dfnet.photograph import MARGIN_PX, Focus, Pair, photograph
from dfnet.rendering import Aperture, Layer
from dfnet.scenes import GRID_FRACTIONS, SceneRenderer, load_textures
from dfnet.shipped import CAPTURES, SHIPPED, TEXTURES

SIZE = 64


@pytest.fixture(scope="module")
def renderer() -> SceneRenderer:
    return SceneRenderer(load_textures(TEXTURES / "train"), size=SIZE, dtype=torch.float64)


def test_a_seed_gives_the_same_capture_again(renderer: SceneRenderer) -> None:
    first, again, other = (renderer.render(seed, id="scene") for seed in (5, 5, 6))
    assert capture_sha256(first.capture) == capture_sha256(again.capture)
    assert first.sources == again.sources
    assert capture_sha256(first.capture) != capture_sha256(other.capture)


def test_thread_count_does_not_change_a_capture(renderer: SceneRenderer) -> None:
    threads = torch.get_num_threads()
    hashes = []
    for count in (1, 2):
        torch.set_num_threads(count)
        hashes.append(capture_sha256(renderer.render(7, id="scene").capture))
    torch.set_num_threads(threads)
    assert hashes[0] == hashes[1]


def test_targets_and_truths_belong_together(renderer: SceneRenderer) -> None:
    capture = renderer.render(8, id="scene").capture
    sharp = capture.targets[0]
    assert [t.kind for t in capture.targets] == [
        TargetKind.ALL_IN_FOCUS,
        TargetKind.REFOCUS,
        TargetKind.REFOCUS,
    ]
    assert not sharp.defocus.any()
    assert all(t.truth is not None for t in capture.targets)


def test_scenes_cover_the_shipped_scales(renderer: SceneRenderer) -> None:
    rates = [
        renderer.render(seed, id="scene", grid_fraction=fraction).capture.optics
        for seed, fraction in enumerate(GRID_FRACTIONS)
    ]
    assert rates[0] is not None
    assert rates[1] is not None
    assert rates[1].blur_px_per_dioptre > 3 * rates[0].blur_px_per_dioptre


def step_scene() -> list[Layer]:
    """A near half plane in front of a far wall, both plain."""
    frame = SIZE + 2 * MARGIN_PX
    colour = torch.full((3, frame, frame), 0.3, dtype=torch.float64)
    near = torch.zeros(1, frame, frame, dtype=torch.float64)
    near[..., frame // 2 :] = 1
    depth = torch.ones(frame, frame, dtype=torch.float64)
    return [
        Layer(colour, torch.ones_like(near), depth * 0.5, opaque=True),
        Layer(colour * 0.5, near, depth * 2.5),
    ]


@pytest.mark.parametrize(("angle", "hidden_side"), [(0.0, "none"), (np.pi, "left")])
def test_occlusion_is_where_the_second_camera_sees_something_nearer(
    angle: float, hidden_side: str
) -> None:
    pair = Pair(grid_fraction=0.25, angle=angle, plane_dioptres=0.5)
    capture = photograph(
        step_scene(),
        pair,
        Focus(0.5),
        [],
        id="step",
        rng=np.random.default_rng(0),
        aperture=Aperture(SIZE + 2 * MARGIN_PX, dtype=torch.float64),
    )
    # The near plane moves by 2 dioptres of disparity against the wall; when it moves left it
    # hides a strip of wall that wide, just left of the edge.
    strip_px = 2 * pair.disparity_px_per_dioptre
    left = capture.occlusion[0, 0, SIZE // 2, : SIZE // 2]
    expected = strip_px if hidden_side == "left" else 0
    assert left.sum() == pytest.approx(expected, abs=2.5)
    if expected:
        assert left[-1] == 1
        assert left[0] == 0


def test_no_texture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match=r"got no \.jpg tile"):
        load_textures(tmp_path)


def test_shipped_sets_are_whole_and_disjoint() -> None:
    sets = [open_captures(CAPTURES / shipped.split) for shipped in SHIPPED]
    require_disjoint(*sets)
    counts = {captures.split: len(captures) for captures in sets}
    assert counts == {Split.CALIBRATION: 16, Split.VALIDATION: 8, Split.HELD_OUT: 12}
    for captures in sets:
        assert len(list(captures)) == len(captures)


def test_the_shipped_captures_are_what_the_renderer_gives() -> None:
    shipped = SHIPPED[2]
    stored = open_captures(CAPTURES / shipped.split).load("held-out-300")
    again = SceneRenderer(shipped.tiles(), dtype=torch.float64).render(300, id="held-out-300")
    assert capture_sha256(again.capture) == capture_sha256(stored)


def test_the_ultrawide_picture_helps_all_in_focus() -> None:
    """Colour-matched and warped, it must beat the wide picture where that is blurred."""
    gains = []
    for capture in open_captures(CAPTURES / Split.VALIDATION):
        truth = capture.targets[0].truth
        assert truth is not None
        blurred = (capture.defocus_wide > 0.2) & (capture.occlusion == 0)
        if blurred.sum() > 1000:
            error_wide, error_ultrawide = (
                float(np.mean(((picture - truth) ** 2)[:, :, blurred[0, 0]]))
                for picture in (capture.wide, capture.ultrawide)
            )
            gains.append(10 * np.log10(error_wide / error_ultrawide))
    assert np.mean(gains) > 2
