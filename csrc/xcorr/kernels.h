// The inner loops of the correlations: planes of channel blocks, one channel a lane.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/row_kernels.h"

namespace siamfast {

// Feature maps in the caller's memory; strides in bytes, of any sign.
struct Maps {
    char *data;
    Dtype dtype;
    std::ptrdiff_t step_n, step_c, step_y, step_x;
};

// A block holds `lanes` channels of a map, interleaved: pixel (y, x) of lane l is at (y * row + x) * lanes + l floats.
// One channel a lane needs no masks at the rims of small maps, the same code serves both memory formats, and sums over
// channels stay in their lanes to the end.
struct XcorrKernels {
    int lanes;
    // maps: one image's channels from `data` on. Reads `channels` <= lanes of them, the other lanes are 0.
    void (*load_block)(const Maps &maps, int channels, int height, int width, float *block, std::ptrdiff_t row);
    void (*store_block)(const float *block, std::ptrdiff_t row, int channels, int height, int width, const Maps &maps);
    // out[y, x] (+)= sum_ij z[i, j] * x[y + i, x + j], lane by lane. x_row, out_row in pixels. With `one_map` x is one
    // number a pixel, the same for all lanes.
    void (*correlate)(const float *x, std::ptrdiff_t x_row, const float *z, int hz, int wz, float *out,
                      std::ptrdiff_t out_row, int ho, int wo, bool accumulate, bool one_map);
    // dz[i, j] += sum_yx g[y, x] * x[y + i, x + j], lane by lane; with `one_map` g is one number a pixel.
    void (*correlate_template)(const float *g, std::ptrdiff_t g_row, const float *x, std::ptrdiff_t x_row, int ho,
                               int wo, float *dz, int hz, int wz, bool one_map);
    // out[p] = sum of block pixel p's lanes.
    void (*add_lanes)(const float *block, int pixels, float *out);
};

// Of the instruction set that isa.h chooses; throws as `chosen_isa` does.
const XcorrKernels &xcorr_kernels();

}  // namespace siamfast
