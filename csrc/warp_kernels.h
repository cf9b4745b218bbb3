// The inner loops of the correspondence warp: packing, scores of a tile of queries, their running softmax and top k.
#pragma once

#include <cstddef>
#include <cstdint>

namespace siamfast {

constexpr int kTile = 12;  // queries of a tile: that many sums, and what they need, fit the registers everywhere

// Keys in panels of `lanes` keys, [channel][lane]; values and bias in the same order, [channel][key]. Keys of a row of
// panels follow one another; the last panel of a row is filled up with keys that nobody sees.
struct WarpKeys {
    const float *panels, *values, *bias;  // bias may be null
    int channels, value_channels;
    std::ptrdiff_t padded;  // keys with those that fill up rows: the step from one channel of values to the next
};

// What one pass over some keys of one row leaves of a tile's queries. Sums are lane by lane until the end.
struct WarpState {
    float *largest;  // [kTile] the largest logit so far, -inf before the first
    float *sum;      // [kTile][lanes] of exp(logit - largest)
    float *mean;     // [kTile][lanes] of exp(logit - largest) * (logit - largest)
    float *values;   // [kTile][value_channels][lanes] of exp(logit - largest) * value
    float *best;     // [kTile][top] the largest logits, falling; -inf where there are none yet
    std::int64_t *where;  // [kTile][top] their keys
    bool *nan;            // [kTile] whether a logit was none
    int top;
    bool softmax;  // whether sums are wanted beside the top
};

// Keys [begin, end) of a row, in whole panels, and which of them each query sees: [first[m], last[m]] of the row.
struct WarpRun {
    std::ptrdiff_t panel;    // number of the first panel
    int count;               // panels
    std::int64_t key;        // number of the first panel's first key, as callers number keys
    int begin;               // its place in the row
    const int *first, *last; // [kTile]
};

struct WarpKernels {
    int lanes;
    // Every key of the panel to length 1; a zero key stays.
    void (*normalise)(float *panel, int channels);
    // room: [kTile][count * lanes] floats.
    void (*attend)(const WarpKeys &keys, const float *queries, int used, const WarpRun &run, const WarpState &state,
                   float *room);
    float (*add_lanes)(const float *lanes);
};

// Of the instruction set that isa.h chooses; throws as `chosen_isa` does.
const WarpKernels &warp_kernels();

}  // namespace siamfast
