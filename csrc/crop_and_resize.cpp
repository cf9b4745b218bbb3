// Crop and resize: where each output cell looks (`Axis`), rows of the image as floats (`RowReader`), and the two together.
#include "crop_and_resize.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"

namespace siamfast {
namespace {

// For each output cell of one axis: its first tap and the weights of `taps` taps in a row.
// Taps are positions in `source`, the list of image indices (-1: outside, the fill) that the window touches.
struct Axis {
    int taps = 2;
    std::vector<int> start;
    std::vector<float> weights;  // 2 taps: one weight a cell, that of the second tap; else `taps` weights a cell
    std::vector<std::int64_t> source;
    // `source` is `before` fills or repeats, then `inside` consecutive indices from `first`, then the rest: what a
    // reader can take in one run. A compacted axis has no run.
    int before = 0, inside = 0;
    std::int64_t first = 0;
};

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

// Rows of the window as floats, interleaved, in the order of the column axis' `source`.
class RowReader {
  public:
    RowReader(const RowKernels &kernels, const Image &image, const Axis &columns, const std::vector<float> &fill)
        : kernels_(kernels), image_(image), columns_(columns) {
        ink_.reserve(columns.source.size() * fill.size());
        for (std::size_t k = 0; k < columns.source.size(); ++k) ink_.insert(ink_.end(), fill.begin(), fill.end());
        for (std::int64_t index : columns.source) wanted_.push_back(static_cast<int>(std::max<std::int64_t>(index, 0)));
    }

    void read(std::int64_t row, float *out) const {
        const int count = static_cast<int>(columns_.source.size());
        if (row < 0) return fill(0, count, out);
        const char *from = image_.data + row * image_.step_y;
        const int end = columns_.before + columns_.inside;
        edge(from, 0, columns_.before, out);
        if (columns_.inside > 0)
            kernels_.load(image_.dtype, from + columns_.first * image_.step_x, image_.step_x, image_.step_c,
                          columns_.inside, image_.channels, out + columns_.before * image_.channels);
        edge(from, end, count, out);
    }

  private:
    // Columns [begin, end) one by one: fills, repeats, or the scattered pixels of a compacted axis.
    void edge(const char *from, int begin, int end, float *out) const {
        for (int k = begin; k < end;) {
            const bool outside = columns_.source[static_cast<std::size_t>(k)] < 0;
            int stop = k + 1;
            while (stop < end && (columns_.source[static_cast<std::size_t>(stop)] < 0) == outside) ++stop;
            if (outside)
                fill(k, stop, out);
            else
                kernels_.load_columns(image_.dtype, from, image_.step_x, image_.step_c, wanted_.data() + k, stop - k,
                                      image_.channels, out + k * image_.channels);
            k = stop;
        }
    }

    void fill(int begin, int end, float *out) const {
        std::copy(ink_.begin() + begin * image_.channels, ink_.begin() + end * image_.channels,
                  out + begin * image_.channels);
    }

    const RowKernels &kernels_;
    const Image &image_;
    const Axis &columns_;
    std::vector<float> ink_;  // a row of nothing but the fill
    std::vector<int> wanted_;
};

constexpr int kSlack = 8;  // floats that the pixel loops may touch behind a row

// Output rows [begin, end) of one window.
void resize_rows(const RowKernels &kernels, const Image &image, const Axis &columns, const Axis &rows,
                 const std::vector<float> &fill, const Output &output, char *target, int begin, int end) {
    const RowReader reader(kernels, image, columns, fill);
    const int channels = image.channels;
    const std::size_t wide = columns.source.size() * static_cast<std::size_t>(channels) + kSlack;
    const std::size_t narrow = static_cast<std::size_t>(output.width) * static_cast<std::size_t>(channels) + kSlack;
    // The row last read for each tap: neighbouring output rows share theirs.
    const std::size_t kept = static_cast<std::size_t>(rows.taps);
    std::vector<std::vector<float>> cache(kept, std::vector<float>(columns.taps == 2 ? wide : narrow));
    std::vector<std::int64_t> held(kept, -2);  // -1 is the fill
    std::vector<float> mixed(wide), result(narrow);

    const auto row_of = [&](int position) -> const float * {
        const std::int64_t index = rows.source[static_cast<std::size_t>(position)];
        // By position, so that the taps of one output row never fall on one another.
        const std::size_t slot = static_cast<std::size_t>(position) % kept;
        if (held[slot] != index) {
            held[slot] = index;
            if (columns.taps == 2) {
                reader.read(index, cache[slot].data());
            } else {  // filter along x once for each source row
                reader.read(index, mixed.data());
                kernels.filter_columns(mixed.data(), columns.start.data(), columns.weights.data(), columns.taps,
                                       output.width, channels, cache[slot].data());
            }
        }
        return cache[slot].data();
    };

    const int length = static_cast<int>(columns.taps == 2 ? wide : narrow) - kSlack;
    std::vector<float> &blended = columns.taps == 2 ? mixed : result;
    for (int y = begin; y < end; ++y) {
        const int start = rows.start[static_cast<std::size_t>(y)];
        if (rows.taps == 2) {
            const float *upper = row_of(start);
            kernels.blend(upper, row_of(start + 1), rows.weights[static_cast<std::size_t>(y)], length, blended.data());
        } else {
            std::fill(blended.begin(), blended.end(), 0.0f);
            for (int k = 0; k < rows.taps; ++k) {
                const float weight = rows.weights[static_cast<std::size_t>(y * rows.taps + k)];
                if (weight != 0.0f) kernels.accumulate(row_of(start + k), weight, length, blended.data());
            }
        }
        if (columns.taps == 2)
            kernels.lerp_columns(mixed.data(), columns.start.data(), columns.weights.data(), output.width, channels,
                                 result.data());
        kernels.store(image.dtype, result.data(), output.width, channels, target + y * output.step_y, output.step_x,
                      output.step_c);
    }
}

// Planes are read and written one at a time where pixels are not interleaved: their loops then run along memory.
bool interleaved(const Image &image) {
    const std::ptrdiff_t step = image.step_c < 0 ? -image.step_c : image.step_c;
    return image.channels <= 4 && step <= dtype_size(image.dtype);
}

}  // namespace

void crop_and_resize(const Image &image, const std::vector<Window> &windows, const Output &output,
                     const CropOptions &options) {
    const RowKernels &kernels = row_kernels();
    if (windows.empty() || output.height <= 0 || output.width <= 0 || image.channels <= 0) return;
    std::vector<Axis> columns, rows;
    for (const Window &window : windows) {
        columns.push_back(make_axis(window.x, window.width, output.width, image.width, options));
        rows.push_back(make_axis(window.y, window.height, output.height, image.height, options));
    }
    const bool together = interleaved(image);
    const int planes = together ? 1 : image.channels;
    const int count = static_cast<int>(windows.size());
    // Chunks of rows, so that one window alone also uses all threads; too little work is not worth waking them.
    const std::int64_t cells = static_cast<std::int64_t>(count) * output.height * output.width;
    const int threads = cells < 8192 ? 1 : std::max(1, options.threads);
    const int chunks = std::min(output.height, std::max(1, (2 * threads + count - 1) / count));
    const int used = threads == 1 ? 1 : chunks;
    std::vector<float> fill(options.fill.begin(), options.fill.end());

    parallel_for(count * planes * used, threads, [&](int task) {
        const int chunk = task % used, plane = task / used % planes, m = task / used / planes;
        Image part = image;
        std::vector<float> ink = fill;
        char *target = output.data + m * output.step_m;
        if (!together) {
            part.channels = 1;
            part.data += plane * image.step_c;
            target += plane * output.step_c;
            ink.assign(1, fill[static_cast<std::size_t>(plane)]);
        }
        const auto bound = [&](int k) { return static_cast<int>(static_cast<std::int64_t>(output.height) * k / used); };
        const std::size_t window = static_cast<std::size_t>(m);
        resize_rows(kernels, part, columns[window], rows[window], ink, output, target, bound(chunk), bound(chunk + 1));
    });
}

std::vector<std::uint64_t> channel_sums(const Image &image, int threads) {
    const RowKernels &kernels = row_kernels();
    const std::size_t channels = static_cast<std::size_t>(image.channels);
    const int used = image.height * image.width < 65536 ? 1 : std::max(1, threads);
    const int chunks = static_cast<int>(std::min<std::int64_t>(used, image.height));
    std::vector<std::vector<std::uint64_t>> partial(static_cast<std::size_t>(std::max(chunks, 1)),
                                                    std::vector<std::uint64_t>(channels, 0));
    parallel_for(chunks, used, [&](int chunk) {
        std::uint64_t *sums = partial[static_cast<std::size_t>(chunk)].data();
        const std::int64_t begin = image.height * chunk / chunks, end = image.height * (chunk + 1) / chunks;
        // Rows that follow one another are one long row, in runs that an int can count.
        const bool joined = image.step_y == image.width * image.step_x;
        const std::int64_t run = joined ? std::max<std::int64_t>(1, (1 << 24) / image.width) : 1;
        for (std::int64_t y = begin; y < end; y += run)
            kernels.add_bytes(reinterpret_cast<const std::uint8_t *>(image.data) + y * image.step_y, image.step_x,
                              image.step_c, static_cast<int>(image.width * std::min(run, end - y)), image.channels,
                              sums);
    });
    std::vector<std::uint64_t> total(channels, 0);
    for (const auto &sums : partial)
        for (std::size_t c = 0; c < channels; ++c) total[c] += sums[c];
    return total;
}

}  // namespace siamfast
