// One call of one C++ kernel, for valgrind to count its instructions: perf_guard [--threads N] CASE. Without CASE: the
// cases' names.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "augment/augment.h"
#include "balanced_logistic_loss/loss.h"
#include "correspondence_warp/warp.h"
#include "crop_and_resize/crop.h"
#include "xcorr/xcorr.h"

using namespace siamfast;

// Only what runs in here is counted (--toggle-collect=counted).
extern "C" __attribute__((noipa)) void counted(const std::function<void()> &run) {
    run();
    __asm__ volatile("" ::: "memory");
}

namespace {

int threads = 1;

// Contiguous float32 maps (n, c, height, width) of pseudo-random numbers: denormals and zeros cost otherwise.
struct Tensor {
    std::vector<float> numbers;
    Maps maps;

    Tensor(int n, int c, int height, int width) : numbers(static_cast<std::size_t>(n) * c * height * width) {
        std::uint32_t state = 1;
        for (float &number : numbers)
            number = static_cast<float>((state = state * 1664525u + 1013904223u) >> 8) * 1e-7f;
        const std::ptrdiff_t row = 4 * width, plane = row * height;
        maps = {reinterpret_cast<char *>(numbers.data()), Dtype::f32, plane * c, plane, row, 4};
    }
};

void depthwise(int batch, int kernel, int side, bool backward) {
    const XcorrSizes sizes{batch, batch, 256, 1, kernel, kernel, side, side, 0, 0, threads};
    const int out = sizes.out_height();
    Tensor z(batch, 256, kernel, kernel), x(batch, 256, side, side), y(batch, 256, out, out);
    Tensor dz(batch, 256, kernel, kernel), dx(batch, 256, side, side);
    if (backward)
        counted([&] { xcorr_depthwise_backward(sizes, y.maps, z.maps, x.maps, dz.maps, dx.maps); });
    else
        counted([&] { xcorr_depthwise(sizes, z.maps, x.maps, y.maps); });
}

void full(int batch, int kernel, int side, bool backward) {
    const XcorrSizes sizes{batch, batch, 256, 1, kernel, kernel, side, side, 0, 0, threads};
    const int out = sizes.out_height();
    Tensor z(batch, 256, kernel, kernel), x(batch, 256, side, side), y(batch, 1, out, out);
    Tensor dz(batch, 256, kernel, kernel), dx(batch, 256, side, side);
    float *const grad = y.numbers.data();
    if (backward)
        counted([&] { xcorr_full_backward(sizes, grad, grad, z.maps, x.maps, dz.maps, dx.maps); });
    else
        counted([&] { xcorr_full(sizes, z.maps, x.maps, 1.0f, 0.0f, grad); });
}

// Four crops of 255 pixels to 239.
void move_and_color(float blur, float noise) {
    const int count = 4, side = 255, out_side = 239;
    std::vector<std::uint8_t> images(static_cast<std::size_t>(count * 3 * side * side));
    for (std::size_t k = 0; k < images.size(); ++k) images[k] = static_cast<std::uint8_t>(k * 31 % 251);
    std::vector<float> out(static_cast<std::size_t>(count * 3 * out_side * out_side));
    const std::vector<Draw> draws(
        count, Draw{127.3f, 126.2f, -1.02f, 1.02f, blur, 1.1f, 0.9f, 0.8f, noise, 5, 20, 30, 60, 70});
    const AugmentCall call{count,       side, side, out_side,        out_side,     threads,   3 * side * side,
                           side * side, side, 1,    {118, 118, 118}, {60, 60, 60}, Dtype::f32};
    counted([&] { augment(call, images.data(), draws.data(), reinterpret_cast<char *>(out.data())); });
}

void crop(double x, double y, double side, Rule rule) {
    constexpr int height = 720, width = 1280, out = 255;
    std::vector<char> frame(static_cast<std::size_t>(height) * width * 3, 100), target(std::size_t{out} * out * 3);
    const Image image{frame.data(), Dtype::u8, height, width, 3, width * 3, 3, 1};
    const Output output{target.data(), out, out, out * out * 3, out * 3, 3, 1};
    const CropOptions options{Border::constant, rule, false, threads};
    counted([&] { crop_and_resize(image, {{x, y, side, side}}, {100.0, 100.0, 100.0}, output, options); });
}

void loss() {
    const LossCall call{{8.0f, 16.0f, 16.0f, 0.5f, true}, Balance::sample, 1.0f, 0.0f, true, 1.0f / 32, threads};
    Tensor scores(32, 1, 17, 17), slope(32, 1, 17, 17);
    const std::vector<float> centers(64, 8.25f);
    float found = 0;
    counted([&] {
        balanced_logistic_loss(call, {32, 17, 17, Dtype::f32, scores.maps.data, nullptr, false, centers.data(), &found,
                                      slope.numbers.data()});
    });
}

FrameMaps frames(const Tensor &of) {
    return {of.maps.data, Dtype::f32, of.maps.step_n, 0, of.maps.step_c, of.maps.step_y, of.maps.step_x};
}

void warp(double radius, int top, bool backward) {
    const int channels = 128, values = 3, height = 16, width = 30;
    const WarpCall call{1,    1,      channels, values,  height, width, height, width,  0.07f,
                        true, radius, false,    {false}, top,    false, true,   threads};
    Tensor query(1, channels, height, width), keys(1, channels, height, width), labels(1, values, height, width);
    Tensor dq(1, channels, height, width), dk(1, channels, height, width), dv(1, values, height, width);
    Tensor warped(1, values, height, width), maps(7, 1, height, width), by(1, values, height, width);
    std::vector<std::int64_t> indices(static_cast<std::size_t>(std::max(top, 1)) * height * width);
    const FrameMaps none{nullptr, Dtype::f32, 0, 0, 0, 0, 0};
    float *const map = maps.numbers.data();
    const int size = height * width;
    const WarpOutput output{warped.numbers.data(), map, map + size, map + 2 * size, indices.data()};
    const auto forward = [&] { correspondence_warp(call, frames(query), frames(keys), frames(labels), none, output); };
    if (!backward) return counted(forward);
    forward();
    const WarpGiven given{warped.numbers.data(),
                          map,
                          map + size,
                          map + 2 * size,
                          indices.data(),
                          by.numbers.data(),
                          map + 3 * size,
                          map + 4 * size,
                          map + 5 * size};
    const WarpGradients gradients{dq.numbers.data(), dk.numbers.data(), dv.numbers.data(), map + 6 * size};
    counted([&] {
        (top > 0 ? correspondence_warp_top_backward : correspondence_warp_backward)(
            call, frames(query), frames(keys), frames(labels), none, given, gradients);
    });
}

void sums() {
    std::vector<char> frame(std::size_t{720} * 1280 * 3, 100);
    const Image image{frame.data(), Dtype::u8, 720, 1280, 3, 1280 * 3, 3, 1};
    counted([&] { channel_sums(image, threads); });
}

}  // namespace

int main(int count, char **arguments) {
    const std::map<std::string, std::function<void()>> cases{
        {"augment 4x255", [] { move_and_color(0, 0); }},
        {"augment 4x255, blur, noise", [] { move_and_color(1.5f, 8); }},
        {"crop border", [] { crop(-60, -40, 300, Rule::pixel); }},
        {"crop inside", [] { crop(200, 200, 300, Rule::pixel); }},
        {"crop subpixel", [] { crop(200.3, 200.6, 300.5, Rule::subpixel); }},
        {"channel sums", sums},
        {"depthwise 4x4 on 20x20, backward", [] { depthwise(1, 4, 20, true); }},
        {"depthwise 4x4 on 20x20, forward", [] { depthwise(1, 4, 20, false); }},
        {"depthwise 5x5 on 29x29, backward", [] { depthwise(1, 5, 29, true); }},
        {"depthwise 5x5 on 29x29, forward", [] { depthwise(1, 5, 29, false); }},
        {"full 6x6 on 22x22, backward", [] { full(2, 6, 22, true); }},
        {"full 6x6 on 22x22, forward", [] { full(2, 6, 22, false); }},
        {"loss 17x17 about centres", loss},
        {"warp 16x30, backward", [] { warp(-1.0, 0, true); }},
        {"warp 16x30, forward", [] { warp(-1.0, 0, false); }},
        {"warp 16x30, radius 4, backward", [] { warp(4.0, 0, true); }},
        {"warp 16x30, radius 4, forward", [] { warp(4.0, 0, false); }},
        {"warp 16x30, top 10, backward", [] { warp(-1.0, 10, true); }},
        {"warp 16x30, top 10, forward", [] { warp(-1.0, 10, false); }},
    };
    if (count == 1)
        for (const auto &entry : cases) std::puts(entry.first.c_str());
    int index = 1;
    if (count > 2 && std::string(arguments[1]) == "--threads") {
        threads = std::atoi(arguments[2]);
        index = 3;
    }
    for (; index < count; ++index) cases.at(arguments[index])();
}
