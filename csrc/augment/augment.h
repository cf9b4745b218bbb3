// Geometry, blur, colour, noise, cut-out and normalisation of a batch of crops on the CPU, a row at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/row_kernels.h"

namespace siamfast {

// A row of the table that the op takes; siamfast/ops/augment/reference.py says what each number is.
struct Draw {
    float x, y, step_x, step_y, blur, brightness, contrast, saturation, noise, seed, left, top, right, bottom;
};
static_assert(sizeof(Draw) == 14 * sizeof(float), "the table has 14 columns");

// images: (N, 3, height, width) uint8, steps in bytes; step_x is 1, or 3 with step_c 1. out: (N, out_height, out_width,
// 3).
struct AugmentCall {
    int samples, height, width, out_height, out_width, threads;
    std::ptrdiff_t step_n, step_c, step_y, step_x;
    std::array<float, 3> mean, std;
    Dtype dtype;  // of the output
};

void augment(const AugmentCall &call, const std::uint8_t *images, const Draw *draws, char *out);

}  // namespace siamfast
