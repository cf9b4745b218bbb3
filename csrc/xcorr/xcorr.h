// Template-search cross-correlation on the CPU: depthwise and full, forward and backward.
#pragma once

#include "xcorr/kernels.h"

namespace siamfast {

// Sizes of a call. Search n meets template n mod templates; searches is a multiple of templates, and neither is 0.
// Outputs are height + 2 * pad_y - hz + 1 by width + 2 * pad_x - wz + 1.
struct XcorrSizes {
    int templates, searches, channels;
    int kernels;  // of each template: z has kernels * channels maps, kernel by kernel; 1 for depthwise
    int hz, wz, height, width, pad_y, pad_x;
    int threads;

    int out_height() const { return height + 2 * pad_y - hz + 1; }
    int out_width() const { return width + 2 * pad_x - wz + 1; }
};

// out (searches, channels, out_height, out_width).
void xcorr_depthwise(const XcorrSizes &sizes, const Maps &z, const Maps &x, const Maps &out);

// dz, dx: as z and x; data is null where a gradient is not wanted. One pass over x and grad.
void xcorr_depthwise_backward(const XcorrSizes &sizes, const Maps &grad, const Maps &z, const Maps &x, const Maps &dz,
                              const Maps &dx);

// out: (searches, kernels, out_height, out_width) contiguous, scale_constant * correlation + bias_constant.
void xcorr_full(const XcorrSizes &sizes, const Maps &z, const Maps &x, float scale_constant, float bias_constant,
                float *out);

// grad_z, grad_x: (searches, kernels, out_height, out_width) contiguous; the response's gradient as dz and dx see it
// (they differ by the kernels' scales).
void xcorr_full_backward(const XcorrSizes &sizes, const float *grad_z, const float *grad_x, const Maps &z,
                         const Maps &x, const Maps &dz, const Maps &dx);

}  // namespace siamfast
