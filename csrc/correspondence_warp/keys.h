// One sample's keys in panels, with their values and bias in the same order.
#pragma once

#include <cstdint>
#include <vector>

#include "correspondence_warp/kernels.h"
#include "correspondence_warp/warp.h"

namespace siamfast {

// In rows of whole panels: with a window a row of the image, else all keys are one row.
class PackedKeys {
  public:
    // Panels have room for `depth` channels, those beyond call.channels are 0.
    PackedKeys(const WarpCall &call, const WarpKernels &kernels, int depth);

    void fill(int n, const FrameMaps &keys, const FrameMaps &values, const FrameMaps &bias);

    WarpKeys keys() const;
    // Where a key is among those that fill up rows too; callers number keys without them.
    std::ptrdiff_t place(std::int64_t key) const {
        return static_cast<std::ptrdiff_t>(key / length_ * panels_ * kernels_.lanes + key % length_);
    }
    bool windowed() const { return windowed_; }
    int rows() const { return rows_; }
    int panels() const { return panels_; }                    // of a row
    std::int64_t length() const { return length_; }           // keys of a row
    const float *factors() const { return factors_.data(); }  // of each: what normalising multiplied it by
    std::ptrdiff_t padded() const { return padded_; }         // keys with those that fill up rows
    float value(int k, std::int64_t key) const { return values_[static_cast<std::size_t>(k * padded_ + place(key))]; }

  private:
    const WarpCall &call_;
    const WarpKernels &kernels_;
    bool windowed_;
    std::int64_t length_;
    int rows_, panels_, depth_;
    std::ptrdiff_t padded_;
    std::vector<float> features_, values_, bias_, factors_;
};

}  // namespace siamfast
