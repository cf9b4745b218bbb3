// A group of query tiles: what a task of the warp works on, and which keys it meets.
#pragma once

#include <functional>
#include <vector>

#include "correspondence_warp/keys.h"

namespace siamfast {

// Whether a query at (row, column) sees the key at (y, x) of a frame that the window bounds.
bool in_window(const WarpCall &call, int row, int column, int y, int x);

class QueryGroup {
  public:
    QueryGroup(const WarpCall &call, const PackedKeys &packed, const WarpKernels &kernels, int depth);

    // How many groups a sample's queries make.
    static int count(const WarpCall &call, const PackedKeys &packed);

    // Group `number` of sample n. With a window its tiles are one below the other, which see nearly the same keys; else
    // they follow one another.
    void load(int number, int n, const FrameMaps &query);

    // Every chunk of keys that a tile sees, for all tiles while it is near: a chunk has at most `most` panels.
    using Meet = std::function<void(int tile, const WarpRun &run)>;
    using Met = std::function<void(const WarpRun &run)>;
    void walk(int most, const Meet &meet, const Met &met) const;

    int tiles() const { return static_cast<int>(used_.size()); }
    int used(int tile) const { return used_[static_cast<std::size_t>(tile)]; }
    // Of query k = tile * kTile + m: its number in the sample, row by row.
    int place(int k) const { return place_[static_cast<std::size_t>(k)]; }
    const float *tile(int number) const {
        return tiles_.data() + static_cast<std::ptrdiff_t>(number) * kTile * call_.channels;
    }
    // What query k was multiplied by.
    float factor(int k) const { return factors_[static_cast<std::size_t>(k)]; }
    // [depth][kQueries] of all tiles, scaled as the tiles are; 0 where there is no query or no channel.
    const float *plain() const { return plain_.data(); }

  private:
    static int tiles_of(const WarpCall &call, const PackedKeys &packed);
    void take(int number, const FrameMaps &query, int n, int begin, int count);
    void scale(int tile);
    void window(int k, int row, int *first, int *last) const;

    const WarpCall &call_;
    const PackedKeys &packed_;
    const WarpKernels &kernels_;
    int depth_;  // of `plain`; 0: it is not wanted
    std::vector<float> tiles_, plain_, factors_;
    std::vector<int> place_, used_;
};

}  // namespace siamfast
