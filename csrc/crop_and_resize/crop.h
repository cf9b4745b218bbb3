// Crop and resize square or rectangular windows of an image in one pass, the border filled while reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/row_kernels.h"

namespace siamfast {

// Where output cell i samples a window that begins at `corner` and is `side` pixels wide.
enum class Rule : int {
    pixel = 0,           // OpenCV's bilinear resize of the cut-out window: taps never leave the window
    subpixel = 1,        // the exact window, half-pixel centres: taps at its rim read on into the image
    corner_aligned = 2,  // first and last output cell sample the first and last pixel of the window
};

enum class Border : int { constant = 0, replicate = 1, reflect = 2 };  // reflect: without repeating the edge pixel

// Strides in bytes; they may be negative or zero.
struct Image {
    const char *data;
    Dtype dtype;
    std::int64_t height, width;
    int channels;
    std::ptrdiff_t step_y, step_x, step_c;
};

struct Output {
    char *data;
    int height, width;
    std::ptrdiff_t step_m, step_y, step_x, step_c;
};

struct Window {
    double x, y, width, height;  // image pixels; the first pixel spans 0 to 1
};

struct CropOptions {
    Border border;
    Rule rule;
    bool antialias;  // a triangle filter as wide as the shrinking, as PIL and torch's `antialias=True`
    int threads;
};

// Fills output m with window m for every m. Reads the image only inside the windows; copies nothing of its size.
// fill: one number per channel, for Border::constant.
void crop_and_resize(const Image &image, const std::vector<Window> &windows, const std::vector<double> &fill,
                     const Output &output, const CropOptions &options);

// The sums over all pixels of each channel of a uint8 image.
std::vector<std::uint64_t> channel_sums(const Image &image, int threads);

}  // namespace siamfast
