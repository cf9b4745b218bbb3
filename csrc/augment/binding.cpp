// augment as a function of siamfast._C.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

#include "augment/augment.h"
#include "bindings.h"

namespace py = pybind11;

namespace siamfast {
namespace {

// images: (N, 3, H, W) uint8; out: (N, 3, h, w), channels_last; draws: the address of (N, 14) floats.
void call_augment(const Buffer<Nchw> &images, const Buffer<Nchw> &out, std::uintptr_t draws,
                  const std::array<float, 3> &mean, const std::array<float, 3> &std, int threads) {
    if (images.dtype != Dtype::u8 || out.dtype == Dtype::u8 ||
        std::min({images.shape.y, images.shape.x, out.shape.y, out.shape.x, std::int64_t{threads}}) < 1)
        throw std::invalid_argument("siamfast._C.augment: unknown dtype or a wrong size");
    const AugmentCall call{side(images.shape.n),
                           side(images.shape.y),
                           side(images.shape.x),
                           side(out.shape.y),
                           side(out.shape.x),
                           threads,
                           images.stride.n,
                           images.stride.c,
                           images.stride.y,
                           images.stride.x,
                           mean,
                           std,
                           out.dtype};
    row_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    const py::gil_scoped_release release;
    augment(call, reinterpret_cast<const std::uint8_t *>(images.data), reinterpret_cast<const Draw *>(draws), out.data);
}

}  // namespace

void bind_augment(py::module_ &module) {
    module.def("augment", &call_augment, py::arg("images"), py::arg("out"), py::arg("draws"), py::arg("mean"),
               py::arg("std"), py::arg("threads"));
}

}  // namespace siamfast
