"""Weights carry their checksum, and whatever is damaged or not finite is refused."""

import os
import re

import h5py
import numpy as np
import pytest

from storage import weights

KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


def save_kernel(path, kernel=KERNEL):
    """Write HDF5 as Keras does, into a path or a file."""
    with h5py.File(path, "w") as file:
        file["head/vars/0"] = kernel


@pytest.fixture
def packed(tmp_path):
    """Return the path of weights that this suite wrote."""
    path = tmp_path / "best.weights.h5"
    path.write_bytes(weights.pack(save_kernel))
    return path


def test_the_checksum_stands_behind_what_hdf5_reads(packed, capsys):
    with h5py.File(packed) as file:
        np.testing.assert_array_equal(file["head/vars/0"][()], KERNEL)
    assert re.fullmatch(rb"\ncrc32=[0-9a-f]{8}\n", packed.read_bytes()[-16:])
    with weights.checked(packed):
        pass
    assert capsys.readouterr().err == ""


def test_every_flipped_bit_of_the_content_is_refused(packed):
    whole = packed.read_bytes()
    for place in range(0, len(whole) - 16, 37):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        packed.write_bytes(damaged)
        sentence = "best.weights.h5 is damaged: its checksum is another one than when it was written; expected the file"
        with pytest.raises(ValueError, match=sentence), weights.checked(packed):
            pytest.fail("the block ran")


def test_a_copy_takes_its_checksum_along(packed, tmp_path):
    copy = tmp_path / "sent.weights.h5"
    copy.write_bytes(packed.read_bytes().replace(KERNEL.tobytes(), (KERNEL + 1).tobytes()))
    with pytest.raises(ValueError, match="sent.weights.h5 is damaged"), weights.checked(copy):
        pytest.fail("the block ran")


def test_weights_from_elsewhere_are_used_and_a_line_says_that_they_have_no_checksum(tmp_path, capsys):
    path = tmp_path / "sent.weights.h5"
    save_kernel(path)
    with weights.checked(path):
        assert capsys.readouterr().err == ""
    said = capsys.readouterr().err
    assert said.startswith(f"{path} has no checksum") and said.count("\n") == 1


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_its_name(tmp_path, is_packed, value):
    path, kernel = tmp_path / "best.weights.h5", KERNEL.copy()
    kernel[1, 2] = value
    if is_packed:
        path.write_bytes(weights.pack(lambda file: save_kernel(file, kernel)))
    else:
        save_kernel(path, kernel)
    sentence = "holds a weight that is not finite, in head/vars/0; expected other weights"
    with pytest.raises(ValueError, match=sentence), weights.checked(path):
        pytest.fail("the block ran")


def test_what_keras_cannot_read_is_left_to_it_and_a_pipe_is_refused(tmp_path):
    with weights.checked(tmp_path / "missing.weights.h5"):
        pass
    (tmp_path / "text.weights.h5").write_text("no HDF5")
    with weights.checked(tmp_path / "text.weights.h5"):
        pass
    pipe = tmp_path / "pipe.weights.h5"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="pipe.weights.h5 is no regular file; expected weights"), weights.checked(pipe):
        pytest.fail("the block ran")
