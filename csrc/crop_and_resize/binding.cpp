// crop_and_resize and channel_sums as functions of siamfast._C.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings.h"
#include "crop_and_resize/crop.h"

namespace py = pybind11;

namespace siamfast {
namespace {

// As siamfast/ops/crop_and_resize/call.py says what each is.
struct Options {
    int height, width;
    Border border;
    Rule rule;
    bool antialias;
};

}  // namespace

template <>
struct Codes<Border> {
    static constexpr const char *name = "crop_and_resize.Border";
    static constexpr std::pair<const char *, Border> codes[] = {
        {"CONSTANT", Border::constant}, {"REPLICATE", Border::replicate}, {"REFLECT", Border::reflect}};
};

template <>
struct Codes<Rule> {
    static constexpr const char *name = "crop_and_resize.Rule";
    static constexpr std::pair<const char *, Rule> codes[] = {
        {"PIXEL", Rule::pixel}, {"SUBPIXEL", Rule::subpixel}, {"CORNER_ALIGNED", Rule::corner_aligned}};
};

template <>
struct Record<Options> {
    static constexpr const char *name = "crop_and_resize.Options";
    static constexpr auto fields = std::make_tuple(field("height", &Options::height), field("width", &Options::width),
                                                   field("border", &Options::border), field("rule", &Options::rule),
                                                   field("antialias", &Options::antialias));
};

namespace {

using Images = Buffer<Nchw>;
using Doubles = py::array_t<double, py::array::c_style>;

Image image_of(const Images &images, std::int64_t n) {
    return {images.data + n * images.stride.n * images.unit,
            images.dtype,
            images.shape.y,
            images.shape.x,
            side(images.shape.c),
            images.stride.y * images.unit,
            images.stride.x * images.unit,
            images.stride.c * images.unit};
}

Output output_of(const Images &out, const Options &options, std::int64_t m) {
    return {out.data + m * out.stride.n * out.unit,
            options.height,
            options.width,
            out.stride.n * out.unit,
            out.stride.y * out.unit,
            out.stride.x * out.unit,
            out.stride.c * out.unit};
}

// images: (N, C, H, W); windows: (M, 4) x, y, width, height; fill: (N, C); out: (M, C, height, width); N is 1 or M.
void call_crop_and_resize(const Images &images, const Doubles &windows, const Doubles &fill, const Images &out,
                          const Options &options, int threads) {
    const py::ssize_t count = images.shape.n;
    if (windows.ndim() != 2 || windows.shape(1) != 4 || (count != 1 && count != windows.shape(0)) || fill.ndim() != 2 ||
        fill.shape(0) != count || fill.shape(1) != images.shape.c)
        throw std::invalid_argument("siamfast._C.crop_and_resize: expected windows (M, 4) and one fill a channel");
    if (out.dtype != images.dtype || out.shape.n != windows.shape(0) || out.shape.c != images.shape.c ||
        out.shape.y != options.height || out.shape.x != options.width)
        throw std::invalid_argument("siamfast._C.crop_and_resize: an output that does not fit");
    std::vector<Window> all;
    const auto row = windows.unchecked<2>();
    for (py::ssize_t m = 0; m < windows.shape(0); ++m) all.push_back({row(m, 0), row(m, 1), row(m, 2), row(m, 3)});
    const std::vector<double> colors(fill.data(), fill.data() + fill.size());
    const CropOptions rule{options.border, options.rule, options.antialias, threads};
    row_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    const py::gil_scoped_release release;
    if (count == 1) return crop_and_resize(image_of(images, 0), all, colors, output_of(out, options, 0), rule);
    for (std::int64_t n = 0; n < count; ++n) {
        const auto color = colors.begin() + n * images.shape.c;
        crop_and_resize(image_of(images, n), {all[static_cast<std::size_t>(n)]}, {color, color + images.shape.c},
                        output_of(out, options, n), rule);
    }
}

// The sums of image n of (N, C, H, W).
std::vector<std::uint64_t> call_channel_sums(const Images &images, std::int64_t n, int threads) {
    if (images.dtype != Dtype::u8) throw std::invalid_argument("siamfast._C.channel_sums: expected uint8");
    row_kernels();
    const py::gil_scoped_release release;
    return channel_sums(image_of(images, n), threads);
}

}  // namespace

void bind_crop_and_resize(py::module_ &module) {
    list_enum<Border>(module);
    list_enum<Rule>(module);
    list_record<Options>(module);
    module.def("crop_and_resize", &call_crop_and_resize, py::arg("images"), py::arg("windows"), py::arg("fill"),
               py::arg("out"), py::arg("options"), py::arg("threads"));
    module.def("channel_sums", &call_channel_sums, py::arg("images"), py::arg("n"), py::arg("threads"));
}

}  // namespace siamfast
