// The taps of a crop's cells, and the image's indices that they touch.
#include "crop_and_resize/axis.h"

#include <algorithm>
#include <cmath>

namespace siamfast {
namespace {

std::int64_t at_border(std::int64_t index, std::int64_t size, Border border) {
    if (index >= 0 && index < size) return index;
    if (border == Border::constant) return -1;
    if (border == Border::replicate || size == 1) return index < 0 ? 0 : size - 1;
    const std::int64_t period = 2 * (size - 1);
    const std::int64_t phase = ((index % period) + period) % period;
    return phase < size ? phase : period - phase;
}

// Taps as absolute image indices, before borders are looked at.
struct Tap {
    std::int64_t index;
    float weight;
};

// The two taps around `at` (an index: pixel centres are whole numbers), within [low, high].
void bilinear_taps(double at, std::int64_t low, std::int64_t high, std::vector<Tap> &taps) {
    const double clamped = std::min(std::max(at, static_cast<double>(low)), static_cast<double>(high));
    std::int64_t left = static_cast<std::int64_t>(std::floor(clamped));
    float weight = static_cast<float>(clamped - static_cast<double>(left));
    if (left >= high && high > low) {  // keep both taps inside: the second one carries all
        left = high - 1;
        weight = 1.0f;
    }
    taps.push_back({left, 1.0f - weight});
    taps.push_back({std::min(left + 1, high), weight});
}

// A triangle of half-width `reach` around `center` (an edge coordinate: pixel j spans j to j + 1), within [low, high].
void triangle_taps(double center, double reach, std::int64_t low, std::int64_t high, std::vector<Tap> &taps) {
    const std::int64_t begin = std::max(low, static_cast<std::int64_t>(std::floor(center - reach + 0.5)));
    const std::int64_t end = std::min(high + 1, static_cast<std::int64_t>(std::floor(center + reach + 0.5)));
    const std::size_t from = taps.size();
    double total = 0;
    for (std::int64_t j = begin; j < end; ++j) {
        const double weight = std::max(0.0, 1.0 - std::abs(static_cast<double>(j) + 0.5 - center) / reach);
        taps.push_back({j, static_cast<float>(weight)});
        total += weight;
    }
    for (std::size_t k = from; k < taps.size(); ++k) taps[k].weight = static_cast<float>(taps[k].weight / total);
}

}  // namespace

Axis make_axis(double corner, double side, int count, std::int64_t size, const CropOptions &options) {
    const bool pixel = options.rule == Rule::pixel;
    const bool aligned = options.rule == Rule::corner_aligned;
    const double step = aligned ? (count > 1 ? (side - 1) / (count - 1) : 0.0) : side / count;
    // Only the rule "pixel" stops at the window's own rim; the others read on.
    const std::int64_t unbounded = std::int64_t{1} << 40;
    const std::int64_t low = pixel ? static_cast<std::int64_t>(corner) : -unbounded;
    const std::int64_t high = pixel ? low + static_cast<std::int64_t>(side) - 1 : unbounded;
    const bool filtered = options.antialias && step > 1;

    std::vector<Tap> taps;
    std::vector<std::size_t> begins;
    for (int i = 0; i < count; ++i) {
        begins.push_back(taps.size());
        const double at = aligned ? corner + i * step : corner + (i + 0.5) * step - 0.5;
        if (filtered)
            triangle_taps(at + 0.5, step, low, high, taps);
        else
            bilinear_taps(at, low, high, taps);
    }
    begins.push_back(taps.size());

    Axis axis;
    const auto used_by = [&](std::size_t i) { return static_cast<int>(begins[i + 1] - begins[i]); };
    axis.taps = filtered ? 3 : 2;  // 2 means one weight a cell, below and in `resize_rows`
    for (std::size_t i = 0; filtered && i + 1 < begins.size(); ++i) axis.taps = std::max(axis.taps, used_by(i));
    std::int64_t least = taps.front().index, most = least;
    for (const Tap &tap : taps) {
        least = std::min(least, tap.index);
        most = std::max(most, tap.index);
    }
    const std::int64_t span = most - least + 1;
    // A window much wider than its output: list only the pixels that are looked at.
    const bool compact = !filtered && span > 8 * static_cast<std::int64_t>(count);
    for (std::size_t i = 0; i + 1 < begins.size(); ++i) {
        const Tap *begin = taps.data() + begins[i];
        const int used = used_by(i);
        if (compact) {
            axis.start.push_back(static_cast<int>(axis.source.size()));
            axis.source.push_back(at_border(begin[0].index, size, options.border));
            axis.source.push_back(at_border(begin[1].index, size, options.border));
        } else {
            axis.start.push_back(static_cast<int>(begin[0].index - least));
        }
        if (filtered)
            for (int k = 0; k < axis.taps; ++k) axis.weights.push_back(k < used ? begin[k].weight : 0.0f);
        else
            axis.weights.push_back(begin[1].weight);
    }
    if (!compact) {
        // The last cell's taps may run past the span: its weights there are zero, but it must be there to read.
        const std::int64_t length = span + axis.taps;
        for (std::int64_t k = 0; k < length; ++k)
            axis.source.push_back(at_border(std::min(least + k, most), size, options.border));
        const std::int64_t begin = std::max<std::int64_t>(least, 0), end = std::min<std::int64_t>(most + 1, size);
        axis.inside = static_cast<int>(std::max<std::int64_t>(end - begin, 0));
        axis.before = axis.inside ? static_cast<int>(begin - least) : 0;
        axis.first = begin;
    }
    return axis;
}

}  // namespace siamfast
