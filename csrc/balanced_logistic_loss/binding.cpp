// The logistic loss as a function of siamfast._C.
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "balanced_logistic_loss/loss.h"
#include "bindings.h"

namespace py = pybind11;

namespace siamfast {
namespace {

enum class Metric : int { l1 = 0, l2 = 1 };
enum class Neutral : int { half = 0, ignore = 1, half_weighted = 2 };
enum class Reduction : int { mean = 0, sum = 1, none = 2 };

// As siamfast/ops/balanced_logistic_loss/call.py says what each is.
struct Options {
    float stride, r_pos, r_neg, neg_weight;
    Metric metric;
    Neutral neutral;
    Balance balance;
    Reduction reduction;
};

}  // namespace

template <>
struct Codes<Metric> {
    static constexpr const char *name = "balanced_logistic_loss.Metric";
    static constexpr std::pair<const char *, Metric> codes[] = {{"L1", Metric::l1}, {"L2", Metric::l2}};
};

template <>
struct Codes<Neutral> {
    static constexpr const char *name = "balanced_logistic_loss.Neutral";
    static constexpr std::pair<const char *, Neutral> codes[] = {
        {"HALF", Neutral::half}, {"IGNORE", Neutral::ignore}, {"HALF_WEIGHTED", Neutral::half_weighted}};
};

template <>
struct Codes<Balance> {
    static constexpr const char *name = "balanced_logistic_loss.Balance";
    static constexpr std::pair<const char *, Balance> codes[] = {
        {"SAMPLE", Balance::sample}, {"BATCH", Balance::batch}, {"CELLS", Balance::cells}};
};

template <>
struct Codes<Reduction> {
    static constexpr const char *name = "balanced_logistic_loss.Reduction";
    static constexpr std::pair<const char *, Reduction> codes[] = {
        {"MEAN", Reduction::mean}, {"SUM", Reduction::sum}, {"NONE", Reduction::none}};
};

template <>
struct Record<Options> {
    static constexpr const char *name = "balanced_logistic_loss.Options";
    static constexpr auto fields =
        std::make_tuple(field("stride", &Options::stride), field("r_pos", &Options::r_pos),
                        field("r_neg", &Options::r_neg), field("neg_weight", &Options::neg_weight),
                        field("metric", &Options::metric), field("neutral", &Options::neutral),
                        field("balance", &Options::balance), field("reduction", &Options::reduction));
};

template <>
struct Record<LossMaps> {
    static constexpr const char *name = "balanced_logistic_loss.LossMaps";
    static constexpr auto fields = std::make_tuple(
        field("samples", &LossMaps::samples), field("height", &LossMaps::height), field("width", &LossMaps::width),
        field("dtype", &LossMaps::dtype), field("scores", &LossMaps::scores), field("labels", &LossMaps::labels),
        field("one_map", &LossMaps::one_map), field("centers", &LossMaps::centers), field("losses", &LossMaps::losses),
        field("slope", &LossMaps::slope));
};

namespace {

void call_loss(const Options &options, const LossMaps &maps, int threads) {
    if (maps.dtype == Dtype::u8 || maps.samples < 0 || maps.height < 0 || maps.width < 0 ||
        std::int64_t{maps.height} * maps.width > INT32_MAX)
        throw std::invalid_argument("siamfast._C.balanced_logistic_loss: unknown dtype or balance, or a wrong size");
    const LabelRule rule{options.stride, options.r_pos, std::max(options.r_neg, options.r_pos),
                         options.neutral == Neutral::ignore ? -1.0f : 0.5f, options.metric == Metric::l2};
    const double samples = static_cast<double>(std::max<std::int64_t>(maps.samples, 1));
    const float factor = options.reduction == Reduction::mean ? static_cast<float>(1.0 / samples) : 1.0f;
    const LossCall call{rule,
                        options.balance,
                        options.neg_weight,
                        options.neutral == Neutral::half_weighted ? 1.0f : 0.0f,
                        options.reduction != Reduction::none,
                        factor,
                        threads};
    loss_kernels();  // a wrong SIAMFAST_CPU throws here, with the GIL held
    const py::gil_scoped_release release;
    balanced_logistic_loss(call, maps);
}

}  // namespace

void bind_balanced_logistic_loss(py::module_ &module) {
    list_enum<Metric>(module);
    list_enum<Neutral>(module);
    list_enum<Balance>(module);
    list_enum<Reduction>(module);
    list_record<Options>(module);
    list_record<LossMaps>(module);
    module.def("balanced_logistic_loss", &call_loss, py::arg("options"), py::arg("maps"), py::arg("threads"));
}

}  // namespace siamfast
