// The Python module siamfast._C: raw addresses and numbers in, nothing of torch. Callers check what they pass.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "augment.h"
#include "balanced_logistic_loss.h"
#include "correspondence_warp.h"
#include "crop_and_resize.h"
#include "isa.h"
#include "xcorr.h"

namespace py = pybind11;

namespace {

using Doubles = py::array_t<double, py::array::c_style>;

void bind_crop_and_resize(std::uintptr_t source, int dtype, std::int64_t height, std::int64_t width, int channels,
                          std::ptrdiff_t step_y, std::ptrdiff_t step_x, std::ptrdiff_t step_c, const Doubles &windows,
                          std::uintptr_t target, int out_height, int out_width, std::ptrdiff_t out_step_m,
                          std::ptrdiff_t out_step_y, std::ptrdiff_t out_step_x, std::ptrdiff_t out_step_c,
                          const Doubles &fill, int border, int rule, bool antialias, int threads) {
    if (dtype < 0 || dtype > 3 || border < 0 || border > 2 || rule < 0 || rule > 2)
        throw std::invalid_argument("siamfast._C.crop_and_resize: unknown dtype, border or rule code");
    if (windows.ndim() != 2 || windows.shape(1) != 4 || fill.ndim() != 1 || fill.shape(0) != channels)
        throw std::invalid_argument("siamfast._C.crop_and_resize: expected windows (M, 4) and one fill a channel");
    const siamfast::Image image{reinterpret_cast<const char *>(source), static_cast<siamfast::Dtype>(dtype), height,
                                width, channels, step_y, step_x, step_c};
    const siamfast::Output output{reinterpret_cast<char *>(target), out_height, out_width, out_step_m, out_step_y,
                                  out_step_x, out_step_c};
    std::vector<siamfast::Window> list;
    const auto row = windows.unchecked<2>();
    for (py::ssize_t m = 0; m < windows.shape(0); ++m) list.push_back({row(m, 0), row(m, 1), row(m, 2), row(m, 3)});
    const siamfast::CropOptions options{std::vector<double>(fill.data(), fill.data() + fill.size()),
                                        static_cast<siamfast::Border>(border), static_cast<siamfast::Rule>(rule),
                                        antialias, threads};
    siamfast::row_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    const py::gil_scoped_release release;
    siamfast::crop_and_resize(image, list, output, options);
}

std::vector<std::uint64_t> bind_channel_sums(std::uintptr_t source, std::int64_t height, std::int64_t width,
                                             int channels, std::ptrdiff_t step_y, std::ptrdiff_t step_x,
                                             std::ptrdiff_t step_c, int threads) {
    const siamfast::Image image{reinterpret_cast<const char *>(source), siamfast::Dtype::u8, height, width, channels,
                                step_y, step_x, step_c};
    siamfast::row_kernels();
    const py::gil_scoped_release release;
    return siamfast::channel_sums(image, threads);
}

// templates, searches, channels, kernels, hz, wz, height, width, pad_y, pad_x, threads
using Sizes = std::array<int, 11>;
// address (0: not wanted), and the steps in bytes along n, c, y, x
using Tensor = std::array<std::int64_t, 5>;

siamfast::XcorrSizes xcorr_sizes(const Sizes &v) {
    const siamfast::XcorrSizes sizes{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10]};
    if (*std::min_element(v.begin(), v.begin() + 6) < 1 || sizes.searches % sizes.templates != 0 ||
        sizes.out_height() < 1 || sizes.out_width() < 1 || sizes.pad_y < 0 || sizes.pad_x < 0)
        throw std::invalid_argument("siamfast._C: sizes that do not fit a correlation");
    siamfast::xcorr_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    return sizes;
}

siamfast::Maps maps_of(const Tensor &t, int dtype) {
    if (dtype < 1 || dtype > 3) throw std::invalid_argument("siamfast._C: unknown dtype code");
    return {reinterpret_cast<char *>(static_cast<std::uintptr_t>(t[0])), static_cast<siamfast::Dtype>(dtype), t[1], t[2],
            t[3], t[4]};
}

float *floats(std::uintptr_t address) { return reinterpret_cast<float *>(address); }

void bind_depthwise(const Sizes &v, int dtype, const Tensor &z, const Tensor &x, const Tensor &out) {
    const siamfast::XcorrSizes sizes = xcorr_sizes(v);
    const py::gil_scoped_release release;
    siamfast::xcorr_depthwise(sizes, maps_of(z, dtype), maps_of(x, dtype), maps_of(out, dtype));
}

void bind_depthwise_backward(const Sizes &v, int dtype, const Tensor &grad, const Tensor &z, const Tensor &x,
                             const Tensor &dz, const Tensor &dx) {
    const siamfast::XcorrSizes sizes = xcorr_sizes(v);
    const py::gil_scoped_release release;
    siamfast::xcorr_depthwise_backward(sizes, maps_of(grad, dtype), maps_of(z, dtype), maps_of(x, dtype),
                                       maps_of(dz, dtype), maps_of(dx, dtype));
}

void bind_full(const Sizes &v, int dtype, const Tensor &z, const Tensor &x, float alpha, float beta,
               std::uintptr_t out) {
    const siamfast::XcorrSizes sizes = xcorr_sizes(v);
    const py::gil_scoped_release release;
    siamfast::xcorr_full(sizes, maps_of(z, dtype), maps_of(x, dtype), alpha, beta, floats(out));
}

void bind_full_backward(const Sizes &v, int dtype, std::uintptr_t grad_z, std::uintptr_t grad_x, const Tensor &z,
                        const Tensor &x, int dz_dtype, const Tensor &dz, const Tensor &dx) {
    const siamfast::XcorrSizes sizes = xcorr_sizes(v);
    const py::gil_scoped_release release;
    siamfast::xcorr_full_backward(sizes, floats(grad_z), floats(grad_x), maps_of(z, dtype), maps_of(x, dtype),
                                  maps_of(dz, dz_dtype), maps_of(dx, dtype));
}

// samples, height, width, metric (1: l2), balance, total, threads
using LossSizes = std::array<std::int64_t, 7>;
// stride, r_pos, r_far, between, neg_weight, neutral_weight, factor
using LossNumbers = std::array<float, 7>;

void bind_loss(const LossSizes &v, const LossNumbers &f, int dtype, std::uintptr_t scores, std::uintptr_t labels,
               bool one_map, std::uintptr_t centers, std::uintptr_t losses, std::uintptr_t slope) {
    if (dtype < 1 || dtype > 3 || v[0] < 0 || v[1] < 0 || v[2] < 0 || v[1] * v[2] > INT32_MAX || v[4] < 0 || v[4] > 2)
        throw std::invalid_argument("siamfast._C.balanced_logistic_loss: unknown dtype or balance, or a wrong size");
    const siamfast::LossCall call{v[0], static_cast<int>(v[1]), static_cast<int>(v[2]),
                                  {f[0], f[1], f[2], f[3], v[3] == 1}, static_cast<siamfast::Balance>(v[4]), f[4], f[5],
                                  v[5] == 1, f[6], static_cast<int>(v[6])};
    siamfast::loss_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    const py::gil_scoped_release release;
    siamfast::balanced_logistic_loss(call, static_cast<siamfast::Dtype>(dtype), reinterpret_cast<const char *>(scores),
                                     floats(labels), one_map, floats(centers), floats(losses), floats(slope));
}

// samples, frames, channels, value channels, query height, width, key height, width, top, threads
using WarpSizes = std::array<int, 10>;
// normalise, circle, post, details
using WarpFlags = std::array<bool, 4>;
// address (0: none), dtype code, and the steps in bytes along n, t, c, y, x
using Frames = std::array<std::int64_t, 7>;

siamfast::FrameMaps frames_of(const Frames &t) {
    if (t[1] < 1 || t[1] > 3) throw std::invalid_argument("siamfast._C: unknown dtype code");
    return {reinterpret_cast<const char *>(static_cast<std::uintptr_t>(t[0])), static_cast<siamfast::Dtype>(t[1]), t[2],
            t[3], t[4], t[5], t[6]};
}

siamfast::WarpCall warp_call(const WarpSizes &v, const WarpFlags &flags, float temperature, double radius,
                             const std::vector<bool> &global) {
    if (v[0] < 0 || v[3] < 0 || v[8] < 0 || std::min({v[1], v[2], v[4], v[5], v[6], v[7]}) < 1 ||
        static_cast<int>(global.size()) != v[1])
        throw std::invalid_argument("siamfast._C: sizes that do not fit a warp");
    siamfast::row_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], temperature, flags[0], radius, flags[1], global, v[8],
            flags[2], flags[3], v[9]};
}

// outputs: addresses of values, confidence, entropy, lse, indices
void bind_warp(const WarpSizes &v, const WarpFlags &flags, float temperature, double radius,
               const std::vector<bool> &global, const Frames &query, const Frames &keys, const Frames &values,
               const Frames &bias, const std::array<std::uintptr_t, 5> &outputs) {
    const siamfast::WarpCall call = warp_call(v, flags, temperature, radius, global);
    const siamfast::WarpOutput output{floats(outputs[0]), floats(outputs[1]), floats(outputs[2]), floats(outputs[3]),
                                      reinterpret_cast<std::int64_t *>(outputs[4])};
    const siamfast::FrameMaps q = frames_of(query), k = frames_of(keys), w = frames_of(values), b = frames_of(bias);
    const py::gil_scoped_release release;
    siamfast::correspondence_warp(call, q, k, w, b, output);
}

// given: addresses of forward's values, confidence, entropy, lse, indices, and of the gradients of the first four;
// gradients: of query, keys, values, bias
void bind_warp_backward(const WarpSizes &v, const WarpFlags &flags, float temperature, double radius,
                        const std::vector<bool> &global, const Frames &query, const Frames &keys, const Frames &values, const Frames &bias,
                        const std::array<std::uintptr_t, 9> &given, const std::array<std::uintptr_t, 4> &gradients) {
    const siamfast::WarpCall call = warp_call(v, flags, temperature, radius, global);
    const siamfast::WarpGiven all{floats(given[0]), floats(given[1]), floats(given[2]), floats(given[3]),
                                  reinterpret_cast<const std::int64_t *>(given[4]), floats(given[5]), floats(given[6]),
                                  floats(given[7]), floats(given[8])};
    const siamfast::WarpGradients found{floats(gradients[0]), floats(gradients[1]), floats(gradients[2]),
                                        floats(gradients[3])};
    const siamfast::FrameMaps q = frames_of(query), k = frames_of(keys), w = frames_of(values), b = frames_of(bias);
    const py::gil_scoped_release release;
    (call.top > 0 ? siamfast::correspondence_warp_top_backward : siamfast::correspondence_warp_backward)(call, q, k, w, b,
                                                                                                       all, found);
}

// count, height, width, out_height, out_width, threads
using AugmentSizes = std::array<int, 6>;

void bind_augment(const AugmentSizes &v, const std::array<std::int64_t, 4> &steps, std::uintptr_t images,
                  std::uintptr_t draws, const std::array<float, 3> &mean, const std::array<float, 3> &std, int dtype,
                  std::uintptr_t out) {
    if (dtype < 1 || dtype > 3 || v[0] < 0 || *std::min_element(v.begin() + 1, v.end()) < 1)
        throw std::invalid_argument("siamfast._C.augment: unknown dtype or a wrong size");
    const siamfast::AugmentCall call{v[0], v[1], v[2], v[3], v[4], v[5], steps[0], steps[1], steps[2], steps[3], mean, std};
    siamfast::row_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    const py::gil_scoped_release release;
    siamfast::augment(call, reinterpret_cast<const std::uint8_t *>(images),
                      reinterpret_cast<const siamfast::Draw *>(draws), static_cast<siamfast::Dtype>(dtype),
                      reinterpret_cast<char *>(out));
}

}  // namespace

PYBIND11_MODULE(_C, module, py::mod_gil_not_used()) {
    module.doc() = "siamfast's C++ kernels on raw buffers; use siamfast.ops instead";
    module.def("crop_and_resize", &bind_crop_and_resize);
    module.def("channel_sums", &bind_channel_sums);
    module.def("xcorr_depthwise", &bind_depthwise);
    module.def("xcorr_depthwise_backward", &bind_depthwise_backward);
    module.def("xcorr_full", &bind_full);
    module.def("xcorr_full_backward", &bind_full_backward);
    module.def("balanced_logistic_loss", &bind_loss);
    module.def("correspondence_warp", &bind_warp);
    module.def("correspondence_warp_backward", &bind_warp_backward);
    module.def("augment", &bind_augment);
    module.def("cpu_path", [] { return siamfast::isa_name(siamfast::chosen_isa()); });
}
