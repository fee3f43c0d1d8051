"""The renderer against closed-form cases."""

import math

import numpy as np
import pytest
import torch

from dfnet.capture import MAX_RADIUS_PX
from dfnet.photograph import WIDE, Focus, Pair
from dfnet.rendering import (
    Aperture,
    Layer,
    linear_from_srgb,
    render,
    srgb_from_linear,
    translate,
    visible_dioptres,
)

SIZE = 64


def flat_layer(value: float, dioptres: float, *, opaque: bool = True) -> Layer:
    colour = torch.full((3, SIZE, SIZE), value, dtype=torch.float64)
    alpha = torch.ones(1, SIZE, SIZE, dtype=torch.float64)
    return Layer(colour, alpha, torch.full((SIZE, SIZE), dioptres, dtype=torch.float64), opaque)


def point_light() -> Layer:
    layer = flat_layer(0.0, 1.0)
    layer.colour[:, SIZE // 2, SIZE // 2] = 1000.0
    return layer


@pytest.mark.parametrize("radius_px", [2.0, 5.0, 9.5])
def test_a_point_light_becomes_a_disc_of_the_blur_radius(radius_px: float) -> None:
    aperture = Aperture(SIZE, dtype=torch.float64)
    picture = render([point_light()], lambda d: torch.full_like(d, radius_px), aperture)[0]
    lit_area = float((picture > picture.max() / 2).sum())
    assert math.sqrt(lit_area / math.pi) == pytest.approx(radius_px, abs=0.5)
    y, x = torch.nonzero(picture > picture.max() / 2, as_tuple=True)
    assert float(x.double().mean()) == pytest.approx(SIZE / 2, abs=1e-6)
    assert float(y.double().mean()) == pytest.approx(SIZE / 2, abs=1e-6)


@pytest.mark.parametrize("blades", [0, 5, 8])
def test_blur_conserves_energy(blades: int) -> None:
    aperture = Aperture(SIZE, blades=blades, rotation=0.3, rim=0.4, dtype=torch.float64)
    picture = render([point_light()], lambda d: torch.full_like(d, 6.0), aperture)
    assert float(picture.sum()) == pytest.approx(3000.0, rel=1e-9)


def test_a_layer_in_focus_is_unchanged() -> None:
    layer = flat_layer(0.0, 1.0)
    layer.colour[:] = torch.rand(3, SIZE, SIZE, dtype=torch.float64)
    picture = render([layer], torch.zeros_like, Aperture(SIZE, dtype=torch.float64))
    assert torch.equal(picture, layer.colour)


def test_a_flat_scene_stays_flat_even_on_a_slant() -> None:
    layer = flat_layer(0.4, 1.0)
    slant = torch.linspace(0, 8, SIZE, dtype=torch.float64).expand(SIZE, SIZE)
    picture = render([layer], lambda _: slant, Aperture(SIZE, dtype=torch.float64))
    inside = picture[:, 12:-12, 12:-12]
    assert torch.allclose(inside, torch.full_like(inside, 0.4), atol=1e-9)


def test_background_shows_through_a_blurred_edge_and_not_through_a_sharp_one() -> None:
    background, foreground = flat_layer(0.0, 0.2), flat_layer(1.0, 3.0, opaque=False)
    foreground.alpha[..., : SIZE // 2] = 0

    def half_blurred(dioptres: torch.Tensor) -> torch.Tensor:
        return torch.where(dioptres > 1, 6.0, 0.0).to(torch.float64)

    aperture = Aperture(SIZE, dtype=torch.float64)
    sharp = render([background, foreground], torch.zeros_like, aperture)
    blurred = render([background, foreground], half_blurred, aperture)
    middle = SIZE // 2
    assert set(torch.unique(sharp).tolist()) == {0.0, 1.0}
    assert 0.2 < float(blurred[0, middle, middle]) < 0.8
    assert float(blurred[0, middle, middle + 10]) == pytest.approx(1.0)


def test_the_z_buffer_holds_the_nearest_covering_layer() -> None:
    background, foreground = flat_layer(0.0, 0.2), flat_layer(1.0, 3.0, opaque=False)
    foreground.alpha[..., : SIZE // 2] = 0
    depth = visible_dioptres([background, foreground])
    assert depth[0, 0] == 0.2
    assert depth[0, -1] == 3.0


def test_translate_moves_right_and_down() -> None:
    picture = torch.zeros(1, SIZE, SIZE, dtype=torch.float64)
    picture[0, 20, 30] = 1
    shift = torch.ones(SIZE, SIZE, dtype=torch.float64)
    moved = translate(picture, 3 * shift, 2 * shift)
    assert moved[0, 22, 33] == pytest.approx(1, abs=1e-9)


def test_srgb_round_trip_and_known_value() -> None:
    values = torch.linspace(0, 1, 256, dtype=torch.float64)
    assert torch.allclose(srgb_from_linear(linear_from_srgb(values)), values, atol=1e-6)
    assert float(linear_from_srgb(torch.tensor(0.5))) == pytest.approx(0.21404, abs=1e-5)


def test_wide_blur_follows_the_thin_lens() -> None:
    # A = 3.681 mm, f_px = 2837.5: half of A * f_px is 5.22 px per dioptre on the full grid.
    pair = Pair(grid_fraction=0.5, angle=0.0, plane_dioptres=1.0)
    assert pair.blur_px_per_dioptre(WIDE) == pytest.approx(2.611, abs=2e-3)
    radius = pair.wide_radius(torch.tensor([1.0, 2.0, 9.0]), Focus(1.0))
    assert radius.tolist() == pytest.approx([0.0, 2.611, MAX_RADIUS_PX - 0.1], abs=2e-3)


def test_kernels_sum_to_one_and_grow_with_radius() -> None:
    aperture = Aperture(SIZE, blades=6, dtype=torch.float64)
    areas = []
    for radius in (1.0, 4.0, 8.0):
        kernel = aperture.kernel(radius)
        assert float(kernel.sum()) == pytest.approx(1)
        areas.append(int((kernel > kernel.max() / 2).sum()))
    assert np.all(np.diff(areas) > 0)
