from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dfnet.errors import ArtifactError, UnsupportedError

from mil_kernels import reals, run, run_all


def codes(*values: int) -> npt.NDArray[np.int8]:
    return np.array(values, np.int8)


def bytes_of(*values: int) -> npt.NDArray[np.uint8]:
    return np.array(values, np.uint8)


def test_quantize_rounds_halves_to_even_then_shifts_then_clamps() -> None:
    x = reals(0.25, 0.75, 1.25, -0.3, 63, 70, -70)
    given: dict[str, Any] = {"input": x, "scale": np.float32(0.5)}
    signed = run("quantize", declared="int8", output_dtype="int8", **given)
    assert signed.tolist() == [0, 2, 2, -1, 126, 127, -128]
    unsigned = run(
        "quantize", declared="uint8", output_dtype="uint8", zero_point=np.uint8(129), **given
    )
    assert unsigned.tolist() == [129, 131, 131, 128, 255, 255, 0]
    with pytest.raises(
        UnsupportedError, match="got output_dtype 'int4', needed one of int8, uint8"
    ):
        run("quantize", output_dtype="int4", **given)


def test_quantize_divides_by_the_scale() -> None:
    # 45.5 / 7 is the tie 6.5; times the reciprocal in float32, it would be just above.
    code = run("quantize", input=reals(45.5), scale=np.float32(7), output_dtype="int8")
    assert code.tolist() == [6]


def test_scales_and_zero_points_belong_to_an_axis() -> None:
    x = reals(1, 2, 3, 4).reshape(2, 2)
    given: dict[str, Any] = {"scale": reals(1, 0.5), "zero_point": codes(0, 1)}
    quantize = {"declared": "int8", "output_dtype": "int8"}
    rows = run("quantize", input=x, axis=0, **quantize, **given)
    assert rows.tolist() == [[1, 2], [7, 9]]
    columns = run("quantize", input=x, axis=-1, **quantize, **given)
    assert columns.tolist() == [[1, 5], [3, 9]]
    assert run("dequantize", input=rows, axis=0, **given).tolist() == x.tolist()
    assert run("dequantize", input=columns, axis=1, **given).tolist() == x.tolist()
    with pytest.raises(UnsupportedError, match=r"got a scale or zero point of shape \(2,\)"):
        run("dequantize", input=rows, **given)


def test_codes_do_not_overflow_when_the_zero_point_is_taken_off() -> None:
    data = codes(-128, 127).reshape(2, 1)
    whole = run("dequantize", input=data, scale=np.float32(2), zero_point=np.int8(127))
    assert whole.tolist() == [[-510.0], [0.0]]
    weights = run(
        "constexpr_affine_dequantize",
        quantized_data=bytes_of(0, 255).reshape(1, 2),
        zero_point=bytes_of(255, 0),
        scale=reals(1, 2),
        axis=1,
    )
    assert weights.tolist() == [[-255.0, 510.0]]


@pytest.mark.parametrize("offset_type", [np.uint8, np.float32])
def test_blocks_have_their_own_scale_and_offset(offset_type: type) -> None:
    data = bytes_of(0, 15, 1, 2, 3, 4, 5, 6).reshape(2, 4)
    weights = run(
        "constexpr_blockwise_shift_scale",
        data=data,
        scale=reals(1, 10, 100, 1000).reshape(2, 2),
        offset=np.array([[8, 1], [0, 15]], offset_type),
    )
    assert weights.tolist() == [[-8, 7, 0, 10], [300, 400, -10000, -9000]]
    rows = run("constexpr_blockwise_shift_scale", data=data, scale=reals(1, -1).reshape(2, 1))
    assert rows.tolist() == [[0, 15, 1, 2], [-3, -4, -5, -6]]
    with pytest.raises(ArtifactError, match=r"got blocks of shape \(1, 3\) for values of shape"):
        run("constexpr_blockwise_shift_scale", data=data, scale=reals(1, 2, 3).reshape(1, 3))


def test_packed_indices_begin_at_the_least_significant_bit() -> None:
    # The example of MIL's definition: indices 0, 3, 2, 1, and 3 in the next byte.
    packed: dict[str, Any] = {
        "indices": bytes_of(0b01101100, 0b11),
        "lut": reals(10, 11, 12, 13),
        "shape": [5],
    }
    assert run("constexpr_lut_to_dense", **packed).tolist() == [10, 13, 12, 11, 13]
    # Indices of six bits cross bytes: 1, 2 and 63.
    bits = 1 | 2 << 6 | 63 << 12
    split = bytes_of(*bits.to_bytes(3, "little"))
    lut = np.arange(64, dtype=np.int8)
    dense = run("constexpr_lut_to_dense", declared="int8", indices=split, lut=lut, shape=[3, 1])
    assert dense.tolist() == [[1], [2], [63]]
    assert dense.dtype == np.int8
    with pytest.raises(UnsupportedError, match=r"got a table of shape \(3,\) and vector_axis None"):
        run("constexpr_lut_to_dense", indices=split, lut=reals(1, 2, 3), shape=[3])


def test_groups_of_rows_have_their_own_table() -> None:
    # Case 1 of MIL's definition.
    indices = bytes_of(2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3).reshape(6, 2)
    lut = reals(1, 5, 9, 13, 2, 10, 18, 26).reshape(2, 1, 4, 1)
    dense = run("constexpr_lut_to_dense", indices=indices, lut=lut)
    assert dense.tolist() == [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]
    with pytest.raises(ArtifactError, match="got the index 4, needed less than 4"):
        run("constexpr_lut_to_dense", indices=indices + np.uint8(1), lut=lut)


def test_vectors_are_laid_along_their_axis() -> None:
    # Case 2 of MIL's definition, with a = 1, 2, 3 and b = 4, 5, 6.
    indices = bytes_of(0, 0, 1, 0, 1, 1, 0, 0).reshape(2, 2, 2)
    lut = np.array([1, 2, 3, 4, 5, 6], np.int8).reshape(1, 1, 1, 2, 3)
    given: dict[str, Any] = {"declared": "int8", "indices": indices, "lut": lut}
    assert run("constexpr_lut_to_dense", vector_axis=1, **given).tolist() == [
        [[1, 1], [2, 2], [3, 3], [4, 1], [5, 2], [6, 3]],
        [[4, 4], [5, 5], [6, 6], [1, 1], [2, 2], [3, 3]],
    ]
    assert run("constexpr_lut_to_dense", vector_axis=-1, **given).tolist() == [
        [[1, 2, 3, 1, 2, 3], [4, 5, 6, 1, 2, 3]],
        [[4, 5, 6, 4, 5, 6], [1, 2, 3, 1, 2, 3]],
    ]
    with pytest.raises(UnsupportedError, match="got the vector_axis None for a table of vectors"):
        run("constexpr_lut_to_dense", **given)


def test_sparse_values_fill_row_by_row() -> None:
    values = reals(7, 8, 9)
    mask = bytes_of(0, 1, 0, 1, 1, 0).reshape(2, 3)
    expected = [[0, 7, 0], [8, 9, 0]]
    assert run("constexpr_sparse_to_dense", nonzero_data=values, mask=mask).tolist() == expected
    packed = bytes_of(0b011010)
    dense = run("constexpr_sparse_to_dense", nonzero_data=values, mask=packed, shape=[2, 3])
    assert dense.tolist() == expected
    with pytest.raises(ArtifactError, match="got 1 values for a mask of 3, needed as many"):
        run("constexpr_sparse_to_dense", nonzero_data=values[:1], mask=mask)


MASK = bytes_of(1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0).reshape(4, 4)


def test_sparse_indices_become_sparse_values() -> None:
    lut = reals(2, 3, 4, 5).reshape(1, 1, 2, 2)
    given: dict[str, Any] = {
        "indices_mask": MASK,
        "indices_nonzero_data": bytes_of(0, 1, 1, 1, 0, 0, 1, 0, 1),
    }
    mask, values = run_all("constexpr_lut_to_sparse", lut=lut[..., :1], **given)
    assert mask.tolist() == MASK.tolist()
    assert values.tolist() == [2, 4, 4, 4, 2, 2, 4, 2, 4]
    mask, values = run_all("constexpr_lut_to_sparse", lut=lut, vector_axis=0, **given)
    assert mask.tolist() == [row for row in MASK.tolist() for _ in range(2)]
    # Row by row of the result: first numbers of a row's vectors, then second numbers.
    assert values.tolist() == [2, 4, 3, 5, 4, 4, 2, 5, 5, 3, 2, 4, 3, 5, 2, 4, 3, 5]


def test_sparse_codes_become_sparse_values() -> None:
    # The example of MIL's definition.
    mask, values = run_all(
        "constexpr_sparse_blockwise_shift_scale",
        data_mask=MASK,
        nonzero_data=codes(10, 11, 3, 4, 5, 6, 7, 8, 9),
        scale=reals(0.1, 0.2, 0.3, 0.4).reshape(1, 4),
        offset=codes(1, 2, 3, 4).reshape(1, 4),
    )
    assert mask.tolist() == MASK.tolist()
    assert values == pytest.approx([0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4])


def test_a_constant_is_cast_to_float32_only() -> None:
    given: dict[str, Any] = {"source_val": reals(1.5)}
    assert run("constexpr_cast", output_dtype="fp32", **given).tolist() == [1.5]
    with pytest.raises(UnsupportedError, match="got output_dtype 'fp16', needed one of fp32"):
        run("constexpr_cast", output_dtype="fp16", **given)
