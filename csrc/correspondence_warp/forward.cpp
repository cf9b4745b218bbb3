// The warp forward: keys packed once a sample, groups of query tiles over the threads, results out of running sums.
#include <algorithm>
#include <cmath>
#include <limits>

#include "common/parallel.h"
#include "correspondence_warp/keys.h"
#include "correspondence_warp/queries.h"
#include "correspondence_warp/warp.h"

namespace siamfast {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr std::ptrdiff_t kChunkBytes = 1 << 18;  // of keys: a part of a core's second cache

std::size_t size(int count) { return static_cast<std::size_t>(count); }

// The running sums of one group's queries, and what becomes of them.
class Attention {
  public:
    Attention(const WarpCall &call, const WarpKernels &kernels, const PackedKeys &packed, const QueryGroup &queries)
        : call_(call),
          kernels_(kernels),
          packed_(packed),
          queries_(queries),
          softmax_(call.top == 0 || call.post || call.details),
          chunk_(static_cast<int>(std::max<std::ptrdiff_t>(2, kChunkBytes / (4 * call.channels * kernels.lanes)))),
          room_(size(kTile * kernels.lanes) * size(chunk_)),
          largest_(size(kQueries)),
          sum_(largest_.size() * size(kernels.lanes)),
          mean_(sum_.size()),
          values_(sum_.size() * size(call.value_channels)),
          best_(largest_.size() * size(top())),
          where_(best_.size()) {}

    void run(int n, const WarpOutput &output) {
        std::fill(largest_.begin(), largest_.end(), kNothing);
        std::fill(best_.begin(), best_.end(), kNothing);
        std::fill(where_.begin(), where_.end(), -1);
        std::fill(nan_, nan_ + kQueries, false);
        for (std::vector<float> *sums : {&sum_, &mean_, &values_}) std::fill(sums->begin(), sums->end(), 0.0f);
        queries_.walk(
            chunk_,
            [&](int tile, const WarpRun &chunk) {
                const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(tile) * kTile, lanes = kernels_.lanes;
                const WarpState state{largest_.data() + at,
                                      sum_.data() + at * lanes,
                                      mean_.data() + at * lanes,
                                      values_.data() + at * lanes * call_.value_channels,
                                      best_.data() + at * top(),
                                      where_.data() + at * top(),
                                      nan_ + at,
                                      top(),
                                      softmax_};
                kernels_.attend(packed_.keys(), queries_.tile(tile), queries_.used(tile), chunk, state, room_.data());
            },
            nullptr);
        for (int k = 0; k < queries_.tiles() * kTile; ++k)
            if (k % kTile < queries_.used(k / kTile)) finish(n, k, output);
    }

  private:
    int top() const { return call_.top > 0 ? call_.top : call_.details ? 1 : 0; }

    void finish(int n, int k, const WarpOutput &output) {
        const std::ptrdiff_t cells = static_cast<std::ptrdiff_t>(call_.query_height) * call_.query_width;
        const std::ptrdiff_t cell = n * cells + queries_.place(k);
        float *const values = output.values + n * cells * call_.value_channels + queries_.place(k);
        const int lanes = kernels_.lanes, chosen = top();
        const float *best = best_.data() + static_cast<std::ptrdiff_t>(k) * chosen;
        std::int64_t *where = where_.data() + static_cast<std::ptrdiff_t>(k) * chosen;
        const float nan = std::numeric_limits<float>::quiet_NaN();
        const bool none = nan_[k] || (softmax_ ? largest_[size(k)] == kNothing : best[0] == kNothing);
        const double sum = softmax_ ? static_cast<double>(kernels_.add_lanes(sum_.data() + k * lanes)) : 0.0;
        const double lse = static_cast<double>(largest_[size(k)]) + std::log(sum);
        double confidence, entropy;
        if (call_.top > 0) {
            // Weights of the chosen: of their own softmax, or of the one of all keys.
            double own = 0.0;
            for (int i = 0; i < chosen; ++i)
                own += std::exp(static_cast<double>(best[i]) - static_cast<double>(best[0]));
            const double base = call_.post ? lse : static_cast<double>(best[0]) + std::log(own);
            std::vector<double> totals(size(call_.value_channels));
            entropy = 0.0;
            for (int i = 0; i < chosen && best[i] > kNothing; ++i) {
                const double level = static_cast<double>(best[i]) - base, weight = std::exp(level);
                entropy -= weight * level;
                for (int c = 0; c < call_.value_channels; ++c)
                    totals[size(c)] += weight * static_cast<double>(packed_.value(c, where[i]));
            }
            confidence = std::exp(static_cast<double>(best[0]) - base);
            for (int c = 0; c < call_.value_channels; ++c)
                values[c * cells] = none ? nan : static_cast<float>(totals[size(c)]);
        } else {
            const float *sums = values_.data() + static_cast<std::ptrdiff_t>(k) * lanes * call_.value_channels;
            for (int c = 0; c < call_.value_channels; ++c)
                values[c * cells] =
                    none ? nan : static_cast<float>(static_cast<double>(kernels_.add_lanes(sums + c * lanes)) / sum);
            confidence = 1.0 / sum;
            entropy = std::log(sum) - static_cast<double>(kernels_.add_lanes(mean_.data() + k * lanes)) / sum;
        }
        if (!call_.details) return;
        output.confidence[cell] = none ? nan : static_cast<float>(confidence);
        output.entropy[cell] = none ? nan : static_cast<float>(entropy);
        output.lse[cell] = none ? nan : static_cast<float>(lse);
        fill_up(best, where, chosen);
        for (int i = 0; i < chosen; ++i) output.indices[(n * chosen + i) * cells + queries_.place(k)] = where[i];
    }

    // Fewer keys were seen than asked for: the lowest of those that weigh nothing take the places that are left.
    static void fill_up(const float *best, std::int64_t *where, int chosen) {
        std::int64_t next = 0;
        for (int i = 0; i < chosen; ++i) {
            if (best[i] > kNothing) continue;
            while (std::find(where, where + i, next) != where + i) ++next;
            where[i] = next++;
        }
    }

    const WarpCall &call_;
    const WarpKernels &kernels_;
    const PackedKeys &packed_;
    const QueryGroup &queries_;
    bool softmax_;
    int chunk_;  // panels
    std::vector<float> room_, largest_, sum_, mean_, values_, best_;
    std::vector<std::int64_t> where_;
    bool nan_[kQueries] = {};
};

}  // namespace

void correspondence_warp(const WarpCall &call, const FrameMaps &query, const FrameMaps &keys, const FrameMaps &values,
                         const FrameMaps &bias, const WarpOutput &output) {
    const WarpKernels &kernels = warp_kernels();
    PackedKeys packed(call, kernels, call.channels);
    for (int n = 0; n < call.samples; ++n) {
        packed.fill(n, keys, values, bias);
        parallel_for(QueryGroup::count(call, packed), call.threads, [&](int number) {
            QueryGroup queries(call, packed, kernels, 0);
            queries.load(number, n, query);
            Attention(call, kernels, packed, queries).run(n, output);
        });
    }
}

}  // namespace siamfast
