// The inner loops of the correspondence warp: packing, scores of a tile of queries, their running softmax and top k.
#pragma once

#include <cstddef>
#include <cstdint>

namespace siamfast {

constexpr int kTile = 12;  // queries of a tile: that many sums, and what they need, fit the registers everywhere
constexpr int kGroup = 8;  // tiles that meet a chunk of keys while it is in the cache
constexpr int kQueries = kTile * kGroup;

// Keys in panels of `lanes` keys, [channel][lane]; values and bias in the same order, [channel][key]. Keys of a row of
// panels follow one another; the last panel of a row is filled up with keys that nobody sees.
struct WarpKeys {
    const float *panels, *values, *bias;  // bias may be null
    int channels, value_channels;
    std::ptrdiff_t size;    // floats of a panel: channels, or more where a loop takes several at once, times lanes
    std::ptrdiff_t padded;  // keys with those that fill up rows: the step from one channel of values to the next
};

// What one pass over some keys of one row leaves of a tile's queries. Sums are lane by lane until the end.
struct WarpState {
    float *largest;       // [kTile] the largest logit so far, -inf before the first
    float *sum;           // [kTile][lanes] of exp(logit - largest)
    float *mean;          // [kTile][lanes] of exp(logit - largest) * (logit - largest)
    float *values;        // [kTile][value_channels][lanes] of exp(logit - largest) * value
    float *best;          // [kTile][top] the largest logits, falling; -inf where there are none yet
    std::int64_t *where;  // [kTile][top] their keys
    bool *nan;            // [kTile] whether a logit was none
    int top;
    bool softmax;  // whether sums are wanted beside the top
};

// Keys [begin, end) of a row, in whole panels, and which of them each query sees: [first[m], last[m]] of the row.
struct WarpRun {
    std::ptrdiff_t panel;     // number of the first panel
    int count;                // panels
    std::int64_t key;         // number of the first panel's first key, as callers number keys
    int begin;                // its place in the row
    const int *first, *last;  // [kTile]
};

// What the slope of a logit is made of, for a tile: weight * (sum_k slope_k value_k - base - by_entropy * (log weight +
// entropy)), where weight is exp(logit - lse).
struct WarpSlopes {
    const float *lse, *base, *by_entropy, *entropy;  // [kTile]
    const float *by_values;                          // [value_channels][kTile]
    float *values, *bias;                            // sums over queries: [channel][key] as WarpKeys' values, [key]
    bool any_entropy;
};

struct WarpKernels {
    int lanes;
    // Every key of the panel to length 1; a zero key stays. factors: [lanes] what they were multiplied by.
    void (*normalize)(float *panel, int channels, float *factors);
    // The slopes of a normalized panel, to those of what it was.
    void (*denormalize)(const float *panel, int channels, const float *factors, float *slopes);
    // room: [kTile][count * lanes] floats.
    void (*attend)(const WarpKeys &keys, const float *queries, int used, const WarpRun &run, const WarpState &state,
                   float *room);
    float (*add_lanes)(const float *lanes);
    // slopes: [kTile][step], the slopes of the run's logits; rows of queries that are not used become 0.
    void (*slopes)(const WarpKeys &keys, const float *queries, int used, const WarpRun &run, const WarpSlopes &of,
                   float *slopes, std::ptrdiff_t step);
    // turned [key][kQueries] of slopes [query][step], for `used` queries filled up to whole registers, `count` keys.
    void (*turn)(const float *slopes, std::ptrdiff_t step, int used, int count, float *turned);
    // dq [channel][kQueries] += sum over the run's keys of key [channel] * slopes; turned: [key][kQueries] slopes.
    // Channels in kTile steps: panels and dq have room for those.
    void (*to_queries)(const WarpKeys &keys, const WarpRun &run, const float *turned, int used, float *dq);
    // Panels of dk += sum over `used` queries of query [channel][kQueries] * slopes [query][step].
    void (*to_keys)(const WarpKeys &keys, const WarpRun &run, const float *queries, const float *slopes,
                    std::ptrdiff_t step, int used, float *dk);
    // Over `count` numbers, a multiple of lanes: the sum of a * b; to += factor * a.
    float (*dot)(const float *a, const float *b, int count);
    void (*add_scaled)(const float *a, float factor, int count, float *to);
};

// Of the instruction set that isa.h chooses; throws as `chosen_isa` does.
const WarpKernels &warp_kernels();

}  // namespace siamfast
