"""Training: schedule, data, and a smoke run of the real command's parts."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dfnet.capture import Split
from dfnet.captureset import open_captures
from dfnet.checkpoint import load_checkpoint, save_checkpoint
from dfnet.errors import CaptureError
from dfnet.model import DFNet, DFNetConfig
from dfnet.shipped import CAPTURES, TEXTURES
from dfnet.train import STEPS
from dfnet.train_command import SMOKE, provenance, run, write_curve
from dfnet.training import Schedule, output_loss, refocus_loss
from dfnet.training_data import SceneFeeder, draw_batch, pack


def test_scenes_arrive_by_step_and_not_by_clock() -> None:
    schedule = Schedule(scenes=50, first_scenes=10, steps_per_scene=4)
    counts = [schedule.scenes_at(step) for step in (0, 3, 4, 159, 10_000)]
    assert counts == [10, 10, 11, 49, 50]


def test_the_learning_rate_warms_up_and_falls_to_two_percent() -> None:
    schedule = Schedule(steps=1000, learning_rate=1.0, warm_up=10)
    assert schedule.learning_rate_at(0) == pytest.approx(0.1)
    assert schedule.learning_rate_at(10) == pytest.approx(1.0, abs=1e-3)
    assert schedule.learning_rate_at(999) == pytest.approx(0.02, abs=1e-3)


def test_crops_keep_inputs_target_and_truth_together() -> None:
    capture = open_captures(CAPTURES / Split.VALIDATION).load("validation-200")
    scene = pack(capture)
    rng = np.random.default_rng(0)
    batch = draw_batch([scene], rng, size=8, crop_px=64)
    sharp = batch.inputs[4].abs().amax((1, 2, 3)) == 0
    assert batch.truth.shape == (8, 3, 64, 64)
    assert 0 < int(sharp.sum()) < 8
    own = (batch.truth - batch.inputs[0]).abs().mean()
    of_another_crop = (batch.truth - batch.inputs[0].roll(1, 0)).abs().mean()
    assert float(own) < 0.5 * float(of_another_crop)


def test_packing_needs_every_truth(captures: tuple) -> None:  # type: ignore[type-arg]
    from dataclasses import replace

    capture = captures[0]
    untrue = replace(capture, targets=(replace(capture.targets[0], truth=None),))
    with pytest.raises(CaptureError, match="needs the truth"):
        pack(untrue)


def test_the_loss_is_least_at_the_truth() -> None:
    capture = open_captures(CAPTURES / Split.VALIDATION).load("validation-200")
    batch = draw_batch([pack(capture)], np.random.default_rng(0), size=2, crop_px=64)

    class Oracle(DFNet):
        def refine(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
            return (batch.truth + self.offset,) * 3

        offset = 0.0

    oracle = Oracle(DFNetConfig(width=1))
    at_truth = float(refocus_loss(oracle, batch))
    oracle.offset = 0.1
    assert float(refocus_loss(oracle, batch)) > at_truth + 0.05


def test_a_smoke_run_learns_a_little_and_saves(tmp_path: Path) -> None:
    validation = open_captures(CAPTURES / Split.VALIDATION).take(1)
    network = DFNet(DFNetConfig(width=4, blocks=(1, 1, 1)))
    trained = run(network, SMOKE, validation, loss_of=refocus_loss)
    assert [v.step for v in trained.curve] == [10, 20]
    assert all(np.isfinite(v.score_db) for v in trained.curve)
    assert trained.curve[1].loss < trained.curve[0].loss
    path = tmp_path / "smoke.safetensors"
    save_checkpoint(trained.network, path, training=provenance(trained, SMOKE, validation))
    write_curve(trained, SMOKE, tmp_path / "curve")
    assert load_checkpoint(path).description["training"]["best"]["step"] in (10, 20)
    assert len(json.loads((tmp_path / "curve.json").read_text())["validation"]) == 2
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_a_network_of_another_shape_trains_on_its_output() -> None:
    capture = open_captures(CAPTURES / Split.VALIDATION).load("validation-200")
    batch = draw_batch([pack(capture)], np.random.default_rng(0), size=2, crop_px=64)

    class Identity(torch.nn.Module):
        def forward(self, wide: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
            return wide

    class Oracle(torch.nn.Module):
        def forward(self, *_: torch.Tensor) -> torch.Tensor:
            return batch.truth

    assert float(output_loss(Oracle(), batch)) < float(output_loss(Identity(), batch))


def test_training_seeds_do_not_meet_the_shipped_ones(tmp_path: Path) -> None:
    from dfnet.shipped import SHIPPED
    from dfnet.training_data import FIRST_SEED

    shipped = itertools.chain.from_iterable(
        range(s.first_seed, s.first_seed + s.count) for s in SHIPPED
    )
    assert max(shipped) < FIRST_SEED


def test_a_dead_renderer_is_reported(tmp_path: Path) -> None:
    with (
        SceneFeeder(tmp_path / "no-textures", scenes=4) as feeder,
        pytest.raises(CaptureError, match="stopped after 0 scenes"),
    ):
        feeder.wait_for(1)


def test_textures_of_training_leave_out_validation_photographs() -> None:
    from dfnet.shipped import SHIPPED, VALIDATION_PHOTOGRAPHS

    calibration, validation, _ = (s.tiles() for s in SHIPPED)
    assert {t.source for t in validation} == set(VALIDATION_PHOTOGRAPHS)
    assert not {t.source for t in calibration} & set(VALIDATION_PHOTOGRAPHS)
    assert (TEXTURES / "ATTRIBUTION.md").is_file()


def test_help_tells_the_default_number_of_steps() -> None:
    assert Schedule().steps == STEPS
