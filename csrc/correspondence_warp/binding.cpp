// The warp, forward and backward, as functions of siamfast._C.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "bindings.h"
#include "correspondence_warp/warp.h"

namespace py = pybind11;

namespace siamfast {
namespace {

// As siamfast/ops/correspondence_warp/call.py says what each is.
struct Options {
    float temperature;
    bool normalize;
    double radius;
    bool circle;
    std::vector<int> global_frames;
    int topk;
    bool post, details;
};

}  // namespace

template <>
struct Record<Options> {
    static constexpr const char *name = "correspondence_warp.Options";
    static constexpr auto fields =
        std::make_tuple(field("temperature", &Options::temperature), field("normalize", &Options::normalize),
                        field("radius", &Options::radius), field("circle", &Options::circle),
                        field("global_frames", &Options::global_frames), field("topk", &Options::topk),
                        field("post", &Options::post), field("details", &Options::details));
};

template <>
struct Record<WarpOutput> {
    static constexpr const char *name = "correspondence_warp.WarpOutput";
    static constexpr auto fields = std::make_tuple(
        field("values", &WarpOutput::values), field("confidence", &WarpOutput::confidence),
        field("entropy", &WarpOutput::entropy), field("lse", &WarpOutput::lse), field("indices", &WarpOutput::indices));
};

template <>
struct Record<WarpGiven> {
    static constexpr const char *name = "correspondence_warp.WarpGiven";
    static constexpr auto fields = std::make_tuple(
        field("values", &WarpGiven::values), field("confidence", &WarpGiven::confidence),
        field("entropy", &WarpGiven::entropy), field("lse", &WarpGiven::lse), field("indices", &WarpGiven::indices),
        field("by_values", &WarpGiven::by_values), field("by_confidence", &WarpGiven::by_confidence),
        field("by_entropy", &WarpGiven::by_entropy), field("by_lse", &WarpGiven::by_lse));
};

template <>
struct Record<WarpGradients> {
    static constexpr const char *name = "correspondence_warp.WarpGradients";
    static constexpr auto fields =
        std::make_tuple(field("query", &WarpGradients::query), field("keys", &WarpGradients::keys),
                        field("values", &WarpGradients::values), field("bias", &WarpGradients::bias));
};

namespace {

using Tensor = Buffer<Ntchw>;

FrameMaps maps_of(const Tensor &t) {
    check_floating(t);
    return {t.data,
            t.dtype,
            t.stride.n * t.unit,
            t.stride.t * t.unit,
            t.stride.c * t.unit,
            t.stride.y * t.unit,
            t.stride.x * t.unit};
}

WarpCall call_of(const Tensor &query, const Tensor &values, const Options &options, int threads) {
    const Ntchw &q = query.shape, &v = values.shape;
    if (std::min({q.n, v.c, std::int64_t{options.topk}}) < 0 || std::min({v.t, q.c, q.y, q.x, v.y, v.x}) < 1)
        throw std::invalid_argument("siamfast._C: sizes that do not fit a warp");
    std::vector<bool> exempt(static_cast<std::size_t>(v.t), false);
    // With one softmax per frame each frame is a sample of its own, and a number may be beyond the one frame there is.
    for (const int frame : options.global_frames)
        if (frame >= 0 && frame < v.t) exempt[static_cast<std::size_t>(frame)] = true;
    row_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    return {side(q.n), side(v.t),    side(q.c),           side(v.c),         side(q.y),      side(q.x),
            side(v.y), side(v.x),    options.temperature, options.normalize, options.radius, options.circle,
            exempt,    options.topk, options.post,        options.details,   threads};
}

// query: (N, 1, C, Hq, Wq), keys: (N, T, C, Hr, Wr), values: (N, T, K, Hr, Wr), bias: (N, T, 1, Hr, Wr) or absent.
void call_warp(const Tensor &query, const Tensor &keys, const Tensor &values, const Tensor &bias,
               const Options &options, const WarpOutput &output, int threads) {
    const WarpCall call = call_of(query, values, options, threads);
    const FrameMaps q = maps_of(query), k = maps_of(keys), v = maps_of(values), b = maps_of(bias);
    const py::gil_scoped_release release;
    correspondence_warp(call, q, k, v, b, output);
}

void call_warp_backward(const Tensor &query, const Tensor &keys, const Tensor &values, const Tensor &bias,
                        const Options &options, const WarpGiven &given, const WarpGradients &gradients, int threads) {
    const WarpCall call = call_of(query, values, options, threads);
    const FrameMaps q = maps_of(query), k = maps_of(keys), v = maps_of(values), b = maps_of(bias);
    const py::gil_scoped_release release;
    if (call.top > 0)
        correspondence_warp_top_backward(call, q, k, v, b, given, gradients);
    else
        correspondence_warp_backward(call, q, k, v, b, given, gradients);
}

}  // namespace

void bind_correspondence_warp(py::module_ &module) {
    list_record<Options>(module);
    list_record<WarpOutput>(module);
    list_record<WarpGiven>(module);
    list_record<WarpGradients>(module);
    module.def("correspondence_warp", &call_warp, py::arg("query"), py::arg("keys"), py::arg("values"), py::arg("bias"),
               py::arg("options"), py::arg("output"), py::arg("threads"));
    module.def("correspondence_warp_backward", &call_warp_backward, py::arg("query"), py::arg("keys"),
               py::arg("values"), py::arg("bias"), py::arg("options"), py::arg("given"), py::arg("gradients"),
               py::arg("threads"));
}

}  // namespace siamfast
