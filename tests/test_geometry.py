"""Both pixel conventions agree with measurements of drawn images."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from siamfast import geometry

SIDES = st.integers(1, 30)


@given(SIDES, SIDES, st.integers(0, 20), st.integers(0, 20))
def test_a_boxs_center_by_index_is_the_mean_index_of_its_pixels(w: int, h: int, x: int, y: int) -> None:
    image = np.zeros((60, 60))
    image[y : y + h, x : x + w] = 1
    rows, columns = np.nonzero(image)
    box = np.array([x, y, w, h], float)
    np.testing.assert_allclose(geometry.box_centers_by_index(box), [columns.mean(), rows.mean()])
    np.testing.assert_allclose(geometry.index_to_edge(geometry.box_centers_by_index(box)), geometry.box_centers(box))
    np.testing.assert_allclose(geometry.boxes_around_index(geometry.box_centers_by_index(box), box[2:]), box)
    np.testing.assert_allclose(geometry.boxes_around(geometry.box_centers(box), box[2:]), box)


def test_tensors_and_arrays_convert_alike() -> None:
    boxes = np.random.default_rng(0).uniform(1, 50, (7, 4))
    for function in (geometry.box_centers, geometry.box_centers_by_index):
        np.testing.assert_allclose(function(torch.from_numpy(boxes)).numpy(), function(boxes))


def test_a_resized_images_pixels_are_sampled_where_opencv_samples_them() -> None:
    """In a ramp each pixel's value is its index, so linear resizing returns the sampled place."""
    ramp = np.arange(40, dtype=np.float32)[None].repeat(4, 0)
    larger = cv2.resize(ramp, None, fx=3, fy=1, interpolation=cv2.INTER_LINEAR)[0]
    expected = np.clip(geometry.resized_index(np.arange(120.0), 3), 0, 39)
    np.testing.assert_allclose(larger, expected, atol=1e-4)


@given(st.floats(-10, 20), st.floats(0.1, 30))
def test_coverage_is_the_share_of_a_cell_inside_the_box(low: float, side: float) -> None:
    """Compared with a count on a fine grid within the cell."""
    places = np.array([4.0, 12.0])
    fine = (np.arange(4000) + 0.5) / 4000 * geometry.STRIDE - geometry.STRIDE / 2
    inside = [np.mean((fine + place >= low) & (fine + place <= low + side)) for place in places]
    np.testing.assert_allclose(geometry.cell_coverage(low, side, places), inside, atol=1e-3)
    covered = geometry.cell_coverage(torch.tensor(low), torch.tensor(side), torch.from_numpy(places))
    np.testing.assert_allclose(covered.numpy(), inside, atol=1e-3)
