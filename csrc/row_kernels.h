// The inner loops over rows of pixels, one table of functions for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace siamfast {

enum class Dtype : int { u8 = 0, f32 = 1, bf16 = 2, f16 = 3 };

inline int dtype_size(Dtype dtype) { return dtype == Dtype::u8 ? 1 : dtype == Dtype::f32 ? 4 : 2; }

struct RowKernels {
    // out[k * channels + c] = float(source[k * step_x + c * step_c]), k < count; steps in bytes.
    void (*load)(Dtype dtype, const char *source, std::ptrdiff_t step_x, std::ptrdiff_t step_c, int count, int channels,
                 float *out);
    // The same for the pixels that `columns` names.
    void (*load_columns)(Dtype dtype, const char *source, std::ptrdiff_t step_x, std::ptrdiff_t step_c,
                         const int *columns, int count, int channels, float *out);
    // out = a + (b - a) * weight, over count floats.
    void (*blend)(const float *a, const float *b, float weight, int count, float *out);
    // out[i] = row[start[i]] + (row[start[i] + 1] - row[start[i]]) * weight[i], pixels of `channels` floats. Reads up to
    // 3 floats behind the last pixel of `row` and writes up to 3 behind the last of `out`.
    void (*lerp_columns)(const float *row, const int *start, const float *weight, int count, int channels, float *out);
    // out[i] = sum_k weights[i * taps + k] * row[start[i] + k], pixels of `channels` floats.
    void (*filter_columns)(const float *row, const int *start, const float *weights, int taps, int count, int channels,
                           float *out);
    // out += weight * row, over count floats.
    void (*accumulate)(const float *row, float weight, int count, float *out);
    // target[k * step_x + c * step_c] = round(row[k * channels + c]); uint8 is clamped to 0..255.
    void (*store)(Dtype dtype, const float *row, int count, int channels, char *target, std::ptrdiff_t step_x,
                  std::ptrdiff_t step_c);
    // sums[c] += source[k * step_x + c * step_c] over k < count, bytes.
    void (*add_bytes)(const std::uint8_t *source, std::ptrdiff_t step_x, std::ptrdiff_t step_c, int count, int channels,
                      std::uint64_t *sums);
};

// Of the instruction set that isa.h chooses; throws as `chosen_isa` does.
const RowKernels &row_kernels();

}  // namespace siamfast
