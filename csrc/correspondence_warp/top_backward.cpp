// The warp backward of the top k: products with the chosen keys alone, O(queries * k * channels).
#include <algorithm>
#include <cmath>
#include <vector>

#include "common/parallel.h"
#include "correspondence_warp/kernels.h"
#include "correspondence_warp/queries.h"
#include "correspondence_warp/warp.h"

namespace siamfast {
namespace {

std::size_t size(std::ptrdiff_t count) { return static_cast<std::size_t>(count); }

// Feature vectors side by side, [cell][step]: to length 1 and multiplied by `scale`, and what each was multiplied by.
struct Vectors {
    int cells, channels;
    std::ptrdiff_t step;  // channels and zeros up to whole registers
    std::vector<float> numbers, factors;

    Vectors(int cells_, int channels_, int lanes)
        : cells(cells_),
          channels(channels_),
          step((channels_ + lanes - 1) / lanes * lanes),
          numbers(size(cells_ * step)),
          factors(size(cells_)) {}
    float *at(std::int64_t cell) { return numbers.data() + cell * step; }
    const float *at(std::int64_t cell) const { return numbers.data() + cell * step; }
    int count() const { return static_cast<int>(step); }

    void fill(const FrameMaps &maps, int n, int frames, int height, int width, bool unit, float scale,
              const WarpKernels &kernels, int threads) {
        parallel_for(frames * height, threads, [&](int line) {
            const char *const from =
                maps.data + n * maps.step_n + line / height * maps.step_t + line % height * maps.step_y;
            std::vector<float> read(size(std::ptrdiff_t{channels} * width));
            for (int c = 0; c < channels; ++c)
                row_kernels().exact.load(maps.dtype, from + c * maps.step_c, maps.step_x, maps.step_x, width, 1,
                                         read.data() + std::ptrdiff_t{c} * width);
            for (int x = 0; x < width; ++x) {
                const std::int64_t cell = std::int64_t{line} * width + x;
                float *const to = at(cell);
                for (int c = 0; c < channels; ++c) to[c] = read[size(std::ptrdiff_t{c} * width + x)];
                const float length = std::sqrt(kernels.dot(to, to, count()));
                const float factor = scale * (unit ? 1.0f / (length < 1e-12f ? 1e-12f : length) : 1.0f);
                for (int c = 0; c < channels; ++c) to[c] *= factor;
                factors[size(cell)] = factor;
            }
        });
    }

    // Slopes of the vectors to those of what they were: only what is across a vector changes it once it has length 1.
    void undo(std::int64_t cell, float *slopes, bool unit, float scale, const WarpKernels &kernels) const {
        const float *const vector = at(cell);
        if (unit) {
            const float length = kernels.dot(vector, vector, count()) / (scale * scale);
            if (length > 0.5f)
                kernels.add_scaled(vector, -kernels.dot(vector, slopes, count()) / (scale * scale), count(), slopes);
        }
        for (int c = 0; c < channels; ++c) slopes[c] *= factors[size(cell)];
    }
};

// Slopes [cell][step] to maps of one channel after another.
void give(const Vectors &of, const std::vector<float> &slopes, int first, int count, std::ptrdiff_t plane, float *to) {
    for (int c = 0; c < of.channels; ++c)
        for (int k = 0; k < count; ++k) to[c * plane + k] = slopes[size((first + k) * of.step + c)];
}

class TopGradient {
  public:
    TopGradient(const WarpCall &call, const WarpKernels &kernels, const FrameMaps &values, const FrameMaps &bias,
                const WarpGiven &given, const WarpGradients &gradients)
        : call_(call),
          kernels_(kernels),
          values_(values),
          bias_(bias),
          given_(given),
          gradients_(gradients),
          cells_(call.query_height * call.query_width),
          plane_(call.key_height * call.key_width),
          queries_(cells_, call.channels, kernels.lanes),
          keys_(call.frames * plane_, call.channels, kernels.lanes),
          weights_(size(std::ptrdiff_t{cells_} * call.top)),
          slopes_(weights_.size()),
          where_(weights_.size()),
          table_(size(std::ptrdiff_t{keys_.cells} * (call.value_channels + 1))) {}

    void run(int n, const FrameMaps &query, const FrameMaps &keys) {
        const float scale = 1.0f / call_.temperature;
        queries_.fill(query, n, 1, call_.query_height, call_.query_width, call_.normalize, scale, kernels_,
                      call_.threads);
        keys_.fill(keys, n, call_.frames, call_.key_height, call_.key_width, call_.normalize, 1.0f, kernels_,
                   call_.threads);
        for (int c = 0; c < call_.value_channels; ++c)
            read(values_, n, c, table_.data() + std::ptrdiff_t{c} * keys_.cells);
        if (bias_.data != nullptr)
            read(bias_, n, 0, table_.data() + std::ptrdiff_t{call_.value_channels} * keys_.cells);
        std::vector<float> dq(size(cells_ * queries_.step)), dk(size(keys_.cells * keys_.step));
        parallel_for(cells_, call_.threads, [&](int cell) {
            weigh(n, cell);
            float *const to = dq.data() + cell * queries_.step;
            for (int i = 0; i < call_.top; ++i)
                if (slope(cell, i) != 0.0f)
                    kernels_.add_scaled(keys_.at(key(cell, i)), slope(cell, i), keys_.count(), to);
            queries_.undo(cell, to, call_.normalize, scale, kernels_);
        });
        // Queries add to the keys in their order, each task to some of the channels: nobody else adds to those.
        const int parts = std::max(1, std::min(call_.threads, static_cast<int>(keys_.step) / kernels_.lanes));
        parallel_for(parts, call_.threads, [&](int part) {
            const int blocks = static_cast<int>(keys_.step) / kernels_.lanes;
            const int begin = blocks * part / parts * kernels_.lanes,
                      end = blocks * (part + 1) / parts * kernels_.lanes;
            for (int cell = 0; cell < cells_; ++cell)
                for (int i = 0; i < call_.top; ++i)
                    if (slope(cell, i) != 0.0f)
                        kernels_.add_scaled(queries_.at(cell) + begin, slope(cell, i), end - begin,
                                            dk.data() + key(cell, i) * keys_.step + begin);
        });
        parallel_for(keys_.cells, call_.threads, [&](int cell) {
            keys_.undo(cell, dk.data() + cell * keys_.step, call_.normalize, 1.0f, kernels_);
        });
        const std::ptrdiff_t maps = call_.channels;
        parallel_for(call_.query_height, call_.threads, [&](int y) {
            const int first = y * call_.query_width;
            give(queries_, dq, first, call_.query_width, cells_, gradients_.query + n * maps * cells_ + first);
        });
        parallel_for(call_.frames * call_.key_height, call_.threads, [&](int line) {
            const int t = line / call_.key_height, at = line % call_.key_height * call_.key_width;
            give(keys_, dk, line * call_.key_width, call_.key_width, plane_,
                 gradients_.keys + (std::ptrdiff_t{n} * call_.frames + t) * maps * plane_ + at);
        });
        values_and_bias(n);
    }

  private:
    float slope(int cell, int i) const { return slopes_[size(std::ptrdiff_t{cell} * call_.top + i)]; }
    std::int64_t key(int cell, int i) const { return where_[size(std::ptrdiff_t{cell} * call_.top + i)]; }
    float value(int c, std::int64_t key) const { return table_[size(std::ptrdiff_t{c} * keys_.cells + key)]; }

    void read(const FrameMaps &maps, int n, int c, float *to) const {
        for (int line = 0; line < call_.frames * call_.key_height; ++line)
            row_kernels().exact.load(maps.dtype,
                                     maps.data + n * maps.step_n + line / call_.key_height * maps.step_t +
                                         c * maps.step_c + line % call_.key_height * maps.step_y,
                                     maps.step_x, maps.step_x, call_.key_width, 1,
                                     to + std::ptrdiff_t{line} * call_.key_width);
    }

    bool sees(int cell, std::int64_t key) const {
        const int t = static_cast<int>(key / plane_), at = static_cast<int>(key % plane_);
        if (call_.radius < 0 || call_.exempt[size(t)]) return true;
        return in_window(call_, cell / call_.query_width, cell % call_.query_width, at / call_.key_width,
                         at % call_.key_width);
    }

    // The chosen keys' weights, and the slopes of their logits.
    void weigh(int n, int cell) {
        const std::ptrdiff_t at = std::ptrdiff_t{n} * cells_ + cell, first = std::ptrdiff_t{cell} * call_.top;
        double most = -INFINITY, sum = 0.0, along = 0.0;
        std::vector<double> logits(size(call_.top), -INFINITY);
        for (int i = 0; i < call_.top; ++i) {
            const std::int64_t chosen = given_.indices[(std::ptrdiff_t{n} * call_.top + i) * cells_ + cell];
            where_[size(first + i)] = chosen;
            if (!sees(cell, chosen)) continue;
            logits[size(i)] = static_cast<double>(kernels_.dot(queries_.at(cell), keys_.at(chosen), keys_.count())) +
                              static_cast<double>(value(call_.value_channels, chosen));
            most = std::max(most, logits[size(i)]);
        }
        for (const double logit : logits) sum += std::exp(logit - most);
        for (int c = 0; c < call_.value_channels; ++c)
            along += by_value(n, c, cell) * static_cast<double>(out(n, c, cell));
        const double confidence =
            static_cast<double>(given_.by_confidence[at]) * static_cast<double>(given_.confidence[at]);
        const double by_entropy = static_cast<double>(given_.by_entropy[at]),
                     entropy = static_cast<double>(given_.entropy[at]);
        for (int i = 0; i < call_.top; ++i) {
            const double weight = std::exp(logits[size(i)] - most) / sum;
            double pull = -along - confidence;
            for (int c = 0; c < call_.value_channels; ++c)
                pull += by_value(n, c, cell) * static_cast<double>(value(c, where_[size(first + i)]));
            if (by_entropy != 0.0 && weight > 0.0) pull -= by_entropy * (std::log(weight) + entropy);
            weights_[size(first + i)] = static_cast<float>(weight);
            slopes_[size(first + i)] =
                static_cast<float>((weight > 0.0 ? weight * pull : 0.0) + (i == 0 ? confidence : 0.0));
        }
    }

    double by_value(int n, int c, int cell) const {
        return static_cast<double>(given_.by_values[(std::ptrdiff_t{n} * call_.value_channels + c) * cells_ + cell]);
    }
    float out(int n, int c, int cell) const {
        return given_.values[(std::ptrdiff_t{n} * call_.value_channels + c) * cells_ + cell];
    }

    void values_and_bias(int n) {
        parallel_for(call_.value_channels + 1, call_.threads, [&](int c) {
            std::vector<float> sums(size(keys_.cells));
            const bool bias = c == call_.value_channels;
            for (int cell = 0; cell < cells_; ++cell) {
                const float by = bias ? 0.0f : static_cast<float>(by_value(n, c, cell));
                for (int i = 0; i < call_.top; ++i)
                    sums[size(key(cell, i))] +=
                        bias ? slope(cell, i) : by * weights_[size(std::ptrdiff_t{cell} * call_.top + i)];
            }
            for (int t = 0; t < call_.frames; ++t) {
                const std::ptrdiff_t frame = std::ptrdiff_t{n} * call_.frames + t;
                float *const to = bias ? gradients_.bias + frame * plane_
                                       : gradients_.values + (frame * call_.value_channels + c) * plane_;
                std::copy_n(sums.begin() + std::ptrdiff_t{t} * plane_, plane_, to);
            }
        });
    }

    const WarpCall &call_;
    const WarpKernels &kernels_;
    const FrameMaps &values_, &bias_;
    const WarpGiven &given_;
    const WarpGradients &gradients_;
    int cells_, plane_;
    Vectors queries_, keys_;
    std::vector<float> weights_, slopes_;  // [query][top]
    std::vector<std::int64_t> where_;
    std::vector<float> table_;  // values, then bias: [channel][key]
};

}  // namespace

void correspondence_warp_top_backward(const WarpCall &call, const FrameMaps &query, const FrameMaps &keys,
                                      const FrameMaps &values, const FrameMaps &bias, const WarpGiven &given,
                                      const WarpGradients &gradients) {
    TopGradient gradient(call, warp_kernels(), values, bias, given, gradients);
    for (int n = 0; n < call.samples; ++n) gradient.run(n, query, keys);
}

}  // namespace siamfast
