// Values of earlier frames, weighted by the softmax of feature products, without the N x N matrix, on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/row_kernels.h"

namespace siamfast {

// (sample, frame, channel, y, x) in the caller's memory; steps in bytes, of any sign.
struct FrameMaps {
    const char *data;
    Dtype dtype;
    std::ptrdiff_t step_n, step_t, step_c, step_y, step_x;
};

struct WarpCall {
    int samples, frames, channels, value_channels;
    int query_height, query_width, key_height, key_width;
    float temperature;
    bool normalize;            // features to length 1
    double radius;             // below 0: no window
    bool circle;               // dy^2 + dx^2 < radius^2, else |dy|, |dx| <= radius
    std::vector<bool> exempt;  // frames that the window does not bound
    int top;                   // 0: all keys
    bool post;                 // of the top: the softmax of all keys, cut; else one over the chosen
    bool details;              // whether more than the values is wanted
    int threads;
};

struct WarpOutput {
    float *values;                      // (samples, value_channels, query_height, query_width)
    float *confidence, *entropy, *lse;  // (samples, query_height, query_width), with details
    std::int64_t *indices;              // (samples, top or 1, query_height, query_width), with details
};

// bias: one channel, or null data.
void correspondence_warp(const WarpCall &call, const FrameMaps &query, const FrameMaps &keys, const FrameMaps &values,
                         const FrameMaps &bias, const WarpOutput &output);

// What forward gave, with details, and the gradients of it; all as WarpOutput's, by_lse and so on (samples,
// query_height, query_width).
struct WarpGiven {
    const float *values, *confidence, *entropy, *lse;
    const std::int64_t *indices;
    const float *by_values, *by_confidence, *by_entropy, *by_lse;
};

// In the layout of the inputs, contiguous: query (samples, channels, query cells), keys (samples, frames, channels, key
// cells), values (samples, frames, value_channels, key cells), bias (samples, frames, key cells). float32.
struct WarpGradients {
    float *query, *keys, *values, *bias;
};

// Of all keys: call.top is 0.
void correspondence_warp_backward(const WarpCall &call, const FrameMaps &query, const FrameMaps &keys,
                                  const FrameMaps &values, const FrameMaps &bias, const WarpGiven &given,
                                  const WarpGradients &gradients);

// Of the call.top chosen keys alone (not call.post), by given.indices; given.by_lse must be 0: all keys have a part in
// it.
void correspondence_warp_top_backward(const WarpCall &call, const FrameMaps &query, const FrameMaps &keys,
                                      const FrameMaps &values, const FrameMaps &bias, const WarpGiven &given,
                                      const WarpGradients &gradients);

}  // namespace siamfast
