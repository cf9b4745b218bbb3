// Where the cells of a crop look along one axis of the image.
#pragma once

#include <cstdint>
#include <vector>

#include "crop_and_resize/crop.h"

namespace siamfast {

// For each output cell of one axis: its first tap and the weights of `taps` taps in a row.
// Taps are positions in `source`, the list of image indices (-1: outside, the fill) that the window touches.
struct Axis {
    int taps = 2;
    std::vector<int> start;
    std::vector<float> weights;  // 2 taps: one weight a cell, that of the second tap; else `taps` weights a cell
    std::vector<std::int64_t> source;
    // `source` is `before` fills or repeats, then `inside` consecutive indices from `first`, then the rest: what a
    // reader can take in one run. A compacted axis has no run.
    int before = 0, inside = 0;
    std::int64_t first = 0;
};

// Of a window that begins at `corner` and is `side` pixels wide, `count` cells; size: of the image.
Axis make_axis(double corner, double side, int count, std::int64_t size, const CropOptions &options);

}  // namespace siamfast
