// The correlations as functions of siamfast._C.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "bindings.h"
#include "xcorr/xcorr.h"

namespace py = pybind11;

namespace siamfast {
namespace {

using Tensor = Buffer<Nchw>;

Maps maps_of(const Tensor &t) {
    check_floating(t);
    return {t.data, t.dtype, t.stride.n * t.unit, t.stride.c * t.unit, t.stride.y * t.unit, t.stride.x * t.unit};
}

XcorrSizes sizes_of(const Tensor &z, const Tensor &x, int pad_y, int pad_x, int threads) {
    if (std::min({z.shape.n, z.shape.c, z.shape.y, z.shape.x, x.shape.n, x.shape.c}) < 1)
        throw std::invalid_argument("siamfast._C: sizes that do not fit a correlation");
    const XcorrSizes sizes{side(z.shape.n), side(x.shape.n), side(x.shape.c), side(z.shape.c / x.shape.c),
                           side(z.shape.y), side(z.shape.x), side(x.shape.y), side(x.shape.x),
                           pad_y,           pad_x,           threads};
    if (sizes.kernels < 1 || sizes.searches % sizes.templates != 0 || sizes.out_height() < 1 || sizes.out_width() < 1 ||
        sizes.pad_y < 0 || sizes.pad_x < 0)
        throw std::invalid_argument("siamfast._C: sizes that do not fit a correlation");
    xcorr_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    return sizes;
}

void call_depthwise(const Tensor &z, const Tensor &x, const Tensor &out, int pad_y, int pad_x, int threads) {
    const XcorrSizes sizes = sizes_of(z, x, pad_y, pad_x, threads);
    const Maps templates = maps_of(z), searches = maps_of(x), responses = maps_of(out);
    const py::gil_scoped_release release;
    xcorr_depthwise(sizes, templates, searches, responses);
}

void call_depthwise_backward(const Tensor &grad, const Tensor &z, const Tensor &x, const Tensor &dz, const Tensor &dx,
                             int pad_y, int pad_x, int threads) {
    const XcorrSizes sizes = sizes_of(z, x, pad_y, pad_x, threads);
    const Maps slopes = maps_of(grad), templates = maps_of(z), searches = maps_of(x), to_z = maps_of(dz),
               to_x = maps_of(dx);
    const py::gil_scoped_release release;
    xcorr_depthwise_backward(sizes, slopes, templates, searches, to_z, to_x);
}

void call_full(const Tensor &z, const Tensor &x, std::uintptr_t out, float scale_constant, float bias_constant,
               int pad_y, int pad_x, int threads) {
    const XcorrSizes sizes = sizes_of(z, x, pad_y, pad_x, threads);
    const Maps templates = maps_of(z), searches = maps_of(x);
    const py::gil_scoped_release release;
    xcorr_full(sizes, templates, searches, scale_constant, bias_constant, reinterpret_cast<float *>(out));
}

void call_full_backward(std::uintptr_t grad_z, std::uintptr_t grad_x, const Tensor &z, const Tensor &x,
                        const Tensor &dz, const Tensor &dx, int pad_y, int pad_x, int threads) {
    const XcorrSizes sizes = sizes_of(z, x, pad_y, pad_x, threads);
    const Maps templates = maps_of(z), searches = maps_of(x), to_z = maps_of(dz), to_x = maps_of(dx);
    const py::gil_scoped_release release;
    xcorr_full_backward(sizes, reinterpret_cast<const float *>(grad_z), reinterpret_cast<const float *>(grad_x),
                        templates, searches, to_z, to_x);
}

}  // namespace

void bind_xcorr(py::module_ &module) {
    module.def("xcorr_depthwise", &call_depthwise, py::arg("z"), py::arg("x"), py::arg("out"), py::arg("pad_y"),
               py::arg("pad_x"), py::arg("threads"));
    module.def("xcorr_depthwise_backward", &call_depthwise_backward, py::arg("grad"), py::arg("z"), py::arg("x"),
               py::arg("dz"), py::arg("dx"), py::arg("pad_y"), py::arg("pad_x"), py::arg("threads"));
    module.def("xcorr_full", &call_full, py::arg("z"), py::arg("x"), py::arg("out"), py::arg("scale_constant"),
               py::arg("bias_constant"), py::arg("pad_y"), py::arg("pad_x"), py::arg("threads"));
    module.def("xcorr_full_backward", &call_full_backward, py::arg("grad_z"), py::arg("grad_x"), py::arg("z"),
               py::arg("x"), py::arg("dz"), py::arg("dx"), py::arg("pad_y"), py::arg("pad_x"), py::arg("threads"));
}

}  // namespace siamfast
