// The inner loops of augment: sums of rows, sums of a row's pixels, and what is done to a finished row.
#pragma once

#include <cstddef>
#include <cstdint>

namespace siamfast {

// What is done to a row of pixels: a rectangle of it is the mean, then colour, noise, limits, normalisation.
struct RowFinish {
    float mean[3];  // of the image
    int cut_begin, cut_end;
    float saturation, gain, pivot;  // gain: brightness * contrast; pivot: what it adds
    float noise;                    // sigma in levels over that of the hash's bytes
    std::uint32_t place, plane;     // of the row's first red value among the draws, and how far the next channel is
    float rate[3], offset[3];       // out = level * rate + offset
};

struct AugmentKernels {
    // out[k] = sum over t of weights[t] * rows[t][k]; out has room for LANES more.
    void (*mix_rows)(const std::uint8_t *const *rows, const float *weights, int taps, int count, float *out);
    // out[j] = sum over t of weights[t * stride + j] * line[(first[j] + t) * step] for j < count; weights, first and
    // out have room up to a multiple of 16.
    void (*mix_pixels)(const float *line, const std::int32_t *first, const float *weights, int taps, int stride,
                       int step, int count, float *out);
    // channels: three rows of `count` levels, with room up to a multiple of 16.
    void (*finish)(float *const *channels, int count, const RowFinish &what);
    // out[3 * j + c] = channels[c][j]; all have room up to a multiple of 16 pixels.
    void (*interleave)(const float *const *channels, int count, float *out);
    // Finite numbers, to the nearest, ties to even.
    void (*round_bfloat)(const float *row, int count, std::uint16_t *out);
};

// Of the instruction set that isa.h chooses; throws as `chosen_isa` does.
const AugmentKernels &augment_kernels();

}  // namespace siamfast
