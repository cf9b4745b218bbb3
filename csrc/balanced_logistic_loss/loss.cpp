// The logistic loss's driver: weights from the counts, samples over the threads, sums in the samples' order.
#include "balanced_logistic_loss/loss.h"

#include <algorithm>
#include <vector>

#include "common/parallel.h"

namespace siamfast {
namespace {

constexpr std::int64_t kWorthThreads = 65536;  // cells

CellWeights weights_of(const LossCall &call, std::int64_t samples, double positives, double negatives) {
    const double neg = call.neg_weight, all = static_cast<double>(samples);
    double positive = 0.5 / std::max(positives, 1.0), negative = 0.5 * neg / std::max(negatives, 1.0);
    if (call.balance == Balance::batch) {
        const double total = (positives > 0 ? 1.0 : 0.0) + (negatives > 0 ? neg : 0.0), share = total > 0 ? total : 1.0;
        positive = all / std::max(positives, 1.0) / share;
        negative = all * neg / std::max(negatives, 1.0) / share;
    } else if (call.balance == Balance::cells) {
        const double total = positives + neg * negatives, share = total > 0 ? total : 1.0;
        positive = all / share;
        negative = all * neg / share;
    }
    return {static_cast<float>(positive * call.factor), static_cast<float>(negative * call.factor),
            call.neutral_weight * call.factor};
}

}  // namespace

void balanced_logistic_loss(const LossCall &call, const LossMaps &maps) {
    const LossKernels &kernels = loss_kernels();
    const RowKernels &rows = row_kernels();
    const int cells = maps.height * maps.width;
    const std::size_t size = static_cast<std::size_t>(cells);
    // One map serves all samples, or every sample has its own: given, or made when its turn comes.
    const bool shared = maps.labels != nullptr ? maps.one_map : maps.centers == nullptr;
    std::vector<float> made(maps.labels == nullptr && shared ? size : 0);
    const float *common = maps.labels;
    if (maps.labels == nullptr && shared) {
        kernels.labels(call.rule, 0.5f * static_cast<float>(maps.height - 1), 0.5f * static_cast<float>(maps.width - 1),
                       maps.height, maps.width, made.data());
        common = made.data();
    }
    const auto labels_of = [&](std::int64_t n, float *room) -> const float * {
        if (shared) return common;
        if (maps.labels != nullptr) return maps.labels + n * cells;
        kernels.labels(call.rule, maps.centers[2 * n + 1], maps.centers[2 * n], maps.height, maps.width, room);
        return room;
    };

    double positives = 0, negatives = 0;
    int ones, zeros;
    if (shared) {
        kernels.count(common, cells, &ones, &zeros);
        const double times = call.balance == Balance::sample ? 1.0 : static_cast<double>(maps.samples);
        positives = times * ones;
        negatives = times * zeros;
    } else if (call.balance != Balance::sample) {
        std::vector<float> room(maps.labels == nullptr ? size : 0);
        for (std::int64_t n = 0; n < maps.samples; ++n) {
            kernels.count(labels_of(n, room.data()), cells, &ones, &zeros);
            positives += ones;
            negatives += zeros;
        }
    }
    const CellWeights of_all = weights_of(call, maps.samples, positives, negatives);

    std::vector<float> sums(call.total ? static_cast<std::size_t>(maps.samples) : 0);
    float *const sample_losses = call.total ? sums.data() : maps.losses;
    const int element = dtype_size(maps.dtype);
    const int threads = maps.samples * cells < kWorthThreads ? 1 : std::max(1, call.threads);
    const int runs = static_cast<int>(std::min<std::int64_t>(maps.samples, 4 * threads));
    parallel_for(threads == 1 ? std::min(runs, 1) : runs, threads, [&](int run) {
        const std::int64_t parts = threads == 1 ? 1 : runs;
        std::vector<float> own(maps.labels == nullptr && !shared ? size : 0), read(maps.dtype == Dtype::f32 ? 0 : size);
        for (std::int64_t n = maps.samples * run / parts; n < maps.samples * (run + 1) / parts; ++n) {
            const float *truth = labels_of(n, own.data());
            CellWeights weights = of_all;
            if (!shared && call.balance == Balance::sample) {
                int positive, negative;
                kernels.count(truth, cells, &positive, &negative);
                weights = weights_of(call, maps.samples, positive, negative);
            }
            const char *from = maps.scores + n * cells * element;
            const float *values = reinterpret_cast<const float *>(from);
            if (maps.dtype != Dtype::f32) {
                rows.exact.load(maps.dtype, from, element, element, cells, 1, read.data());
                values = read.data();
            }
            sample_losses[n] = kernels.cells(values, truth, cells, weights, maps.slope + n * cells);
        }
    });
    if (call.total) {
        double sum = 0;
        for (const float loss : sums) sum += static_cast<double>(loss);
        maps.losses[0] = static_cast<float>(sum);
    }
}

}  // namespace siamfast
