// The warp backward, of all keys: weights are computed again chunk by chunk and meet queries and keys at once.
#include <algorithm>
#include <memory>
#include <vector>

#include "common/parallel.h"
#include "correspondence_warp/keys.h"
#include "correspondence_warp/queries.h"
#include "correspondence_warp/warp.h"

namespace siamfast {
namespace {

constexpr std::ptrdiff_t kChunkBytes = 1 << 18;  // of keys, and as much of their gradients

std::size_t size(std::ptrdiff_t count) { return static_cast<std::size_t>(count); }

// Sums over queries, in the order of the packed keys. One for each part of the queries: no two threads add to one.
// Memory is asked for by the caller's thread, where a failure is an error and no crash; each task makes its own 0.
class KeySums {
  public:
    KeySums(std::size_t features_, std::size_t values_, std::size_t bias_)
        : room_(new float[features_ + values_ + bias_]),
          size_(features_ + values_ + bias_),
          features(room_.get()),
          values(features + features_),
          bias(values + values_) {}
    void clear() { std::fill_n(room_.get(), size_, 0.0f); }
    void add(const KeySums &other, std::size_t begin, std::size_t end) {
        for (std::size_t k = begin; k < end; ++k) features[k] += other.features[k];
    }
    std::size_t all() const { return size_; }

  private:
    std::unique_ptr<float[]> room_;
    std::size_t size_;

  public:
    float *features, *values, *bias;  // one behind the other
};

class Gradient {
  public:
    Gradient(const WarpCall &call, const WarpKernels &kernels, const PackedKeys &packed, int depth,
             const WarpGiven &given, const WarpGradients &gradients, KeySums &sums)
        : call_(call),
          kernels_(kernels),
          packed_(packed),
          given_(given),
          gradients_(gradients),
          sums_(sums),
          queries_(call, packed, kernels, depth),
          chunk_(static_cast<int>(std::min(std::max<std::ptrdiff_t>(2, kChunkBytes / (4 * depth * kernels.lanes)),
                                           packed.padded() / kernels.lanes))),
          step_(static_cast<std::ptrdiff_t>(chunk_) * kernels.lanes),
          slopes_(size(kQueries * step_)),
          turned_(slopes_.size()),
          dq_(size(std::ptrdiff_t{depth} * kQueries)),
          lse_(kQueries),
          base_(kQueries),
          by_entropy_(kQueries),
          entropy_(kQueries),
          at_most_(kQueries),
          best_(kQueries),
          by_values_(size(kQueries) * size(call.value_channels)) {}

    void run(int number, int n, const FrameMaps &query) {
        queries_.load(number, n, query);
        for (int k = 0; k < queries_.tiles() * kTile; ++k)
            if (k % kTile < queries_.used(k / kTile)) prepare(n, k);
        std::fill(dq_.begin(), dq_.end(), 0.0f);
        const WarpKeys keys = packed_.keys();
        const int all = queries_.tiles() * kTile;
        std::fill(slopes_.begin(), slopes_.end(), 0.0f);
        queries_.walk(
            chunk_,
            [&](int tile, const WarpRun &chunk) {
                const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(tile) * kTile;
                const WarpSlopes of{lse_.data() + at,
                                    base_.data() + at,
                                    by_entropy_.data() + at,
                                    entropy_.data() + at,
                                    by_values_.data() + at * call_.value_channels,
                                    sums_.values,
                                    sums_.bias,
                                    any_entropy_};
                float *const slopes = slopes_.data() + at * step_;
                kernels_.slopes(keys, queries_.tile(tile), queries_.used(tile), chunk, of, slopes, step_);
                for (int m = 0; m < queries_.used(tile); ++m) add_largest(tile * kTile + m, chunk, slopes + m * step_);
            },
            [&](const WarpRun &chunk) {
                kernels_.turn(slopes_.data(), step_, all, chunk.count * kernels_.lanes, turned_.data());
                kernels_.to_queries(keys, chunk, turned_.data(), all, dq_.data());
                kernels_.to_keys(keys, chunk, queries_.plain(), slopes_.data(), step_, all, sums_.features);
                // A tile that does not see the next chunk leaves its rows alone.
                std::fill(slopes_.begin(), slopes_.end(), 0.0f);
            });
        give(n);
    }

  private:
    // dq, of the features before they were scaled.
    void give(int n) {
        const int all = queries_.tiles() * kTile;
        // q' = q / (|q| T): of its slope only what is across q remains.
        std::vector<float> along(size(all), 0.0f);
        if (call_.normalize)
            for (int c = 0; c < call_.channels; ++c)
                for (int k = 0; k < all; ++k) along[size(k)] += queries_.plain()[c * kQueries + k] * dq(c, k);
        for (int k = 0; k < all; ++k) {
            float length = 0.0f;
            for (int c = 0; c < call_.channels; ++c)
                length += queries_.plain()[c * kQueries + k] * queries_.plain()[c * kQueries + k];
            const float square = call_.temperature * call_.temperature;
            along[size(k)] =
                length * square > 0.5f ? along[size(k)] * square : 0.0f;  // as for keys that were too short
        }
        const std::ptrdiff_t cells = static_cast<std::ptrdiff_t>(call_.query_height) * call_.query_width;
        for (int c = 0; c < call_.channels; ++c) {
            float *const to = gradients_.query + (std::ptrdiff_t{n} * call_.channels + c) * cells;
            for (int k = 0; k < all; ++k)
                if (k % kTile < queries_.used(k / kTile))
                    to[queries_.place(k)] =
                        queries_.factor(k) * (dq(c, k) - queries_.plain()[c * kQueries + k] * along[size(k)]);
        }
    }
    float dq(int c, int k) const { return dq_[size(std::ptrdiff_t{c} * kQueries + k)]; }

    // What a query's slopes are made of: see WarpSlopes.
    void prepare(int n, int k) {
        const std::ptrdiff_t cells = static_cast<std::ptrdiff_t>(call_.query_height) * call_.query_width;
        const std::ptrdiff_t cell = n * cells + queries_.place(k);
        double base = -static_cast<double>(given_.by_lse[cell]);
        for (int c = 0; c < call_.value_channels; ++c) {
            const std::ptrdiff_t at = (std::ptrdiff_t{n} * call_.value_channels + c) * cells + queries_.place(k);
            base += static_cast<double>(given_.by_values[at]) * static_cast<double>(given_.values[at]);
            by_values_[size((k / kTile * call_.value_channels + c) * kTile + k % kTile)] = given_.by_values[at];
        }
        // The confidence is the weight of the largest logit; all weights go down where that one goes up.
        const float most = given_.by_confidence[cell] * given_.confidence[cell];
        lse_[size(k)] = given_.lse[cell];
        base_[size(k)] = static_cast<float>(base + static_cast<double>(most));
        by_entropy_[size(k)] = given_.by_entropy[cell];
        any_entropy_ |= given_.by_entropy[cell] != 0.0f;
        entropy_[size(k)] = given_.entropy[cell];
        at_most_[size(k)] = most;
        best_[size(k)] = given_.indices[cell];
    }

    void add_largest(int k, const WarpRun &chunk, float *slopes) {
        const std::int64_t key = best_[size(k)] - chunk.key;
        if (at_most_[size(k)] == 0.0f || key < 0 || key >= chunk.count * kernels_.lanes) return;
        slopes[key] += at_most_[size(k)];
        sums_.bias[size(chunk.panel * kernels_.lanes + key)] += at_most_[size(k)];
    }

    const WarpCall &call_;
    const WarpKernels &kernels_;
    const PackedKeys &packed_;
    const WarpGiven &given_;
    const WarpGradients &gradients_;
    KeySums &sums_;
    QueryGroup queries_;
    int chunk_;  // panels
    std::ptrdiff_t step_;
    std::vector<float> slopes_, turned_, dq_, lse_, base_, by_entropy_, entropy_, at_most_;
    std::vector<std::int64_t> best_;
    std::vector<float> by_values_;
    bool any_entropy_ = false;
};

// The parts' sums, in their order, into the first.
void add_up(const WarpCall &call, const WarpKernels &kernels, const PackedKeys &packed, std::vector<KeySums> &parts) {
    const WarpKeys keys = packed.keys();
    const int panels = static_cast<int>(packed.padded() / kernels.lanes);
    parallel_for(panels, call.threads, [&](int panel) {
        const std::size_t begin = size(panel * keys.size), end = begin + size(keys.size);
        for (std::size_t part = 1; part < parts.size(); ++part) parts[0].add(parts[part], begin, end);
        if (call.normalize)
            kernels.denormalize(keys.panels + panel * keys.size, call.channels,
                                packed.factors() + std::ptrdiff_t{panel} * kernels.lanes, parts[0].features + begin);
    });
    for (std::size_t part = 1; part < parts.size(); ++part)
        parts[0].add(parts[part], size(packed.padded() / kernels.lanes * keys.size), parts[0].all());
}

// Sums over queries to the caller's layout.
void collect(const WarpCall &call, const WarpKernels &kernels, const PackedKeys &packed, const KeySums &sums, int n,
             const WarpGradients &gradients) {
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(call.key_height) * call.key_width,
                         size_of = packed.keys().size;
    const int lanes = kernels.lanes, channels = call.channels + call.value_channels + 1;
    parallel_for(channels * call.frames, call.threads, [&](int task) {
        const int channel = task % channels, t = task / channels;
        const std::ptrdiff_t frame = std::ptrdiff_t{n} * call.frames + t;
        const auto each = [&](float *to, const auto &from) {
            for (std::ptrdiff_t k = 0; k < plane; ++k) to[k] = from(packed.place(t * plane + k));
        };
        if (channel < call.channels)
            each(gradients.keys + (frame * call.channels + channel) * plane, [&](std::ptrdiff_t place) {
                return sums.features[size(place / lanes * size_of + channel * lanes + place % lanes)];
            });
        else if (const int c = channel - call.channels; c < call.value_channels)
            each(gradients.values + (frame * call.value_channels + c) * plane,
                 [&](std::ptrdiff_t place) { return sums.values[size(c * packed.padded() + place)]; });
        else
            each(gradients.bias + frame * plane, [&](std::ptrdiff_t place) { return sums.bias[size(place)]; });
    });
}

}  // namespace

void correspondence_warp_backward(const WarpCall &call, const FrameMaps &query, const FrameMaps &keys,
                                  const FrameMaps &values, const FrameMaps &bias, const WarpGiven &given,
                                  const WarpGradients &gradients) {
    const WarpKernels &kernels = warp_kernels();
    const int depth = (call.channels + kTile - 1) / kTile * kTile;  // the products take that many channels at once
    PackedKeys packed(call, kernels, depth);
    const int groups = QueryGroup::count(call, packed), parts = std::min(std::max(1, call.threads), groups);
    for (int n = 0; n < call.samples; ++n) {
        packed.fill(n, keys, values, bias);
        std::vector<KeySums> sums;
        for (int part = 0; part < parts; ++part)
            sums.emplace_back(size(packed.padded() * depth), size(packed.padded() * call.value_channels),
                              size(packed.padded()));
        parallel_for(parts, call.threads, [&](int part) {
            sums[size(part)].clear();
            Gradient gradient(call, kernels, packed, depth, given, gradients, sums[size(part)]);
            for (int group = groups * part / parts; group < groups * (part + 1) / parts; ++group)
                gradient.run(group, n, query);
        });
        add_up(call, kernels, packed, sums);
        collect(call, kernels, packed, sums[0], n, gradients);
    }
}

}  // namespace siamfast
