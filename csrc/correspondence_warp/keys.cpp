// Packing: runs of memory of any element type and strides into panels of floats.
#include "correspondence_warp/keys.h"

#include <algorithm>

#include "common/parallel.h"

namespace siamfast {

PackedKeys::PackedKeys(const WarpCall &call, const WarpKernels &kernels, int depth)
    : call_(call),
      kernels_(kernels),
      windowed_(call.radius >= 0),
      length_(windowed_ ? call.key_width : std::int64_t{call.frames} * call.key_height * call.key_width),
      rows_(windowed_ ? call.frames * call.key_height : 1),
      panels_(static_cast<int>((length_ + kernels.lanes - 1) / kernels.lanes)),
      depth_(depth),
      padded_(static_cast<std::ptrdiff_t>(rows_) * panels_ * kernels.lanes),
      features_(static_cast<std::size_t>(padded_ * depth)),
      values_(static_cast<std::size_t>(padded_ * call.value_channels)),
      factors_(static_cast<std::size_t>(call.normalize ? padded_ : 0)) {}

void PackedKeys::fill(int n, const FrameMaps &keys, const FrameMaps &values, const FrameMaps &bias) {
    if (bias.data != nullptr) bias_.resize(static_cast<std::size_t>(padded_));
    const int lanes = kernels_.lanes;
    // A line is what lies side by side in all maps: a row, or a plane whose rows follow one another.
    const auto joined = [&](const FrameMaps &maps) {
        return maps.data == nullptr || maps.step_y == call_.key_width * maps.step_x;
    };
    const bool planes = !windowed_ && joined(keys) && joined(values) && joined(bias);
    const int rows = planes ? 1 : call_.key_height,
              width = planes ? call_.key_height * call_.key_width : call_.key_width;
    // A part is some channels of a line; values and bias go with the first.
    const int parts = std::min(call_.channels, std::max(1, 4 * call_.threads / (call_.frames * rows)));
    parallel_for(call_.frames * rows * parts, call_.threads, [&](int task) {
        const int part = task % parts, line = task / parts, t = line / rows, y = line % rows;
        std::vector<float> read(static_cast<std::size_t>(width));
        // Where the line's first key is, among the keys with those that fill up rows.
        const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(line) * (windowed_ ? panels_ * lanes : width);
        const auto take = [&](const FrameMaps &maps, int c) {
            const char *from = maps.data + n * maps.step_n + t * maps.step_t + c * maps.step_c + y * maps.step_y;
            row_kernels().exact.load(maps.dtype, from, maps.step_x, maps.step_x, width, 1, read.data());
        };
        const auto bound = [&](int k) { return static_cast<int>(std::int64_t{call_.channels} * k / parts); };
        for (int c = bound(part); c < bound(part + 1); ++c) {
            take(keys, c);
            for (int x = 0; x < width;) {
                const std::ptrdiff_t at = first + x;
                const int lane = static_cast<int>(at % lanes), run = std::min(lanes - lane, width - x);
                float *to = features_.data() + (at / lanes * depth_ + c) * lanes + lane;
                std::copy(read.begin() + x, read.begin() + x + run, to);
                x += run;
            }
        }
        for (int k = 0; k < call_.value_channels && part == 0; ++k) {
            take(values, k);
            std::copy(read.begin(), read.end(), values_.begin() + k * padded_ + first);
        }
        if (bias.data != nullptr && part == 0) {
            take(bias, 0);
            std::copy(read.begin(), read.end(), bias_.begin() + first);
        }
    });
    if (call_.normalize)
        parallel_for(rows_ * panels_, call_.threads, [&](int panel) {
            kernels_.normalize(features_.data() + static_cast<std::ptrdiff_t>(panel) * depth_ * lanes, call_.channels,
                               factors_.data() + static_cast<std::ptrdiff_t>(panel) * lanes);
        });
}

WarpKeys PackedKeys::keys() const {
    return {features_.data(), values_.data(),       bias_.empty() ? nullptr : bias_.data(),
            call_.channels,   call_.value_channels, static_cast<std::ptrdiff_t>(depth_) * kernels_.lanes,
            padded_};
}

}  // namespace siamfast
