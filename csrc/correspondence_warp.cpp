// The warp's driver: keys packed once a sample, groups of query tiles over the threads, results out of running sums.
#include "correspondence_warp.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "parallel.h"
#include "warp_kernels.h"

namespace siamfast {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr int kGroup = 8;                       // tiles that meet a chunk of keys while it is in the cache
constexpr std::ptrdiff_t kChunkBytes = 1 << 18;  // of keys: a part of a core's second cache

// One sample's keys, in rows of whole panels: with a window a row of the image, else all keys are one row.
class Packed {
  public:
    Packed(const WarpCall &call, const WarpKernels &kernels)
        : call_(call), kernels_(kernels), windowed_(call.radius >= 0),
          length_(windowed_ ? call.key_width : std::int64_t{call.frames} * call.key_height * call.key_width),
          rows_(windowed_ ? call.frames * call.key_height : 1),
          panels_(static_cast<int>((length_ + kernels.lanes - 1) / kernels.lanes)),
          padded_(static_cast<std::ptrdiff_t>(rows_) * panels_ * kernels.lanes),
          features_(static_cast<std::size_t>(padded_ * call.channels)),
          values_(static_cast<std::size_t>(padded_ * call.value_channels)) {}

    void fill(int n, const FrameMaps &keys, const FrameMaps &values, const FrameMaps &bias) {
        if (bias.data != nullptr) bias_.resize(static_cast<std::size_t>(padded_));
        const int lanes = kernels_.lanes;
        // A line is what lies side by side in all maps: a row, or a plane whose rows follow one another.
        const auto joined = [&](const FrameMaps &maps) {
            return maps.data == nullptr || maps.step_y == call_.key_width * maps.step_x;
        };
        const bool planes = !windowed_ && joined(keys) && joined(values) && joined(bias);
        const int rows = planes ? 1 : call_.key_height, width = planes ? call_.key_height * call_.key_width : call_.key_width;
        // A part is some channels of a line; values and bias go with the first.
        const int parts = std::min(call_.channels, std::max(1, 4 * call_.threads / (call_.frames * rows)));
        parallel_for(call_.frames * rows * parts, call_.threads, [&](int task) {
            const int part = task % parts, line = task / parts, t = line / rows, y = line % rows;
            std::vector<float> read(static_cast<std::size_t>(width));
            // Where the line's first key is, among the keys with those that fill up rows.
            const std::ptrdiff_t first = static_cast<std::ptrdiff_t>(line) * (windowed_ ? panels_ * lanes : width);
            const auto take = [&](const FrameMaps &maps, int c) {
                const char *from = maps.data + n * maps.step_n + t * maps.step_t + c * maps.step_c + y * maps.step_y;
                row_kernels().exact.load(maps.dtype, from, maps.step_x, maps.step_x, width, 1, read.data());
            };
            const auto bound = [&](int k) { return static_cast<int>(std::int64_t{call_.channels} * k / parts); };
            for (int c = bound(part); c < bound(part + 1); ++c) {
                take(keys, c);
                for (int x = 0; x < width;) {
                    const std::ptrdiff_t at = first + x;
                    const int lane = static_cast<int>(at % lanes), run = std::min(lanes - lane, width - x);
                    float *to = features_.data() + (at / lanes * call_.channels + c) * lanes + lane;
                    std::copy(read.begin() + x, read.begin() + x + run, to);
                    x += run;
                }
            }
            for (int k = 0; k < call_.value_channels && part == 0; ++k) {
                take(values, k);
                std::copy(read.begin(), read.end(), values_.begin() + k * padded_ + first);
            }
            if (bias.data != nullptr && part == 0) {
                take(bias, 0);
                std::copy(read.begin(), read.end(), bias_.begin() + first);
            }
        });
        if (call_.normalise)
            parallel_for(rows_ * panels_, call_.threads, [&](int panel) {
                kernels_.normalise(features_.data() + static_cast<std::ptrdiff_t>(panel) * call_.channels * lanes,
                                   call_.channels);
            });
    }

    WarpKeys keys() const {
        return {features_.data(), values_.data(), bias_.empty() ? nullptr : bias_.data(), call_.channels,
                call_.value_channels, padded_};
    }
    // The place among the keys with those that fill up rows, of a key as callers number keys.
    std::ptrdiff_t place(std::int64_t key) const {
        return static_cast<std::ptrdiff_t>(key / length_ * panels_ * kernels_.lanes + key % length_);
    }
    bool windowed() const { return windowed_; }
    int rows() const { return rows_; }
    int panels() const { return panels_; }
    std::int64_t length() const { return length_; }
    float value(int k, std::int64_t key) const { return values_[static_cast<std::size_t>(k * padded_ + place(key))]; }

  private:
    const WarpCall &call_;
    const WarpKernels &kernels_;
    bool windowed_;
    std::int64_t length_;
    int rows_, panels_;
    std::ptrdiff_t padded_;
    std::vector<float> features_, values_, bias_;
};

// The keys of a row that a query at `center` sees, `dy` rows away.
void interval(const WarpCall &call, double center, double dy, int *first, int *last) {
    const double radius = call.radius;
    const auto seen = [&](int x) {
        const double dx = std::abs(x - center);
        return call.circle ? std::sqrt(dy * dy + dx * dx) < radius : dy <= radius && dx <= radius;
    };
    const double reach = call.circle ? std::sqrt(std::max(radius * radius - dy * dy, 0.0)) : radius;
    // A cell more on either side, and then the rule itself: roundings of the root decide nothing.
    const double far = call.key_width;
    *first = static_cast<int>(std::min(std::max(std::floor(center - reach) - 1, 0.0), far));
    *last = static_cast<int>(std::max(std::min(std::ceil(center + reach) + 1, far - 1), -1.0));
    while (*first <= *last && !seen(*first)) ++*first;
    while (*first <= *last && !seen(*last)) --*last;
}

// One task's room, and the tiles that it works on.
class Group {
  public:
    Group(const WarpCall &call, const WarpKernels &kernels, const Packed &packed, int tiles, bool softmax)
        : call_(call), kernels_(kernels), packed_(packed), tiles_(tiles), softmax_(softmax),
          chunk_(static_cast<int>(std::max<std::ptrdiff_t>(2, kChunkBytes / (4 * call.channels * kernels.lanes)))),
          queries_(size(kTile * call.channels) * size(tiles)), room_(size(kTile * kernels.lanes) * size(chunk_)),
          largest_(size(tiles * kTile), kNothing), sum_(largest_.size() * size(kernels.lanes)), mean_(sum_.size()),
          values_(sum_.size() * size(call.value_channels)), best_(largest_.size() * size(top()), kNothing),
          where_(best_.size(), -1), nan_(new bool[largest_.size()]()), place_(largest_.size()), used_(size(tiles)) {}
    ~Group() { delete[] nan_; }
    Group(const Group &) = delete;
    Group &operator=(const Group &) = delete;

    // Tiles from `number` on are of `count` queries from `begin` on, numbered row by row in the sample.
    void load(int number, const FrameMaps &query, int n, int begin, int count) {
        float *const to = queries_.data() + static_cast<std::ptrdiff_t>(number) * kTile * call_.channels;
        for (int m = 0; m < count; ++m) {
            place_[size(number * kTile + m)] = begin + m;
            used_[size(number + m / kTile)] = m % kTile + 1;
        }
        // Rows that follow one another in memory are read as one.
        const bool joined = query.step_y == call_.query_width * query.step_x;
        std::vector<float> read(size(count));
        for (int c = 0; c < call_.channels; ++c) {
            for (int m = 0; m < count;) {
                const int y = (begin + m) / call_.query_width, x = (begin + m) % call_.query_width;
                const int run = joined ? count : std::min(count - m, call_.query_width - x);
                row_kernels().exact.load(
                    query.dtype, query.data + n * query.step_n + c * query.step_c + y * query.step_y + x * query.step_x,
                    query.step_x, query.step_x, run, 1, read.data() + m);
                m += run;
            }
            for (int m = 0; m < count; ++m) to[(m / kTile * call_.channels + c) * kTile + m % kTile] = read[size(m)];
        }
        for (int tile = 0; tile * kTile < count; ++tile) scale(to + static_cast<std::ptrdiff_t>(tile) * kTile * call_.channels);
    }

    // Every key that a tile sees, each chunk for all tiles while it is near.
    void run() {
        std::vector<int> first(size(tiles_ * kTile)), last(first.size());
        for (int row = 0; row < packed_.rows(); ++row) {
            int low = std::numeric_limits<int>::max(), high = -1;
            for (int k = 0; k < tiles_ * kTile; ++k) {
                first[size(k)] = 0;
                last[size(k)] = k % kTile < used_[size(k / kTile)] ? static_cast<int>(packed_.length()) - 1 : -1;
                if (last[size(k)] >= 0 && bounded(row)) window(k, row, &first[size(k)], &last[size(k)]);
                if (first[size(k)] > last[size(k)]) continue;
                low = std::min(low, first[size(k)]);
                high = std::max(high, last[size(k)]);
            }
            if (high < 0) continue;
            const int lanes = kernels_.lanes, end = high / lanes + 1;
            for (int panel = low / lanes; panel < end; panel += chunk_) {
                const int count = std::min(chunk_, end - panel);
                for (int tile = 0; tile < tiles_; ++tile)
                    meet(tile, row, panel, count, first.data() + tile * kTile, last.data() + tile * kTile);
            }
        }
    }

    void finish(int n, const WarpOutput &output) {
        for (int k = 0; k < tiles_ * kTile; ++k)
            if (k % kTile < used_[size(k / kTile)]) finish(n, k, output);
    }

  private:
    static std::size_t size(int count) { return static_cast<std::size_t>(count); }

    // A tile's queries to length 1 and divided by the temperature.
    void scale(float *tile) const {
        float squares[kTile] = {}, factors[kTile];
        for (int c = 0; c < call_.channels; ++c)
            for (int m = 0; m < kTile; ++m) squares[m] += tile[c * kTile + m] * tile[c * kTile + m];
        for (int m = 0; m < kTile; ++m) {
            const float norm = std::sqrt(squares[m]), length = norm < 1e-12f ? 1e-12f : norm;
            factors[m] = (call_.normalise ? 1.0f / length : 1.0f) / call_.temperature;
        }
        for (int c = 0; c < call_.channels; ++c)
            for (int m = 0; m < kTile; ++m) tile[c * kTile + m] *= factors[m];
    }

    int top() const { return call_.top > 0 ? call_.top : call_.details ? 1 : 0; }
    bool bounded(int row) const {
        return packed_.windowed() && !call_.global[size(row / call_.key_height)];
    }

    void window(int k, int row, int *first, int *last) const {
        const int query = place_[size(k)], y = query / call_.query_width, x = query % call_.query_width;
        const double cy = (y + 0.5) * call_.key_height / call_.query_height - 0.5;
        const double cx = (x + 0.5) * call_.key_width / call_.query_width - 0.5;
        interval(call_, cx, std::abs(row % call_.key_height - cy), first, last);
    }

    void meet(int tile, int row, int panel, int count, const int *first, const int *last) {
        const int lanes = kernels_.lanes, used = used_[size(tile)];
        bool any = false;
        for (int m = 0; m < used; ++m)
            any |= first[m] <= last[m] && first[m] < (panel + count) * lanes && last[m] >= panel * lanes;
        if (!any) return;
        const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(tile) * kTile;
        const WarpState state{largest_.data() + at, sum_.data() + at * lanes, mean_.data() + at * lanes,
                              values_.data() + at * lanes * call_.value_channels, best_.data() + at * top(),
                              where_.data() + at * top(), nan_ + at, top(), softmax_};
        const WarpRun run{static_cast<std::ptrdiff_t>(row) * packed_.panels() + panel, count,
                          row * packed_.length() + std::int64_t{panel} * lanes, panel * lanes, first, last};
        kernels_.attend(packed_.keys(), queries_.data() + at * call_.channels, used, run, state, room_.data());
    }

    void finish(int n, int k, const WarpOutput &output) {
        const std::ptrdiff_t cells = static_cast<std::ptrdiff_t>(call_.query_height) * call_.query_width;
        const std::ptrdiff_t cell = n * cells + place_[size(k)];
        float *const values = output.values + n * cells * call_.value_channels + place_[size(k)];
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
            for (int i = 0; i < chosen; ++i) own += std::exp(static_cast<double>(best[i]) - static_cast<double>(best[0]));
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
        for (int i = 0; i < chosen; ++i) output.indices[(n * chosen + i) * cells + place_[size(k)]] = where[i];
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
    const Packed &packed_;
    int tiles_;
    bool softmax_;
    int chunk_;  // panels
    std::vector<float> queries_, room_, largest_, sum_, mean_, values_, best_;
    std::vector<std::int64_t> where_;
    bool *nan_;
    std::vector<int> place_, used_;
};

}  // namespace

void correspondence_warp(const WarpCall &call, const FrameMaps &query, const FrameMaps &keys, const FrameMaps &values,
                         const FrameMaps &bias, const WarpOutput &output) {
    const WarpKernels &kernels = warp_kernels();
    const bool softmax = call.top == 0 || call.post || call.details;
    Packed packed(call, kernels);
    // With a window a group is tiles one below the other, which see nearly the same keys; else tiles in a row.
    const int columns = (call.query_width + kTile - 1) / kTile, cells = call.query_height * call.query_width;
    const int all = packed.windowed() ? columns * call.query_height : (cells + kTile - 1) / kTile;
    const int size = std::min(kGroup, std::max(1, all / (4 * std::max(1, call.threads))));
    const int stacks = (call.query_height + size - 1) / size;
    const int groups = packed.windowed() ? columns * stacks : (all + size - 1) / size;
    for (int n = 0; n < call.samples; ++n) {
        packed.fill(n, keys, values, bias);
        parallel_for(groups, call.threads, [&](int number) {
            if (packed.windowed()) {
                const int x = number % columns * kTile, y = number / columns * size;
                const int rows = std::min(size, call.query_height - y), used = std::min(kTile, call.query_width - x);
                Group group(call, kernels, packed, rows, softmax);
                for (int row = 0; row < rows; ++row) group.load(row, query, n, (y + row) * call.query_width + x, used);
                group.run();
                group.finish(n, output);
            } else {
                const int first = number * size, tiles = std::min(size, all - first);
                Group group(call, kernels, packed, tiles, softmax);
                group.load(0, query, n, first * kTile, std::min(tiles * kTile, cells - first * kTile));
                group.run();
                group.finish(n, output);
            }
        });
    }
}

}  // namespace siamfast
