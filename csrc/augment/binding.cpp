// augment as a function of siamfast._C.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
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

constexpr std::size_t columns = sizeof(Draw) / sizeof(float);
struct Limits {
    float lowest[columns], highest[columns];
    float sign_counts[columns];  // 0: the number may be negative, and its size is within the limits
};

// Whether every number of the table is within its limits. draws, limits: addresses.
bool draws_within(std::uintptr_t draws, std::int64_t count, std::uintptr_t limits, float least_blur) {
    const Limits &allowed = *reinterpret_cast<const Limits *>(limits);
    const Draw *rows = reinterpret_cast<const Draw *>(draws);
    for (const Draw *draw = rows; draw != rows + count; ++draw) {
        const float *numbers = &draw->x;
        for (std::size_t k = 0; k < columns; ++k) {
            const float size = allowed.sign_counts[k] != 0 ? numbers[k] : std::fabs(numbers[k]);
            if (!(size >= allowed.lowest[k] && size <= allowed.highest[k])) return false;  // nan too
        }
        if ((draw->blur != 0 && draw->blur < least_blur) || draw->seed != std::floor(draw->seed)) return false;
    }
    return true;
}

}  // namespace

void bind_augment(py::module_ &module) {
    module.def("augment", &call_augment, py::arg("images"), py::arg("out"), py::arg("draws"), py::arg("mean"),
               py::arg("std"), py::arg("threads"));
    module.def("draws_within", &draws_within, py::arg("draws"), py::arg("count"), py::arg("limits"),
               py::arg("least_blur"));
}

}  // namespace siamfast
