// The correlations as functions of siamfast._C.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

#include "bindings.h"
#include "xcorr/xcorr.h"

namespace py = pybind11;

namespace siamfast {
namespace {

// templates, searches, channels, kernels, hz, wz, height, width, pad_y, pad_x, threads
using Sizes = std::array<int, 11>;
// address (0: not wanted), and the steps in bytes along n, c, y, x
using Tensor = std::array<std::int64_t, 5>;

XcorrSizes xcorr_sizes(const Sizes &v) {
    const XcorrSizes sizes{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10]};
    if (*std::min_element(v.begin(), v.begin() + 6) < 1 || sizes.searches % sizes.templates != 0 ||
        sizes.out_height() < 1 || sizes.out_width() < 1 || sizes.pad_y < 0 || sizes.pad_x < 0)
        throw std::invalid_argument("siamfast._C: sizes that do not fit a correlation");
    xcorr_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    return sizes;
}

Maps maps_of(const Tensor &t, int dtype) {
    if (dtype < 1 || dtype > 3) throw std::invalid_argument("siamfast._C: unknown dtype code");
    return {reinterpret_cast<char *>(static_cast<std::uintptr_t>(t[0])), static_cast<Dtype>(dtype), t[1], t[2],
            t[3], t[4]};
}

void call_depthwise(const Sizes &v, int dtype, const Tensor &z, const Tensor &x, const Tensor &out) {
    const XcorrSizes sizes = xcorr_sizes(v);
    const py::gil_scoped_release release;
    xcorr_depthwise(sizes, maps_of(z, dtype), maps_of(x, dtype), maps_of(out, dtype));
}

void call_depthwise_backward(const Sizes &v, int dtype, const Tensor &grad, const Tensor &z, const Tensor &x,
                             const Tensor &dz, const Tensor &dx) {
    const XcorrSizes sizes = xcorr_sizes(v);
    const py::gil_scoped_release release;
    xcorr_depthwise_backward(sizes, maps_of(grad, dtype), maps_of(z, dtype), maps_of(x, dtype),
                                       maps_of(dz, dtype), maps_of(dx, dtype));
}

void call_full(const Sizes &v, int dtype, const Tensor &z, const Tensor &x, float alpha, float beta,
               std::uintptr_t out) {
    const XcorrSizes sizes = xcorr_sizes(v);
    const py::gil_scoped_release release;
    xcorr_full(sizes, maps_of(z, dtype), maps_of(x, dtype), alpha, beta, floats(out));
}

void call_full_backward(const Sizes &v, int dtype, std::uintptr_t grad_z, std::uintptr_t grad_x, const Tensor &z,
                        const Tensor &x, int dz_dtype, const Tensor &dz, const Tensor &dx) {
    const XcorrSizes sizes = xcorr_sizes(v);
    const py::gil_scoped_release release;
    xcorr_full_backward(sizes, floats(grad_z), floats(grad_x), maps_of(z, dtype), maps_of(x, dtype),
                                  maps_of(dz, dz_dtype), maps_of(dx, dtype));
}

}  // namespace

void bind_xcorr(py::module_ &module) {
    module.def("xcorr_depthwise", &call_depthwise);
    module.def("xcorr_depthwise_backward", &call_depthwise_backward);
    module.def("xcorr_full", &call_full);
    module.def("xcorr_full_backward", &call_full_backward);
}

}  // namespace siamfast
