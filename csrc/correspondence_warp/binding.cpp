// The warp, forward and backward, as functions of siamfast._C.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "bindings.h"
#include "correspondence_warp/warp.h"

namespace py = pybind11;

namespace siamfast {
namespace {

// samples, frames, channels, value channels, query height, width, key height, width, top, threads
using WarpSizes = std::array<int, 10>;
// normalise, circle, post, details
using WarpFlags = std::array<bool, 4>;
// address (0: none), dtype code, and the steps in bytes along n, t, c, y, x
using Frames = std::array<std::int64_t, 7>;

FrameMaps frames_of(const Frames &t) {
    if (t[1] < 1 || t[1] > 3) throw std::invalid_argument("siamfast._C: unknown dtype code");
    return {reinterpret_cast<const char *>(static_cast<std::uintptr_t>(t[0])), static_cast<Dtype>(t[1]), t[2],
            t[3], t[4], t[5], t[6]};
}

WarpCall warp_call(const WarpSizes &v, const WarpFlags &flags, float temperature, double radius,
                             const std::vector<bool> &global) {
    if (v[0] < 0 || v[3] < 0 || v[8] < 0 || std::min({v[1], v[2], v[4], v[5], v[6], v[7]}) < 1 ||
        static_cast<int>(global.size()) != v[1])
        throw std::invalid_argument("siamfast._C: sizes that do not fit a warp");
    row_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], temperature, flags[0], radius, flags[1], global, v[8],
            flags[2], flags[3], v[9]};
}

// outputs: addresses of values, confidence, entropy, lse, indices
void call_warp(const WarpSizes &v, const WarpFlags &flags, float temperature, double radius,
               const std::vector<bool> &global, const Frames &query, const Frames &keys, const Frames &values,
               const Frames &bias, const std::array<std::uintptr_t, 5> &outputs) {
    const WarpCall call = warp_call(v, flags, temperature, radius, global);
    const WarpOutput output{floats(outputs[0]), floats(outputs[1]), floats(outputs[2]), floats(outputs[3]),
                                      reinterpret_cast<std::int64_t *>(outputs[4])};
    const FrameMaps q = frames_of(query), k = frames_of(keys), w = frames_of(values), b = frames_of(bias);
    const py::gil_scoped_release release;
    correspondence_warp(call, q, k, w, b, output);
}

// given: addresses of forward's values, confidence, entropy, lse, indices, and of the gradients of the first four;
// gradients: of query, keys, values, bias
void call_warp_backward(const WarpSizes &v, const WarpFlags &flags, float temperature, double radius,
                        const std::vector<bool> &global, const Frames &query, const Frames &keys, const Frames &values, const Frames &bias,
                        const std::array<std::uintptr_t, 9> &given, const std::array<std::uintptr_t, 4> &gradients) {
    const WarpCall call = warp_call(v, flags, temperature, radius, global);
    const WarpGiven all{floats(given[0]), floats(given[1]), floats(given[2]), floats(given[3]),
                                  reinterpret_cast<const std::int64_t *>(given[4]), floats(given[5]), floats(given[6]),
                                  floats(given[7]), floats(given[8])};
    const WarpGradients found{floats(gradients[0]), floats(gradients[1]), floats(gradients[2]),
                                        floats(gradients[3])};
    const FrameMaps q = frames_of(query), k = frames_of(keys), w = frames_of(values), b = frames_of(bias);
    const py::gil_scoped_release release;
    (call.top > 0 ? correspondence_warp_top_backward : correspondence_warp_backward)(call, q, k, w, b,
                                                                                                       all, found);
}

}  // namespace

void bind_correspondence_warp(py::module_ &module) {
    module.def("correspondence_warp", &call_warp);
    module.def("correspondence_warp_backward", &call_warp_backward);
}

}  // namespace siamfast
