// crop_and_resize and channel_sums as functions of siamfast._C.
#include <pybind11/pybind11.h>
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "bindings.h"
#include "crop_and_resize/crop.h"

namespace py = pybind11;

namespace siamfast {
namespace {

using Doubles = py::array_t<double, py::array::c_style>;

void call_crop_and_resize(std::uintptr_t source, int dtype, std::int64_t height, std::int64_t width, int channels,
                          std::ptrdiff_t step_y, std::ptrdiff_t step_x, std::ptrdiff_t step_c, const Doubles &windows,
                          std::uintptr_t target, int out_height, int out_width, std::ptrdiff_t out_step_m,
                          std::ptrdiff_t out_step_y, std::ptrdiff_t out_step_x, std::ptrdiff_t out_step_c,
                          const Doubles &fill, int border, int rule, bool antialias, int threads) {
    if (dtype < 0 || dtype > 3 || border < 0 || border > 2 || rule < 0 || rule > 2)
        throw std::invalid_argument("siamfast._C.crop_and_resize: unknown dtype, border or rule code");
    if (windows.ndim() != 2 || windows.shape(1) != 4 || fill.ndim() != 1 || fill.shape(0) != channels)
        throw std::invalid_argument("siamfast._C.crop_and_resize: expected windows (M, 4) and one fill a channel");
    const Image image{reinterpret_cast<const char *>(source), static_cast<Dtype>(dtype), height,
                                width, channels, step_y, step_x, step_c};
    const Output output{reinterpret_cast<char *>(target), out_height, out_width, out_step_m, out_step_y,
                                  out_step_x, out_step_c};
    std::vector<Window> list;
    const auto row = windows.unchecked<2>();
    for (py::ssize_t m = 0; m < windows.shape(0); ++m) list.push_back({row(m, 0), row(m, 1), row(m, 2), row(m, 3)});
    const CropOptions options{std::vector<double>(fill.data(), fill.data() + fill.size()),
                                        static_cast<Border>(border), static_cast<Rule>(rule),
                                        antialias, threads};
    row_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    const py::gil_scoped_release release;
    crop_and_resize(image, list, output, options);
}

std::vector<std::uint64_t> call_channel_sums(std::uintptr_t source, std::int64_t height, std::int64_t width,
                                             int channels, std::ptrdiff_t step_y, std::ptrdiff_t step_x,
                                             std::ptrdiff_t step_c, int threads) {
    const Image image{reinterpret_cast<const char *>(source), Dtype::u8, height, width, channels,
                                step_y, step_x, step_c};
    row_kernels();
    const py::gil_scoped_release release;
    return channel_sums(image, threads);
}

}  // namespace

void bind_crop_and_resize(py::module_ &module) {
    module.def("crop_and_resize", &call_crop_and_resize);
    module.def("channel_sums", &call_channel_sums);
}

}  // namespace siamfast
