// The logistic loss as a function of siamfast._C.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <stdexcept>

#include "bindings.h"
#include "balanced_logistic_loss/loss.h"

namespace py = pybind11;

namespace siamfast {
namespace {

// samples, height, width, metric (1: l2), balance, total, threads
using LossSizes = std::array<std::int64_t, 7>;
// stride, r_pos, r_far, between, neg_weight, neutral_weight, factor
using LossNumbers = std::array<float, 7>;

void call_loss(const LossSizes &v, const LossNumbers &f, int dtype, std::uintptr_t scores, std::uintptr_t labels,
               bool one_map, std::uintptr_t centers, std::uintptr_t losses, std::uintptr_t slope) {
    if (dtype < 1 || dtype > 3 || v[0] < 0 || v[1] < 0 || v[2] < 0 || v[1] * v[2] > INT32_MAX || v[4] < 0 || v[4] > 2)
        throw std::invalid_argument("siamfast._C.balanced_logistic_loss: unknown dtype or balance, or a wrong size");
    const LossCall call{v[0], static_cast<int>(v[1]), static_cast<int>(v[2]),
                                  {f[0], f[1], f[2], f[3], v[3] == 1}, static_cast<Balance>(v[4]), f[4], f[5],
                                  v[5] == 1, f[6], static_cast<int>(v[6])};
    loss_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    const py::gil_scoped_release release;
    balanced_logistic_loss(call, static_cast<Dtype>(dtype), reinterpret_cast<const char *>(scores),
                                     floats(labels), one_map, floats(centers), floats(losses), floats(slope));
}

}  // namespace

void bind_balanced_logistic_loss(py::module_ &module) {
    module.def("balanced_logistic_loss", &call_loss);
}

}  // namespace siamfast
