// augment as a function of siamfast._C.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <stdexcept>

#include "bindings.h"
#include "augment/augment.h"

namespace py = pybind11;

namespace siamfast {
namespace {

// count, height, width, out_height, out_width, threads
using AugmentSizes = std::array<int, 6>;

void call_augment(const AugmentSizes &v, const std::array<std::int64_t, 4> &steps, std::uintptr_t images,
                  std::uintptr_t draws, const std::array<float, 3> &mean, const std::array<float, 3> &std, int dtype,
                  std::uintptr_t out) {
    if (dtype < 1 || dtype > 3 || v[0] < 0 || *std::min_element(v.begin() + 1, v.end()) < 1)
        throw std::invalid_argument("siamfast._C.augment: unknown dtype or a wrong size");
    const AugmentCall call{v[0], v[1], v[2], v[3], v[4], v[5], steps[0], steps[1], steps[2], steps[3], mean, std};
    row_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    const py::gil_scoped_release release;
    augment(call, reinterpret_cast<const std::uint8_t *>(images),
                      reinterpret_cast<const Draw *>(draws), static_cast<Dtype>(dtype),
                      reinterpret_cast<char *>(out));
}

}  // namespace

void bind_augment(py::module_ &module) {
    module.def("augment", &call_augment);
}

}  // namespace siamfast
