// The row loops, included once for each instruction set inside its own namespace; the compiler vectorises them.
#include "numbers.inl"

// Steps known at compile time (0: known at run time only) let the common layouts vectorise.
template <class T, int STEP_X, int STEP_C, int CHANNELS>
static void load_steps(const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, int count, int channels, float *out) {
    constexpr int size = sizeof(typename T::type);
    const std::ptrdiff_t step_x = STEP_X ? STEP_X * size : sx, step_c = STEP_C ? STEP_C * size : sc;
    const int planes = CHANNELS ? CHANNELS : channels;
    for (int k = 0; k < count; ++k)
        for (int c = 0; c < planes; ++c)
            out[k * planes + c] = T::read(fetch<T>(source + k * step_x + c * step_c));
}

template <class T>
static void load_typed(const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, int count, int channels, float *out) {
    constexpr int size = sizeof(typename T::type);
    if (sx == channels * size && (sc == size || channels == 1))  // interleaved: one run of numbers
        load_steps<T, 1, 1, 1>(source, sx, sc, count * channels, 1, out);
    else if (channels == 1 && sx == size)
        load_steps<T, 1, 1, 1>(source, sx, sc, count, 1, out);
    else if (channels == 3 && sx == 3 * size && sc == -size)  // BGR seen as RGB
        load_steps<T, 3, -1, 3>(source, sx, sc, count, 3, out);
    else if (channels == 3)
        load_steps<T, 0, 0, 3>(source, sx, sc, count, 3, out);
    else
        load_steps<T, 0, 0, 0>(source, sx, sc, count, channels, out);
}

template <class T>
static void columns_typed(const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, const int *columns, int count,
                          int channels, float *out) {
    for (int k = 0; k < count; ++k)
        for (int c = 0; c < channels; ++c)
            out[k * channels + c] = T::read(fetch<T>(source + columns[k] * sx + c * sc));
}

template <class T>
static void store_typed(const float *row, int count, int channels, char *target, std::ptrdiff_t sx, std::ptrdiff_t sc) {
    constexpr int size = sizeof(typename T::type);
    if ((sx == channels * size && (sc == size || channels == 1)) || (channels == 1 && sx == size)) {
        for (int k = 0; k < count * channels; ++k) put<T>(target + k * size, T::write(row[k]));
        return;
    }
    for (int c = 0; c < channels; ++c)
        for (int k = 0; k < count; ++k) put<T>(target + k * sx + c * sc, T::write(row[k * channels + c]));
}

static void load(Dtype dtype, const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, int count, int channels,
                 float *out) {
    switch (dtype) {
        case Dtype::u8: return load_typed<U8>(source, sx, sc, count, channels, out);
        case Dtype::f32: return load_typed<F32>(source, sx, sc, count, channels, out);
        case Dtype::bf16: return load_typed<Bf16>(source, sx, sc, count, channels, out);
        case Dtype::f16: return load_typed<F16>(source, sx, sc, count, channels, out);
    }
}

static void load_columns(Dtype dtype, const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, const int *columns,
                         int count, int channels, float *out) {
    switch (dtype) {
        case Dtype::u8: return columns_typed<U8>(source, sx, sc, columns, count, channels, out);
        case Dtype::f32: return columns_typed<F32>(source, sx, sc, columns, count, channels, out);
        case Dtype::bf16: return columns_typed<Bf16>(source, sx, sc, columns, count, channels, out);
        case Dtype::f16: return columns_typed<F16>(source, sx, sc, columns, count, channels, out);
    }
}

static void store(Dtype dtype, const float *row, int count, int channels, char *target, std::ptrdiff_t sx,
                  std::ptrdiff_t sc) {
    switch (dtype) {
        case Dtype::u8: return store_typed<U8>(row, count, channels, target, sx, sc);
        case Dtype::f32: return store_typed<F32>(row, count, channels, target, sx, sc);
        case Dtype::bf16: return store_typed<Bf16>(row, count, channels, target, sx, sc);
        case Dtype::f16: return store_typed<F16>(row, count, channels, target, sx, sc);
    }
}

static void blend(const float *__restrict a, const float *__restrict b, float weight, int count,
                  float *__restrict out) {
    for (int k = 0; k < count; ++k) out[k] = a[k] + (b[k] - a[k]) * weight;
}

static void accumulate(const float *__restrict row, float weight, int count, float *__restrict out) {
    for (int k = 0; k < count; ++k) out[k] += weight * row[k];
}

// Four floats hold a pixel of three or four channels; the fourth of three is overwritten by the next pixel.
typedef float Pixel __attribute__((vector_size(16)));

static inline Pixel pixel_at(const float *from) {
    Pixel value;
    __builtin_memcpy(&value, from, 16);
    return value;
}

template <int CHANNELS>
static void lerp_pixels(const float *row, const int *start, const float *weight, int count, float *out) {
    for (int i = 0; i < count; ++i) {
        const float *at = row + start[i] * CHANNELS;
        const Pixel a = pixel_at(at), b = pixel_at(at + CHANNELS);
        const Pixel mixed = a + (b - a) * weight[i];
        __builtin_memcpy(out + i * CHANNELS, &mixed, 16);
    }
}

static void lerp_columns(const float *row, const int *start, const float *weight, int count, int channels, float *out) {
    if (channels == 3) return lerp_pixels<3>(row, start, weight, count, out);
    if (channels == 4) return lerp_pixels<4>(row, start, weight, count, out);
    if (channels == 1) {
        for (int i = 0; i < count; ++i) {
            const float a = row[start[i]], b = row[start[i] + 1];
            out[i] = a + (b - a) * weight[i];
        }
        return;
    }
    for (int i = 0; i < count; ++i)
        for (int c = 0; c < channels; ++c) {
            const float a = row[start[i] * channels + c], b = row[(start[i] + 1) * channels + c];
            out[i * channels + c] = a + (b - a) * weight[i];
        }
}

static void filter_columns(const float *row, const int *start, const float *weights, int taps, int count, int channels,
                           float *out) {
    for (int i = 0; i < count; ++i)
        for (int c = 0; c < channels; ++c) {
            float sum = 0.0f;
            const float *at = row + start[i] * channels + c;
            for (int k = 0; k < taps; ++k) sum += weights[i * taps + k] * at[k * channels];
            out[i * channels + c] = sum;
        }
}

// Bytes as pairs, so that even and odd bytes are added by a mask and a shift in place of a widening shuffle.
typedef std::uint16_t Pairs __attribute__((vector_size(SIAMFAST_ISA_BYTES)));

// Sums of whole blocks of packed pixels; returns how many pixels they were. The channels are a constant because the
// lanes are told apart once every 256 blocks, without divisions. (With them, and that once a row, wider vectors were
// slower: 720p took 220 us under AVX-512 and 98 under SSE2; now 35 and 48.)
template <int CHANNELS>
static int add_packed(const std::uint8_t *source, int count, std::uint64_t *sums) {
    constexpr int size = SIAMFAST_ISA_BYTES, block = 3 * size, half = size / 2;  // whole pixels of 1, 2, 3 or 4 channels
    const std::int64_t blocks = static_cast<std::int64_t>(count) * CHANNELS / block;
    for (std::int64_t first = 0; first < blocks; first += 256) {  // 256 bytes of 255 fit 16 bits
        const std::int64_t last = first + 256 < blocks ? first + 256 : blocks;
        Pairs even[3] = {}, odd[3] = {};
        for (std::int64_t k = first; k < last; ++k)
            for (int part = 0; part < 3; ++part) {
                Pairs bytes;
                __builtin_memcpy(&bytes, source + k * block + part * size, sizeof(bytes));
                even[part] += bytes & 255;
                odd[part] += bytes >> 8;
            }
        std::uint64_t found[4] = {};
        for (int part = 0; part < 3; ++part)
            for (int lane = 0; lane < half; ++lane) {
                found[(part * size + 2 * lane) % CHANNELS] += even[part][lane];
                found[(part * size + 2 * lane + 1) % CHANNELS] += odd[part][lane];
            }
        for (int c = 0; c < CHANNELS; ++c) sums[c] += found[c];
    }
    return static_cast<int>(blocks * block / CHANNELS);
}

static void add_bytes(const std::uint8_t *source, std::ptrdiff_t sx, std::ptrdiff_t sc, int count, int channels,
                      std::uint64_t *sums) {
    int done = 0;
    if (sx == channels && (sc == 1 || channels == 1)) {
        if (channels == 1) done = add_packed<1>(source, count, sums);
        if (channels == 2) done = add_packed<2>(source, count, sums);
        if (channels == 3) done = add_packed<3>(source, count, sums);
        if (channels == 4) done = add_packed<4>(source, count, sums);
    }
    for (int k = done; k < count; ++k)
        for (int c = 0; c < channels; ++c) sums[c] += source[k * sx + c * sc];
}

static const RowKernels kernels = {load,           load_columns, blend, lerp_columns,
                                   filter_columns, accumulate,   store, add_bytes};
