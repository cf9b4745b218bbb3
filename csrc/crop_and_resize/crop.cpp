// Crop and resize: rows of the image as numbers (`RowReader`), mixed along both axes. uint8 images are mixed in 16-bit
// fixed point, 1/128 of a grey level, twice as many at once as floats; all else in float.
#include "crop_and_resize/crop.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "common/parallel.h"
#include "crop_and_resize/axis.h"

namespace siamfast {
namespace {

// Too little work is not worth waking threads: a tracker's crop takes .2 ms on one, and 3.9 on two beside a busy
// process.
constexpr std::int64_t kWorthThreads = 1 << 15;  // output cells
constexpr std::int64_t kWorthSumming = 1 << 16;  // pixels
constexpr int kRowsAhead = 4;

// A grey level or a weight as the loops take it: itself, or in fixed point.
template <class Number>
Number level(float value) {
    return std::is_same<Number, float>::value ? static_cast<Number>(value)
                                              : static_cast<Number>(std::lround(value * kFixedLevel));
}
template <class Number>
Number share(float weight) {  // of the second tap; 1 is out of fixed point's range by 1/32768
    return std::is_same<Number, float>::value ? static_cast<Number>(weight)
                                              : static_cast<Number>(std::min(std::lround(weight * 32768.0f), 32767L));
}

// Rows of the window, interleaved, in the order of the column axis' `source`.
template <class Number>
class RowReader {
  public:
    RowReader(const RowLoops<Number> &kernels, const Image &image, const Axis &columns, const std::vector<float> &fill)
        : kernels_(kernels), image_(image), columns_(columns) {
        ink_.reserve(columns.source.size() * fill.size());
        for (std::size_t k = 0; k < columns.source.size(); ++k)
            for (const float value : fill) ink_.push_back(level<Number>(value));
        for (std::int64_t index : columns.source) wanted_.push_back(static_cast<int>(std::max<std::int64_t>(index, 0)));
    }

    void read(std::int64_t row, Number *out) const {
        const int count = static_cast<int>(columns_.source.size());
        if (row < 0) return fill(0, count, out);
        const char *from = image_.data + row * image_.step_y;
        const int end = columns_.before + columns_.inside;
        edge(from, 0, columns_.before, out);
        if (columns_.inside > 0)
            kernels_.load(image_.dtype, from + columns_.first * image_.step_x, image_.step_x, image_.step_c,
                          columns_.inside, image_.channels, out + columns_.before * image_.channels);
        edge(from, end, count, out);
        if (row + kRowsAhead < image_.height) fetch(from + kRowsAhead * image_.step_y);
    }

  private:
    // A row of the window is a few lines of a frame that lies in memory: too short for the processor to see a stream.
    void fetch(const char *from) const {
        const std::ptrdiff_t run = columns_.inside * image_.step_x;
        if (run <= 0 || run > columns_.inside * 16) return;
        for (std::ptrdiff_t k = 0; k < run; k += 64) __builtin_prefetch(from + columns_.first * image_.step_x + k);
    }

    // Columns [begin, end) one by one: fills, repeats, or the scattered pixels of a compacted axis.
    void edge(const char *from, int begin, int end, Number *out) const {
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

    void fill(int begin, int end, Number *out) const {
        std::copy(ink_.begin() + begin * image_.channels, ink_.begin() + end * image_.channels,
                  out + begin * image_.channels);
    }

    const RowLoops<Number> &kernels_;
    const Image &image_;
    const Axis &columns_;
    std::vector<Number> ink_;  // a row of nothing but the fill
    std::vector<int> wanted_;
};

constexpr int kSlack = 8;  // numbers that the pixel loops may touch behind a row

// What a task works on: output rows [begin, end) of one window.
struct Part {
    const Image &image;
    const Axis &columns, &rows;
    const std::vector<float> &fill;
    const Output &output;
    char *target;
    int begin, end;

    std::size_t wide() const { return columns.source.size() * static_cast<std::size_t>(image.channels) + kSlack; }
    // The first tap of each column, as a number of a row.
    std::vector<int> places() const {
        std::vector<int> found;
        for (const int start : columns.start) found.push_back(start * image.channels);
        return found;
    }
    std::size_t narrow() const {
        return static_cast<std::size_t>(output.width) * static_cast<std::size_t>(image.channels) + kSlack;
    }
};

// Two taps along both axes: rows are mixed first, while they are wide, then one row's columns.
template <class Number>
void bilinear_rows(const RowLoops<Number> &kernels, const Part &part) {
    const RowReader<Number> reader(kernels, part.image, part.columns, part.fill);
    const Output &output = part.output;
    const int channels = part.image.channels, length = static_cast<int>(part.wide()) - kSlack;
    // The row last read for each tap: neighbouring output rows share theirs.
    std::vector<Number> cache[2] = {std::vector<Number>(part.wide()), std::vector<Number>(part.wide())};
    std::int64_t held[2] = {-2, -2};  // -1 is the fill
    std::vector<Number> mixed(part.wide()), result(part.narrow()), weights;
    for (const float weight : part.columns.weights) weights.insert(weights.end(), kCopies, share<Number>(weight));
    const std::vector<int> places = part.places();

    const auto row_of = [&](int position) -> const Number * {
        const std::int64_t index = part.rows.source[static_cast<std::size_t>(position)];
        // By position, so that the taps of one output row never fall on one another.
        const std::size_t slot = static_cast<std::size_t>(position) % 2;
        if (held[slot] != index) {
            held[slot] = index;
            reader.read(index, cache[slot].data());
        }
        return cache[slot].data();
    };
    for (int y = part.begin; y < part.end; ++y) {
        const int start = part.rows.start[static_cast<std::size_t>(y)];
        const Number *upper = row_of(start);
        kernels.blend(upper, row_of(start + 1), share<Number>(part.rows.weights[static_cast<std::size_t>(y)]), length,
                      mixed.data());
        kernels.lerp_columns(mixed.data(), places.data(), weights.data(), output.width, channels, result.data());
        kernels.store(part.image.dtype, result.data(), output.width, channels, part.target + y * output.step_y,
                      output.step_x, output.step_c);
    }
}

// More taps along an axis or both: source rows are filtered along x once each, then along y, weighted by what they are.
void filtered_rows(const RowKernels &kernels, const Part &part) {
    const RowReader<float> reader(kernels.exact, part.image, part.columns, part.fill);
    const Axis &columns = part.columns, &rows = part.rows;
    const Output &output = part.output;
    const int channels = part.image.channels, length = static_cast<int>(part.narrow()) - kSlack;
    const std::size_t kept = static_cast<std::size_t>(rows.taps);
    std::vector<std::vector<float>> cache(kept, std::vector<float>(part.narrow()));
    std::vector<std::int64_t> held(kept, -2);
    std::vector<float> wide(part.wide()), result(part.narrow()), weights;
    const std::vector<int> places = part.places();
    if (columns.taps == 2)
        for (const float weight : columns.weights) weights.insert(weights.end(), kCopies, weight);

    const auto row_of = [&](int position) -> const float * {
        const std::int64_t index = rows.source[static_cast<std::size_t>(position)];
        const std::size_t slot = static_cast<std::size_t>(position) % kept;
        if (held[slot] != index) {
            held[slot] = index;
            reader.read(index, wide.data());
            if (columns.taps == 2)
                kernels.exact.lerp_columns(wide.data(), places.data(), weights.data(), output.width, channels,
                                           cache[slot].data());
            else
                kernels.filter_columns(wide.data(), columns.start.data(), columns.weights.data(), columns.taps,
                                       output.width, channels, cache[slot].data());
        }
        return cache[slot].data();
    };
    for (int y = part.begin; y < part.end; ++y) {
        const int start = rows.start[static_cast<std::size_t>(y)];
        if (rows.taps == 2) {
            const float *upper = row_of(start);
            kernels.exact.blend(upper, row_of(start + 1), rows.weights[static_cast<std::size_t>(y)], length,
                                result.data());
        } else {
            std::fill(result.begin(), result.end(), 0.0f);
            for (int k = 0; k < rows.taps; ++k) {
                const float weight = rows.weights[static_cast<std::size_t>(y * rows.taps + k)];
                if (weight != 0.0f) kernels.accumulate(row_of(start + k), weight, length, result.data());
            }
        }
        kernels.exact.store(part.image.dtype, result.data(), output.width, channels, part.target + y * output.step_y,
                            output.step_x, output.step_c);
    }
}

void resize_rows(const RowKernels &kernels, const Part &part) {
    if (part.columns.taps != 2 || part.rows.taps != 2) return filtered_rows(kernels, part);
    const auto byte = [](float value) { return value >= 0.0f && value <= 255.0f; };
    if (part.image.dtype == Dtype::u8 && std::all_of(part.fill.begin(), part.fill.end(), byte))
        return bilinear_rows(kernels.fixed, part);
    bilinear_rows(kernels.exact, part);
}

// Planes are read and written one at a time where pixels are not interleaved: their loops then run along memory.
bool interleaved(const Image &image) {
    const std::ptrdiff_t step = image.step_c < 0 ? -image.step_c : image.step_c;
    return image.channels <= 4 && step <= dtype_size(image.dtype);
}

}  // namespace

void crop_and_resize(const Image &image, const std::vector<Window> &windows, const std::vector<double> &fill,
                     const Output &output, const CropOptions &options) {
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
    // Chunks of rows, so that one window alone also uses all threads.
    const std::int64_t cells = static_cast<std::int64_t>(count) * output.height * output.width;
    const int threads = cells < kWorthThreads ? 1 : std::max(1, options.threads);
    const int chunks = std::min(output.height, std::max(1, (2 * threads + count - 1) / count));
    const int used = threads == 1 ? 1 : chunks;
    const std::vector<float> levels(fill.begin(), fill.end());

    parallel_for(count * planes * used, threads, [&](int task) {
        const int chunk = task % used, plane = task / used % planes, m = task / used / planes;
        Image part = image;
        std::vector<float> colors = levels;
        char *target = output.data + m * output.step_m;
        if (!together) {
            part.channels = 1;
            part.data += plane * image.step_c;
            target += plane * output.step_c;
            colors.assign(1, levels[static_cast<std::size_t>(plane)]);
        }
        const auto bound = [&](int k) { return static_cast<int>(static_cast<std::int64_t>(output.height) * k / used); };
        const std::size_t window = static_cast<std::size_t>(m);
        resize_rows(kernels,
                    {part, columns[window], rows[window], colors, output, target, bound(chunk), bound(chunk + 1)});
    });
}

std::vector<std::uint64_t> channel_sums(const Image &image, int threads) {
    const RowKernels &kernels = row_kernels();
    const std::size_t channels = static_cast<std::size_t>(image.channels);
    const int used = image.height * image.width < kWorthSumming ? 1 : std::max(1, threads);
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
