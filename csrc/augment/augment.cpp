// augment on the CPU: weights of both axes once an image, then row by row through buffers that stay in the cache.
#include "augment/augment.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "augment/kernels.h"
#include "common/parallel.h"

namespace siamfast {
namespace {

constexpr float kWhole = 0.99999f;  // a sum of weights that lacks nothing but roundings
constexpr int kRound = 16;          // rows of buffers have room up to a multiple of the widest register

// The pixels that each of `count` cells of an axis mixes: first[j] .. first[j] + taps - 1, and weights[t * stride + j],
// 0 for those beside the image; inside[j]: their sum.
struct Axis {
    int taps = 0, stride = 0;
    std::vector<std::int32_t> first;
    std::vector<float> weights, inside;
};

Axis axis_of(float at, float step, float blur, int count, int size) {
    const double support =
        blur > 0 ? 3.0 * static_cast<double>(blur) : std::max(1.0, std::fabs(static_cast<double>(step)));
    Axis axis;
    axis.taps = static_cast<int>(std::ceil(2 * support));
    axis.stride = (count + kRound - 1) / kRound * kRound;
    axis.first.assign(static_cast<std::size_t>(axis.stride), 0);
    axis.inside.assign(static_cast<std::size_t>(axis.stride), 0.0f);
    axis.weights.assign(static_cast<std::size_t>(axis.taps) * static_cast<std::size_t>(axis.stride), 0.0f);
    std::vector<double> found(static_cast<std::size_t>(axis.taps));
    const double floor_weight = std::exp(-4.5);
    for (int j = 0; j < count; ++j) {
        const double place = static_cast<double>(at) + (j - (count - 1) / 2.0) * static_cast<double>(step);
        const double low = std::floor(place - support) + 1;
        double total = 0;
        for (int t = 0; t < axis.taps; ++t) {
            const double away = low + t - place, scaled = away / static_cast<double>(blur > 0 ? blur : 1.0f);
            const double weight =
                blur > 0 ? std::exp(-0.5 * scaled * scaled) - floor_weight : 1 - std::fabs(away) / support;
            found[static_cast<std::size_t>(t)] = std::max(0.0, weight);
            total += std::max(0.0, weight);
        }
        // A cell that sees nothing of the image has weights of 0 only: where it reads does not matter.
        axis.first[static_cast<std::size_t>(j)] =
            static_cast<std::int32_t>(std::clamp(low, -static_cast<double>(axis.taps), static_cast<double>(size)));
        for (int t = 0; t < axis.taps; ++t) {
            if (low + t < 0 || low + t > size - 1) continue;
            const float weight = static_cast<float>(found[static_cast<std::size_t>(t)] / total);
            axis.weights[static_cast<std::size_t>(t * axis.stride + j)] = weight;
            axis.inside[static_cast<std::size_t>(j)] += weight;
        }
    }
    return axis;
}

// Of every 8th pixel of every 8th row.
std::array<float, 3> mean_of(const AugmentCall &call, const std::uint8_t *image) {
    std::array<float, 3> mean{};
    for (int c = 0; c < 3; ++c) {
        std::int64_t sum = 0, pixels = 0;
        for (int y = 0; y < call.height; y += 8)
            for (int x = 0; x < call.width; x += 8, ++pixels)
                sum += image[c * call.step_c + y * call.step_y + x * call.step_x];
        mean[static_cast<std::size_t>(c)] = static_cast<float>(static_cast<double>(sum) / static_cast<double>(pixels));
    }
    return mean;
}

// The first and the last pixel of the image that any cell mixes; none: an empty range.
std::pair<int, int> seen(const Axis &axis, int count, int size) {
    const auto [low, high] = std::minmax_element(axis.first.begin(), axis.first.begin() + count);
    return {std::clamp(*low, 0, size), std::clamp(*high + axis.taps, 0, size)};
}

void augment_rows(const AugmentCall &call, const std::uint8_t *image, const Draw &draw, char *out, int begin, int end) {
    const AugmentKernels &kernels = augment_kernels();
    const RowKernels &convert = row_kernels();
    const Axis rows = axis_of(draw.y, draw.step_y, draw.blur, call.out_height, call.height);
    const Axis columns = axis_of(draw.x, draw.step_x, draw.blur, call.out_width, call.width);
    const std::array<float, 3> mean = mean_of(call, image);
    const bool planes = call.step_x == 1;
    const auto [left, right] = seen(columns, call.out_width, call.width);
    const int per_pixel = planes ? 1 : 3, lines = planes ? 3 : 1, length = (right - left) * per_pixel;
    // A line with room for the taps on either side of the image; pixel x is at (x + margin) * per_pixel.
    const int margin = columns.taps, room = (call.width + 2 * margin) * per_pixel + kRound;
    std::vector<float> line(static_cast<std::size_t>(room * lines), 0.0f);
    std::vector<float> channels(static_cast<std::size_t>(3 * columns.stride), 0.0f);
    std::vector<float> mixed(static_cast<std::size_t>(3 * columns.stride), 0.0f);
    std::vector<std::int32_t> first(columns.first);
    for (std::int32_t &place : first) place += margin;
    float *const channel[3] = {channels.data(), channels.data() + columns.stride, channels.data() + 2 * columns.stride};

    const float least_inside = *std::min_element(columns.inside.begin(), columns.inside.begin() + call.out_width);
    RowFinish finish{};
    const float luma = 0.299f * mean[0] + 0.587f * mean[1] + 0.114f * mean[2];
    finish.saturation = draw.saturation;
    finish.gain = draw.brightness * draw.contrast;
    finish.pivot = draw.brightness * (1 - draw.contrast) * luma;
    finish.noise = draw.noise * 0.006765875f;  // 1 / sqrt((256^2 - 1) / 3), the bytes' sigma
    finish.plane = static_cast<std::uint32_t>(call.out_height) * static_cast<std::uint32_t>(call.out_width);
    for (std::size_t c = 0; c < 3; ++c) {
        finish.mean[c] = mean[c];
        finish.rate[c] = 1 / call.std[c];
        finish.offset[c] = -call.mean[c] / call.std[c];
    }
    const auto edge = [&](float v) {
        return static_cast<int>(std::clamp(std::ceil(v), 0.0f, static_cast<float>(call.out_width)));
    };

    const std::size_t element = call.dtype == Dtype::f32 ? 4 : 2,
                      row_bytes = element * 3 * static_cast<std::size_t>(call.out_width);
    std::vector<const std::uint8_t *> source;
    std::vector<float> weights;
    for (int i = begin; i < end; ++i) {
        source.clear();
        weights.clear();
        for (int t = 0; t < rows.taps; ++t) {
            const float weight = rows.weights[static_cast<std::size_t>(t * rows.stride + i)];
            if (weight == 0) continue;
            source.push_back(image + (rows.first[static_cast<std::size_t>(i)] + t) * call.step_y + left * per_pixel);
            weights.push_back(weight);
        }
        for (int c = 0; c < 3; ++c) {
            float *const buffer = line.data() + (planes ? c * room : 0) + (left + margin) * per_pixel;
            if (c < lines) {
                kernels.mix_rows(source.data(), weights.data(), static_cast<int>(source.size()), length, buffer);
                for (const std::uint8_t *&row : source) row += call.step_c;
            }
        }
        for (int c = 0; c < 3; ++c) {
            const float *from = line.data() + (planes ? c * room : c);
            kernels.mix_pixels(from, first.data(), columns.weights.data(), columns.taps, columns.stride, per_pixel,
                               call.out_width, channel[c]);
            const float inside = rows.inside[static_cast<std::size_t>(i)], level = mean[static_cast<std::size_t>(c)];
            if (inside > kWhole && least_inside > kWhole) continue;
            for (int j = 0; j < call.out_width; ++j)
                channel[c][j] += (1 - inside * columns.inside[static_cast<std::size_t>(j)]) * level;
        }
        const bool cut = static_cast<float>(i) >= draw.top && static_cast<float>(i) < draw.bottom;
        finish.cut_begin = cut ? edge(draw.left) : 0;
        finish.cut_end = cut ? edge(draw.right) : 0;
        finish.place = static_cast<std::uint32_t>(draw.seed) * 0x9E3779B1u +
                       static_cast<std::uint32_t>(i) * static_cast<std::uint32_t>(call.out_width);
        kernels.finish(channel, call.out_width, finish);
        char *const target = out + static_cast<std::size_t>(i) * row_bytes;
        kernels.interleave(channel, call.out_width, mixed.data());
        if (call.dtype == Dtype::f32) {
            std::memcpy(target, mixed.data(), row_bytes);
        } else if (call.dtype == Dtype::bf16) {
            kernels.round_bfloat(mixed.data(), 3 * call.out_width, reinterpret_cast<std::uint16_t *>(target));
        } else {
            convert.exact.store(call.dtype, mixed.data(), 3 * call.out_width, 1, target,
                                static_cast<std::ptrdiff_t>(element), 0);
        }
    }
}

}  // namespace

void augment(const AugmentCall &call, const std::uint8_t *images, const Draw *draws, char *out) {
    // A few images are cut into runs of rows; what an image needs once is then done once a run.
    const int parts =
        std::max(1, std::min((call.threads + call.samples - 1) / std::max(call.samples, 1), call.out_height / 32));
    const std::size_t size = static_cast<std::size_t>(call.out_height) * static_cast<std::size_t>(call.out_width) * 3 *
                             (call.dtype == Dtype::f32 ? 4 : 2);
    parallel_for(call.samples * parts, call.threads, [&](int task) {
        const int n = task / parts, part = task % parts;
        augment_rows(call, images + n * call.step_n, draws[n], out + static_cast<std::size_t>(n) * size,
                     call.out_height * part / parts, call.out_height * (part + 1) / parts);
    });
}

}  // namespace siamfast
