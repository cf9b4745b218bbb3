"""Bends have an exact inverse and repeat in a cycle of poses."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from siamfast.data.bends import Bend


@given(seed=st.integers(0, 2**31), half=st.floats(0.5, 300), pose=st.floats(0, 24))
def test_the_inverse_is_exact(seed: int, half: float, pose: float) -> None:
    rng = np.random.default_rng(seed)
    bend = Bend.draw(rng, half)
    points = rng.uniform(-1.5, 1.5, (50, 2)) * half
    bent = bend.forward(points, pose)
    back = np.stack(bend.backward(bent[:, 0], bent[:, 1], pose), 1)
    np.testing.assert_allclose(back, points, atol=1e-9 * half)  # float64, sides divided by 0.5 or more
    np.testing.assert_allclose(bend.times(0).forward(points, pose), points, atol=1e-12 * half)


@given(seed=st.integers(0, 2**31))
def test_poses_repeat_in_a_cycle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bend, points = Bend.draw(rng, 1.0), rng.uniform(-1, 1, (20, 2))
    np.testing.assert_allclose(bend.forward(points, 12), bend.forward(points, 0), atol=1e-12)
