// The loops of the correlations, included once for each instruction set inside its own namespace.
#include "common/lanes.inl"
#include "common/numbers.inl"

// ------------------------------------------------------------------------------------------------ blocks in and out
template <class T>
static inline Lanes load_run(const char *from) {  // LANES elements that lie side by side
    float values[LANES];
    for (int l = 0; l < LANES; ++l)
        values[l] = T::read(fetch<T>(from + l * static_cast<int>(sizeof(typename T::type))));
    return load_lanes(values);
}

template <class T>
static inline void store_run(char *to, Lanes value) {
    float values[LANES];
    store_lanes(values, value);
    for (int l = 0; l < LANES; ++l) put<T>(to + l * static_cast<int>(sizeof(typename T::type)), T::write(values[l]));
}

// Walks the pixels of a block in the order of the map's own memory.
struct Walk {
    std::ptrdiff_t row;
    int width, x;
    std::ptrdiff_t at;  // floats from the block's start
    inline void next() {
        at += LANES;
        if (++x == width) {
            x = 0;
            at += (row - width) * LANES;
        }
    }
};

static inline Walk walk_from(std::ptrdiff_t pixel, int width, std::ptrdiff_t row) {
    const std::ptrdiff_t y = pixel / width, x = pixel % width;
    return Walk{row, width, static_cast<int>(x), (y * row + x) * LANES};
}

// Into the second cache, for the block of channels after this one: LANES planes side by side are more streams than the
// processor's own prefetching follows. (Features from memory: full correlation 1.8 x as fast, depthwise 1.2-1.5 x.)
// WRITE: for a store; read first, its line would be asked for twice. (Two threads took longer than one.)
template <int WRITE>
static inline void fetch_next_block(const char *here, std::ptrdiff_t step_c) {
    __builtin_prefetch(here + LANES * step_c, WRITE, 2);
}

// Planes whose pixels lie side by side: tiles of LANES channels x LANES pixels are transposed in registers. The last
// tile overlaps the one before it.
template <class T>
static void load_planes(const Maps &maps, int channels, int height, int width, float *block, std::ptrdiff_t row) {
    constexpr int size = sizeof(typename T::type);
    const std::ptrdiff_t pixels = static_cast<std::ptrdiff_t>(height) * width;
    for (std::ptrdiff_t done = 0; done < pixels; done += LANES) {
        const std::ptrdiff_t first = done + LANES <= pixels ? done : pixels - LANES;
        Lanes tile[LANES];
        for (int c = 0; c < LANES; ++c) {
            const char *from = maps.data + c * maps.step_c + first * size;
            fetch_next_block<0>(from, maps.step_c);
            tile[c] = c < channels ? load_run<T>(from) : Lanes{};
        }
        transpose(tile);
        Walk walk = walk_from(first, width, row);
        for (int p = 0; p < LANES; ++p, walk.next()) store_lanes(block + walk.at, tile[p]);
    }
}

template <class T>
static void store_planes(const float *block, std::ptrdiff_t row, int channels, int height, int width,
                         const Maps &maps) {
    constexpr int size = sizeof(typename T::type);
    const std::ptrdiff_t pixels = static_cast<std::ptrdiff_t>(height) * width;
    for (std::ptrdiff_t done = 0; done < pixels; done += LANES) {
        const std::ptrdiff_t first = done + LANES <= pixels ? done : pixels - LANES;
        Lanes tile[LANES];
        Walk walk = walk_from(first, width, row);
        for (int p = 0; p < LANES; ++p, walk.next()) tile[p] = load_lanes(block + walk.at);
        transpose(tile);
        for (int c = 0; c < LANES; ++c)
            if (c < channels) {
                char *to = maps.data + c * maps.step_c + first * size;
                fetch_next_block<1>(to, maps.step_c);
                store_run<T>(to, tile[c]);
            }
    }
}

static inline bool planes_side_by_side(const Maps &maps, int height, int width, int size) {
    return maps.step_x == size && (maps.step_y == width * size || height == 1) && height * width >= LANES;
}

template <class T>
static void load_typed(const Maps &maps, int channels, int height, int width, float *block, std::ptrdiff_t row) {
    constexpr int size = sizeof(typename T::type);
    if (planes_side_by_side(maps, height, width, size))
        return load_planes<T>(maps, channels, height, width, block, row);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            const char *from = maps.data + y * maps.step_y + x * maps.step_x;
            float *to = block + (y * row + x) * LANES;
            if (maps.step_c == size && channels == LANES) {  // channels_last
                fetch_next_block<0>(from, size);
                store_lanes(to, load_run<T>(from));
                continue;
            }
            for (int c = 0; c < LANES; ++c) to[c] = c < channels ? T::read(fetch<T>(from + c * maps.step_c)) : 0.0f;
        }
}

template <class T>
static void store_typed(const float *block, std::ptrdiff_t row, int channels, int height, int width, const Maps &maps) {
    constexpr int size = sizeof(typename T::type);
    if (planes_side_by_side(maps, height, width, size))
        return store_planes<T>(block, row, channels, height, width, maps);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x) {
            char *to = maps.data + y * maps.step_y + x * maps.step_x;
            const float *from = block + (y * row + x) * LANES;
            if (maps.step_c == size && channels == LANES) {
                fetch_next_block<1>(to, size);
                store_run<T>(to, load_lanes(from));
                continue;
            }
            for (int c = 0; c < channels; ++c) put<T>(to + c * maps.step_c, T::write(from[c]));
        }
}

static void load_block(const Maps &maps, int channels, int height, int width, float *block, std::ptrdiff_t row) {
    if (maps.dtype == Dtype::f32) return load_typed<F32>(maps, channels, height, width, block, row);
    if (maps.dtype == Dtype::bf16) return load_typed<Bf16>(maps, channels, height, width, block, row);
    return load_typed<F16>(maps, channels, height, width, block, row);
}

static void store_block(const float *block, std::ptrdiff_t row, int channels, int height, int width, const Maps &maps) {
    if (maps.dtype == Dtype::f32) return store_typed<F32>(block, row, channels, height, width, maps);
    if (maps.dtype == Dtype::bf16) return store_typed<Bf16>(block, row, channels, height, width, maps);
    return store_typed<F16>(block, row, channels, height, width, maps);
}

// ------------------------------------------------------------------------------------------------------ correlations
// Outputs that stay in registers while the taps of a template go by, and taps of a template row held beside them. A
// vector of x, read once, meets up to TAPS outputs. (32 registers under AVX-512, 16 otherwise.)
constexpr int OUTPUTS = SIAMFAST_ISA_BYTES == 64 ? 14 : 8;
constexpr int TAPS = 8;

template <bool ONE_MAP>
static inline Lanes pixel(const float *row, int x) {
    return ONE_MAP ? splat(row[x]) : load_lanes(row + static_cast<std::ptrdiff_t>(x) * LANES);
}

// R outputs of one row, W columns of the template. Steps in floats.
template <int R, int W, bool ONE_MAP>
static void correlate_run(const float *x, std::ptrdiff_t x_step, const float *z, std::ptrdiff_t z_step, int hz,
                          float *out, bool accumulate) {
    Registers<R> sum;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) sum[r] = accumulate ? load_lanes(out + r * LANES) : Lanes{};
    for (int i = 0; i < hz; ++i) {
        Registers<W> tap;
#pragma GCC unroll 8
        for (int j = 0; j < W; ++j) tap[j] = load_lanes(z + j * LANES);
#pragma GCC unroll 32
        for (int t = 0; t < R + W - 1; ++t) {
            const Lanes v = pixel<ONE_MAP>(x, t);
#pragma GCC unroll 8
            for (int j = 0; j < W; ++j)
                if (t - j >= 0 && t - j < R) sum[t - j] = multiply_add(tap[j], v, sum[t - j]);
        }
        x += x_step;
        z += z_step;
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) store_lanes(out + r * LANES, sum[r]);
}

using Run = void (*)(const float *, std::ptrdiff_t, const float *, std::ptrdiff_t, int, float *, bool);

template <bool ONE_MAP, int R = OUTPUTS, int W = TAPS>
static Run find_run(int r, int w) {
    if constexpr (W > 1)
        if (w < W) return find_run<ONE_MAP, R, W - 1>(r, w);
    if constexpr (R > 1)
        if (r < R) return find_run<ONE_MAP, R - 1, W>(r, w);
    return correlate_run<R, W, ONE_MAP>;
}

template <bool ONE_MAP>
static void correlate_maps(const float *x, std::ptrdiff_t x_row, const float *z, int hz, int wz, float *out,
                           std::ptrdiff_t out_row, int ho, int wo, bool accumulate) {
    const int runs = (wo + OUTPUTS - 1) / OUTPUTS, length = (wo + runs - 1) / runs, last = wo - (runs - 1) * length;
    const std::ptrdiff_t pixel_size = ONE_MAP ? 1 : LANES, x_step = x_row * pixel_size;
    const std::ptrdiff_t z_step = static_cast<std::ptrdiff_t>(wz) * LANES;
    for (int j = 0; j < wz; j += TAPS) {
        const int taps = wz - j < TAPS ? wz - j : TAPS;
        const Run whole = find_run<ONE_MAP>(length, taps), rest = find_run<ONE_MAP>(last, taps);
        for (int y = 0; y < ho; ++y)
            for (int k = 0; k < runs; ++k)
                (k + 1 < runs ? whole : rest)(x + y * x_step + (j + k * length) * pixel_size, x_step, z + j * LANES,
                                              z_step, hz, out + (y * out_row + k * length) * LANES,
                                              accumulate || j > 0);
    }
}

static void correlate(const float *x, std::ptrdiff_t x_row, const float *z, int hz, int wz, float *out,
                      std::ptrdiff_t out_row, int ho, int wo, bool accumulate, bool one_map) {
    (one_map ? correlate_maps<true> : correlate_maps<false>)(x, x_row, z, hz, wz, out, out_row, ho, wo, accumulate);
}

// ---------------------------------------------------------------------------------------- gradient of the template
constexpr int STEPS = 4;  // pixels of g in registers at a time

template <int G, int I, int W, bool ONE_MAP>
static inline void template_step(const float *g, const float *x, std::ptrdiff_t x_step, Registers<W> *sum) {
    Registers<G> weight;
#pragma GCC unroll 4
    for (int r = 0; r < G; ++r) weight[r] = pixel<ONE_MAP>(g, r);
#pragma GCC unroll 2
    for (int i = 0; i < I; ++i)
#pragma GCC unroll 16
        for (int t = 0; t < G + W - 1; ++t) {
            const Lanes v = load_lanes(x + i * x_step + t * LANES);
#pragma GCC unroll 8
            for (int j = 0; j < W; ++j)
                if (t - j >= 0 && t - j < G) sum[i][j] = multiply_add(weight[t - j], v, sum[i][j]);
        }
}

// I rows and W columns of the template's gradient stay in registers while the map goes by.
template <int I, int W, bool ONE_MAP>
static void template_run(const float *g, std::ptrdiff_t g_step, const float *x, std::ptrdiff_t x_step, int ho, int wo,
                         float *dz, std::ptrdiff_t dz_step) {
    constexpr int pixel_size = ONE_MAP ? 1 : LANES;
    Registers<W> sum[static_cast<std::size_t>(I)];
#pragma GCC unroll 2
    for (int i = 0; i < I; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < W; ++j) sum[i][j] = load_lanes(dz + i * dz_step + j * LANES);
    for (int y = 0; y < ho; ++y, g += g_step, x += x_step) {
        int k = 0;
        for (; k + STEPS <= wo; k += STEPS)
            template_step<STEPS, I, W, ONE_MAP>(g + k * pixel_size, x + k * LANES, x_step, sum);
        for (; k < wo; ++k) template_step<1, I, W, ONE_MAP>(g + k * pixel_size, x + k * LANES, x_step, sum);
    }
#pragma GCC unroll 2
    for (int i = 0; i < I; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < W; ++j) store_lanes(dz + i * dz_step + j * LANES, sum[i][j]);
}

using TemplateRun = void (*)(const float *, std::ptrdiff_t, const float *, std::ptrdiff_t, int, int, float *,
                             std::ptrdiff_t);

template <bool ONE_MAP, int I = 2, int W = TAPS>
static TemplateRun find_template_run(int i, int w) {
    if constexpr (W > 1)
        if (w < W) return find_template_run<ONE_MAP, I, W - 1>(i, w);
    if constexpr (I > 1)
        if (i < I) return find_template_run<ONE_MAP, I - 1, W>(i, w);
    return template_run<I, W, ONE_MAP>;
}

static void correlate_template(const float *g, std::ptrdiff_t g_row, const float *x, std::ptrdiff_t x_row, int ho,
                               int wo, float *dz, int hz, int wz, bool one_map) {
    const std::ptrdiff_t g_step = g_row * (one_map ? 1 : LANES), x_step = x_row * LANES;
    const std::ptrdiff_t dz_step = static_cast<std::ptrdiff_t>(wz) * LANES;
    for (int j = 0; j < wz; j += TAPS) {
        const int taps = wz - j < TAPS ? wz - j : TAPS;
        // With 16 registers, two rows of more than 5 sums would not stay in them.
        const int rows = taps > 5 && SIAMFAST_ISA_BYTES < 64 ? 1 : 2;
        for (int i = 0; i < hz; i += rows) {
            const int these = hz - i < rows ? hz - i : rows;
            (one_map ? find_template_run<true> : find_template_run<false>)(these, taps)(
                g, g_step, x + i * x_step + j * LANES, x_step, ho, wo, dz + i * dz_step + j * LANES, dz_step);
        }
    }
}

static void add_lanes(const float *block, int pixels, float *out) {
    for (int p = 0; p < pixels; ++p) {
        float sum = 0.0f;
        for (int l = 0; l < LANES; ++l) sum += block[p * LANES + l];
        out[p] = sum;
    }
}

static const XcorrKernels kernels = {LANES, load_block, store_block, correlate, correlate_template, add_lanes};
