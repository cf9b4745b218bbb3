// Tiles of queries: packing, windows, and the order in which they meet keys.
#include "correspondence_warp/queries.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace siamfast {
namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

int columns_of(const WarpCall &call) { return (call.query_width + kTile - 1) / kTile; }

// A query's place along one axis, in cells of the keys' grid.
double place_of(int cell, int queries, int keys) { return (cell + 0.5) * keys / queries - 0.5; }

bool seen(const WarpCall &call, double dy, double dx) {
    return call.circle ? dy * dy + dx * dx < call.radius * call.radius : dy <= call.radius && dx <= call.radius;
}

// The keys of a row that a query at `center` sees, `dy` rows away.
void interval(const WarpCall &call, double center, double dy, int *first, int *last) {
    const double radius = call.radius, far = call.key_width;
    const double reach = call.circle ? std::sqrt(std::max(radius * radius - dy * dy, 0.0)) : radius;
    // A cell more on either side, and then the rule itself: roundings of the root decide nothing.
    *first = static_cast<int>(std::min(std::max(std::floor(center - reach) - 1, 0.0), far));
    *last = static_cast<int>(std::max(std::min(std::ceil(center + reach) + 1, far - 1), -1.0));
    while (*first <= *last && !seen(call, dy, std::abs(*first - center))) ++*first;
    while (*first <= *last && !seen(call, dy, std::abs(*last - center))) --*last;
}

}  // namespace

bool in_window(const WarpCall &call, int row, int column, int y, int x) {
    return seen(call, std::abs(y - place_of(row, call.query_height, call.key_height)),
                std::abs(x - place_of(column, call.query_width, call.key_width)));
}

QueryGroup::QueryGroup(const WarpCall &call, const PackedKeys &packed, const WarpKernels &kernels, int depth)
    : call_(call),
      packed_(packed),
      kernels_(kernels),
      depth_(depth),
      tiles_(size(tiles_of(call, packed) * kTile) * size(call.channels)),
      plain_(size(kQueries) * size(depth)),
      factors_(size(kQueries)),
      place_(size(kQueries)) {}

int QueryGroup::tiles_of(const WarpCall &call, const PackedKeys &packed) {
    const int cells = call.query_height * call.query_width;
    const int all = packed.windowed() ? columns_of(call) * call.query_height : (cells + kTile - 1) / kTile;
    return std::min(kGroup, std::max(1, all / (4 * std::max(1, call.threads))));
}

int QueryGroup::count(const WarpCall &call, const PackedKeys &packed) {
    const int tiles = tiles_of(call, packed), cells = call.query_height * call.query_width;
    if (packed.windowed()) return columns_of(call) * ((call.query_height + tiles - 1) / tiles);
    return (cells + tiles * kTile - 1) / (tiles * kTile);
}

void QueryGroup::load(int number, int n, const FrameMaps &query) {
    const int tiles = tiles_of(call_, packed_), cells = call_.query_height * call_.query_width;
    std::fill(tiles_.begin(), tiles_.end(), 0.0f);
    if (packed_.windowed()) {
        const int x = number % columns_of(call_) * kTile, y = number / columns_of(call_) * tiles;
        used_.assign(size(std::min(tiles, call_.query_height - y)), 0);
        for (int row = 0; row < static_cast<int>(used_.size()); ++row)
            take(row, query, n, (y + row) * call_.query_width + x, std::min(kTile, call_.query_width - x));
    } else {
        const int begin = number * tiles * kTile, count = std::min(tiles * kTile, cells - begin);
        used_.assign(size((count + kTile - 1) / kTile), 0);
        take(0, query, n, begin, count);
    }
    if (depth_ == 0) return;
    std::fill(plain_.begin(), plain_.end(), 0.0f);
    for (int k = 0; k < this->tiles(); ++k)
        for (int c = 0; c < call_.channels; ++c)
            std::copy_n(tile(k) + c * kTile, kTile, plain_.begin() + c * kQueries + k * kTile);
}

// Tiles from `number` on are of `count` queries from `begin` on.
void QueryGroup::take(int number, const FrameMaps &query, int n, int begin, int count) {
    float *const to = tiles_.data() + static_cast<std::ptrdiff_t>(number) * kTile * call_.channels;
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
    for (int tile = number; tile * kTile < number * kTile + count; ++tile) scale(tile);
}

// A tile's queries to length 1 and divided by the temperature.
void QueryGroup::scale(int number) {
    float *const tile = tiles_.data() + static_cast<std::ptrdiff_t>(number) * kTile * call_.channels;
    float *const factors = factors_.data() + number * kTile;
    float squares[kTile] = {};
    for (int c = 0; c < call_.channels; ++c)
        for (int m = 0; m < kTile; ++m) squares[m] += tile[c * kTile + m] * tile[c * kTile + m];
    for (int m = 0; m < kTile; ++m) {
        const float norm = std::sqrt(squares[m]), length = norm < 1e-12f ? 1e-12f : norm;
        factors[m] = (call_.normalize ? 1.0f / length : 1.0f) / call_.temperature;
    }
    for (int c = 0; c < call_.channels; ++c)
        for (int m = 0; m < kTile; ++m) tile[c * kTile + m] *= factors[m];
}

void QueryGroup::window(int k, int row, int *first, int *last) const {
    const int query = place_[size(k)], y = query / call_.query_width, x = query % call_.query_width;
    const double cy = place_of(y, call_.query_height, call_.key_height);
    const double cx = place_of(x, call_.query_width, call_.key_width);
    interval(call_, cx, std::abs(row % call_.key_height - cy), first, last);
}

void QueryGroup::walk(int most, const Meet &meet, const Met &met) const {
    const int queries = tiles() * kTile, lanes = kernels_.lanes;
    std::vector<int> first(size(queries)), last(size(queries));
    for (int row = 0; row < packed_.rows(); ++row) {
        const bool bounded = packed_.windowed() && !call_.exempt[size(row / call_.key_height)];
        int low = std::numeric_limits<int>::max(), high = -1;
        for (int k = 0; k < queries; ++k) {
            int *const from = &first[size(k)], *const to = &last[size(k)];
            *from = 0;
            *to = k % kTile < used(k / kTile) ? static_cast<int>(packed_.length()) - 1 : -1;
            if (*to >= 0 && bounded) window(k, row, from, to);
            if (*from > *to) continue;
            low = std::min(low, *from);
            high = std::max(high, *to);
        }
        const int end = high / lanes + 1;
        for (int panel = high < 0 ? end : low / lanes; panel < end; panel += most) {
            const int count = std::min(most, end - panel);
            WarpRun run{static_cast<std::ptrdiff_t>(row) * packed_.panels() + panel,
                        count,
                        row * packed_.length() + std::int64_t{panel} * lanes,
                        panel * lanes,
                        nullptr,
                        nullptr};
            bool any = false;
            for (int tile = 0; tile < tiles(); ++tile) {
                run.first = first.data() + tile * kTile;
                run.last = last.data() + tile * kTile;
                bool seen = false;
                for (int m = 0; m < used(tile); ++m)
                    seen |= run.first[m] <= run.last[m] && run.first[m] < (panel + count) * lanes &&
                            run.last[m] >= panel * lanes;
                if (seen) meet(tile, run);
                any |= seen;
            }
            if (any && met) met(run);
        }
    }
}

}  // namespace siamfast
