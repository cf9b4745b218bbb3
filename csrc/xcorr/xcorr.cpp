// The correlations' drivers: who works on which channels of which search, and where the blocks lie.
#include "xcorr/xcorr.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "common/parallel.h"

namespace siamfast {
namespace {

// Floats on a cache line's boundary that live as long as their thread: a call's blocks are as large as the last's.
class Scratch {
  public:
    ~Scratch() { std::free(data_); }
    float *get(std::ptrdiff_t count) {
        if (count > count_) {
            std::free(data_);
            count_ = 0;
            const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(float) + 63) / 64 * 64;
            data_ = static_cast<float *>(std::aligned_alloc(64, bytes));
            if (data_ == nullptr) throw std::bad_alloc();
            count_ = count;
        }
        return data_;
    }

  private:
    float *data_ = nullptr;
    std::ptrdiff_t count_ = 0;
};

enum Room { search_room, template_room, output_room, gradient_room };

float *scratch(Room room, std::ptrdiff_t count) {
    thread_local Scratch rooms[4];
    return rooms[room].get(count);
}

Maps moved(const Maps &maps, std::ptrdiff_t n, std::ptrdiff_t c) {
    Maps found = maps;
    found.data += n * maps.step_n + c * maps.step_c;
    return found;
}

// The channels of block `number` and how many they are.
struct Block {
    int first, count;
};

int block_count(const XcorrSizes &s, const XcorrKernels &k) { return (s.channels + k.lanes - 1) / k.lanes; }

Block block_at(int number, const XcorrSizes &s, const XcorrKernels &k) {
    const int first = number * k.lanes;
    return {first, std::min(k.lanes, s.channels - first)};
}

// A map inside a border of zeros, in `room`. height, width: of the map; the result has rows of width + 2 * pad_x.
float *padded_block(Room room, const Maps &maps, int channels, int height, int width, int pad_y, int pad_x,
                    const XcorrKernels &k) {
    const std::ptrdiff_t row = width + 2 * pad_x, total = (height + 2 * pad_y) * row * k.lanes;
    float *block = scratch(room, total);
    if (pad_y > 0 || pad_x > 0) std::memset(block, 0, static_cast<std::size_t>(total) * sizeof(float));
    k.load_block(maps, channels, height, width, block + (pad_y * row + pad_x) * k.lanes, row);
    return block;
}

// The taps in reverse order: a correlation with them is the gradient of the search.
void reverse_taps(float *z, int taps, int lanes) {
    for (int a = 0, b = taps - 1; a < b; ++a, --b) std::swap_ranges(z + a * lanes, z + (a + 1) * lanes, z + b * lanes);
}

}  // namespace

void xcorr_depthwise(const XcorrSizes &s, const Maps &z, const Maps &x, const Maps &out) {
    const XcorrKernels &k = xcorr_kernels();
    const int blocks = block_count(s, k), ho = s.out_height(), wo = s.out_width();
    parallel_for(s.searches * blocks, s.threads, [&](int task) {
        const int n = task / blocks;
        const Block part = block_at(task % blocks, s, k);
        float *taps = scratch(template_room, static_cast<std::ptrdiff_t>(s.hz) * s.wz * k.lanes);
        k.load_block(moved(z, n % s.templates, part.first), part.count, s.hz, s.wz, taps, s.wz);
        const float *search =
            padded_block(search_room, moved(x, n, part.first), part.count, s.height, s.width, s.pad_y, s.pad_x, k);
        float *found = scratch(output_room, static_cast<std::ptrdiff_t>(ho) * wo * k.lanes);
        k.correlate(search, s.width + 2 * s.pad_x, taps, s.hz, s.wz, found, wo, ho, wo, false, false);
        k.store_block(found, wo, part.count, ho, wo, moved(out, n, part.first));
    });
}

void xcorr_depthwise_backward(const XcorrSizes &s, const Maps &grad, const Maps &z, const Maps &x, const Maps &dz,
                              const Maps &dx) {
    const XcorrKernels &k = xcorr_kernels();
    const int blocks = block_count(s, k), ho = s.out_height(), wo = s.out_width(), taps_count = s.hz * s.wz;
    // A border around the gradient: as wide as a template reaches over it.
    const int rim_y = s.hz - 1, rim_x = s.wz - 1;
    parallel_for(s.templates * blocks, s.threads, [&](int task) {
        const int m = task / blocks;
        const Block part = block_at(task % blocks, s, k);
        float *taps = scratch(template_room, static_cast<std::ptrdiff_t>(2) * taps_count * k.lanes);
        float *sums = taps + taps_count * k.lanes;
        std::fill(sums, sums + taps_count * k.lanes, 0.0f);
        k.load_block(moved(z, m, part.first), part.count, s.hz, s.wz, taps, s.wz);
        reverse_taps(taps, taps_count, k.lanes);
        for (int n = m; n < s.searches; n += s.templates) {
            const float *slope =
                padded_block(gradient_room, moved(grad, n, part.first), part.count, ho, wo, rim_y, rim_x, k);
            const std::ptrdiff_t row = wo + 2 * rim_x;
            if (dz.data != nullptr) {
                const float *search = padded_block(search_room, moved(x, n, part.first), part.count, s.height, s.width,
                                                   s.pad_y, s.pad_x, k);
                k.correlate_template(slope + (rim_y * row + rim_x) * k.lanes, row, search, s.width + 2 * s.pad_x, ho,
                                     wo, sums, s.hz, s.wz, false);
            }
            if (dx.data != nullptr) {
                float *found = scratch(output_room, static_cast<std::ptrdiff_t>(s.height) * s.width * k.lanes);
                k.correlate(slope + (s.pad_y * row + s.pad_x) * k.lanes, row, taps, s.hz, s.wz, found, s.width,
                            s.height, s.width, false, false);
                k.store_block(found, s.width, part.count, s.height, s.width, moved(dx, n, part.first));
            }
        }
        if (dz.data != nullptr) k.store_block(sums, s.wz, part.count, s.hz, s.wz, moved(dz, m, part.first));
    });
}

void xcorr_full(const XcorrSizes &s, const Maps &z, const Maps &x, float scale_constant, float bias_constant,
                float *out) {
    const XcorrKernels &k = xcorr_kernels();
    const int blocks = block_count(s, k), ho = s.out_height(), wo = s.out_width(), cells = ho * wo;
    // Few searches: their channels are split, the parts added in order afterwards. The split depends on the sizes
    // alone, so that the result does not depend on the number of threads.
    const int parts = std::max(1, std::min(blocks / 2, (8 + s.searches - 1) / s.searches));
    const std::ptrdiff_t maps = static_cast<std::ptrdiff_t>(s.kernels) * cells;
    std::vector<float> partial(static_cast<std::size_t>(s.searches * parts * maps));
    parallel_for(s.searches * parts, s.threads, [&](int task) {
        const int n = task / parts, p = task % parts;
        float *taps = scratch(template_room, static_cast<std::ptrdiff_t>(s.hz) * s.wz * k.lanes);
        float *found = scratch(output_room, maps * k.lanes);
        const int begin = blocks * p / parts, end = blocks * (p + 1) / parts;
        for (int b = begin; b < end; ++b) {
            const Block part = block_at(b, s, k);
            const float *search =
                padded_block(search_room, moved(x, n, part.first), part.count, s.height, s.width, s.pad_y, s.pad_x, k);
            for (int o = 0; o < s.kernels; ++o) {
                k.load_block(moved(z, n % s.templates, o * s.channels + part.first), part.count, s.hz, s.wz, taps,
                             s.wz);
                k.correlate(search, s.width + 2 * s.pad_x, taps, s.hz, s.wz, found + o * cells * k.lanes, wo, ho, wo,
                            b > begin, false);
            }
        }
        k.add_lanes(found, static_cast<int>(maps), partial.data() + task * maps);
    });
    for (int n = 0; n < s.searches; ++n)
        for (std::ptrdiff_t cell = 0; cell < maps; ++cell) {
            float sum = 0.0f;
            for (int p = 0; p < parts; ++p) sum += partial[static_cast<std::size_t>((n * parts + p) * maps + cell)];
            out[n * maps + cell] = scale_constant * sum + bias_constant;
        }
}

void xcorr_full_backward(const XcorrSizes &s, const float *grad_z, const float *grad_x, const Maps &z, const Maps &x,
                         const Maps &dz, const Maps &dx) {
    const XcorrKernels &k = xcorr_kernels();
    const int blocks = block_count(s, k), ho = s.out_height(), wo = s.out_width(), taps_count = s.hz * s.wz;
    const int rim_y = s.hz - 1, rim_x = s.wz - 1, row = wo + 2 * rim_x;
    const std::ptrdiff_t cells = static_cast<std::ptrdiff_t>(ho) * wo, block_taps = taps_count * k.lanes;
    parallel_for(s.templates * blocks, s.threads, [&](int task) {
        const int m = task / blocks;
        const Block part = block_at(task % blocks, s, k);
        float *taps = scratch(template_room, 2 * s.kernels * block_taps);
        float *sums = taps + s.kernels * block_taps;
        std::fill(sums, sums + s.kernels * block_taps, 0.0f);
        for (int o = 0; o < s.kernels; ++o) {
            k.load_block(moved(z, m, o * s.channels + part.first), part.count, s.hz, s.wz, taps + o * block_taps, s.wz);
            reverse_taps(taps + o * block_taps, taps_count, k.lanes);
        }
        for (int n = m; n < s.searches; n += s.templates) {
            if (dz.data != nullptr) {
                const float *search = padded_block(search_room, moved(x, n, part.first), part.count, s.height, s.width,
                                                   s.pad_y, s.pad_x, k);
                for (int o = 0; o < s.kernels; ++o)
                    k.correlate_template(grad_z + (static_cast<std::ptrdiff_t>(n) * s.kernels + o) * cells, wo, search,
                                         s.width + 2 * s.pad_x, ho, wo, sums + o * block_taps, s.hz, s.wz, true);
            }
            if (dx.data == nullptr) continue;
            float *slope = scratch(gradient_room, static_cast<std::ptrdiff_t>(ho + 2 * rim_y) * row);
            std::memset(slope, 0,
                        static_cast<std::size_t>(ho + 2 * rim_y) * static_cast<std::size_t>(row) * sizeof(float));
            float *found = scratch(output_room, static_cast<std::ptrdiff_t>(s.height) * s.width * k.lanes);
            for (int o = 0; o < s.kernels; ++o) {
                const float *map = grad_x + (static_cast<std::ptrdiff_t>(n) * s.kernels + o) * cells;
                for (int y = 0; y < ho; ++y)
                    std::copy(map + y * wo, map + (y + 1) * wo, slope + (y + rim_y) * row + rim_x);
                k.correlate(slope + s.pad_y * row + s.pad_x, row, taps + o * block_taps, s.hz, s.wz, found, s.width,
                            s.height, s.width, o > 0, true);
            }
            k.store_block(found, s.width, part.count, s.height, s.width, moved(dx, n, part.first));
        }
        if (dz.data != nullptr)
            for (int o = 0; o < s.kernels; ++o)
                k.store_block(sums + o * block_taps, s.wz, part.count, s.hz, s.wz,
                              moved(dz, m, o * s.channels + part.first));
    });
}

}  // namespace siamfast
