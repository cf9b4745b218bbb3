// The inner loops over rows of pixels, one table of functions for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace siamfast {

enum class Dtype : int { u8 = 0, f32 = 1, bf16 = 2, f16 = 3 };

inline int dtype_size(Dtype dtype) { return dtype == Dtype::u8 ? 1 : dtype == Dtype::f32 ? 4 : 2; }

// Number: float, or std::int16_t for uint8 images in fixed point: levels times kFixedLevel, weights times 32768.
constexpr int kFixedLevel = 128;
constexpr int kCopies = 4;  // of a column's weight, side by side, so that a pixel's channels are weighed at once

template <class Number>
struct RowLoops {
    // out[k * channels + c] = source[k * step_x + c * step_c], k < count; steps in bytes.
    void (*load)(Dtype dtype, const char *source, std::ptrdiff_t step_x, std::ptrdiff_t step_c, int count, int channels,
                 Number *out);
    // The same for the pixels that `columns` names.
    void (*load_columns)(Dtype dtype, const char *source, std::ptrdiff_t step_x, std::ptrdiff_t step_c,
                         const int *columns, int count, int channels, Number *out);
    // out = a + (b - a) * weight, over count numbers.
    void (*blend)(const Number *a, const Number *b, Number weight, int count, Number *out);
    // out[i] = a + (b - a) * weight[i * kCopies] of the pixel a of `channels` numbers at row[place[i]] and b behind it.
    // Reads up to 3 numbers behind the last pixel of `row` and writes up to 3 behind the last of `out`.
    void (*lerp_columns)(const Number *row, const int *place, const Number *weight, int count, int channels,
                         Number *out);
    // target[k * step_x + c * step_c] = round(row[k * channels + c]); uint8 is clamped to 0..255.
    void (*store)(Dtype dtype, const Number *row, int count, int channels, char *target, std::ptrdiff_t step_x,
                  std::ptrdiff_t step_c);
};

struct RowKernels {
    RowLoops<float> exact;
    RowLoops<std::int16_t> fixed;
    // out[i] = sum_k weights[i * taps + k] * row[start[i] + k], pixels of `channels` floats.
    void (*filter_columns)(const float *row, const int *start, const float *weights, int taps, int count, int channels,
                           float *out);
    // out += weight * row, over count floats.
    void (*accumulate)(const float *row, float weight, int count, float *out);
    // sums[c] += source[k * step_x + c * step_c] over k < count, bytes.
    void (*add_bytes)(const std::uint8_t *source, std::ptrdiff_t step_x, std::ptrdiff_t step_c, int count, int channels,
                      std::uint64_t *sums);
};

// Of the instruction set that isa.h chooses; throws as `chosen_isa` does.
const RowKernels &row_kernels();

}  // namespace siamfast
