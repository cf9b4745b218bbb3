// The row loops, included once for each instruction set inside its own namespace; the compiler vectorises them.
#include "common/numbers.inl"

// Steps known at compile time (0: known at run time only) let the common layouts vectorise.
template <class T, int STEP_X, int STEP_C, int CHANNELS, class Number>
static void load_steps(const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, int count, int channels, Number *out) {
    constexpr int size = sizeof(typename T::type);
    const std::ptrdiff_t step_x = STEP_X ? STEP_X * size : sx, step_c = STEP_C ? STEP_C * size : sc;
    const int planes = CHANNELS ? CHANNELS : channels;
    for (int k = 0; k < count; ++k)
        for (int c = 0; c < planes; ++c) out[k * planes + c] = T::read(fetch<T>(source + k * step_x + c * step_c));
}

template <class T, class Number>
static void load_typed(const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, int count, int channels, Number *out) {
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

template <class T, class Number>
static void columns_typed(const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, const int *columns, int count,
                          int channels, Number *out) {
    for (int k = 0; k < count; ++k)
        for (int c = 0; c < channels; ++c) out[k * channels + c] = T::read(fetch<T>(source + columns[k] * sx + c * sc));
}

template <class T, class Number>
static void store_typed(const Number *row, int count, int channels, char *target, std::ptrdiff_t sx,
                        std::ptrdiff_t sc) {
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
        case Dtype::u8:
            return load_typed<U8>(source, sx, sc, count, channels, out);
        case Dtype::f32:
            return load_typed<F32>(source, sx, sc, count, channels, out);
        case Dtype::bf16:
            return load_typed<Bf16>(source, sx, sc, count, channels, out);
        case Dtype::f16:
            return load_typed<F16>(source, sx, sc, count, channels, out);
    }
}

static void load_columns(Dtype dtype, const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, const int *columns,
                         int count, int channels, float *out) {
    switch (dtype) {
        case Dtype::u8:
            return columns_typed<U8>(source, sx, sc, columns, count, channels, out);
        case Dtype::f32:
            return columns_typed<F32>(source, sx, sc, columns, count, channels, out);
        case Dtype::bf16:
            return columns_typed<Bf16>(source, sx, sc, columns, count, channels, out);
        case Dtype::f16:
            return columns_typed<F16>(source, sx, sc, columns, count, channels, out);
    }
}

static void store(Dtype dtype, const float *row, int count, int channels, char *target, std::ptrdiff_t sx,
                  std::ptrdiff_t sc) {
    switch (dtype) {
        case Dtype::u8:
            return store_typed<U8>(row, count, channels, target, sx, sc);
        case Dtype::f32:
            return store_typed<F32>(row, count, channels, target, sx, sc);
        case Dtype::bf16:
            return store_typed<Bf16>(row, count, channels, target, sx, sc);
        case Dtype::f16:
            return store_typed<F16>(row, count, channels, target, sx, sc);
    }
}

// uint8 in fixed point: numbers of kFixedLevel to a level.
struct Fixed {
    using type = std::uint8_t;
    static inline std::int16_t read(type v) { return static_cast<std::int16_t>(v * kFixedLevel); }
    static inline type write(std::int16_t v) {
        return static_cast<type>(static_cast<std::uint16_t>(v + kFixedLevel / 2) / kFixedLevel);  // v is not negative
    }
};

static void load_fixed(Dtype, const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, int count, int channels,
                       std::int16_t *out) {
    load_typed<Fixed>(source, sx, sc, count, channels, out);
}

static void load_columns_fixed(Dtype, const char *source, std::ptrdiff_t sx, std::ptrdiff_t sc, const int *columns,
                               int count, int channels, std::int16_t *out) {
    columns_typed<Fixed>(source, sx, sc, columns, count, channels, out);
}

static void store_fixed(Dtype, const std::int16_t *row, int count, int channels, char *target, std::ptrdiff_t sx,
                        std::ptrdiff_t sc) {
    store_typed<Fixed>(row, count, channels, target, sx, sc);
}

// a + (b - a) * weight / 32768, rounded; levels of 0..255 do not overflow.
static inline std::int16_t mix_fixed(std::int16_t a, std::int16_t b, std::int16_t weight) {
    return static_cast<std::int16_t>(a + (((b - a) * weight + 0x4000) >> 15));
}

#if defined(__SSE2__)
// (a * b + 0x4000) >> 15, which SSE2 has only in parts.
static inline __m128i product_fixed(__m128i a, __m128i b) {
#if SIAMFAST_ISA_BYTES >= 32
    return _mm_mulhrs_epi16(a, b);
#else
    const __m128i low = _mm_mullo_epi16(a, b), high = _mm_slli_epi16(_mm_mulhi_epi16(a, b), 1);
    const __m128i half = _mm_and_si128(_mm_srli_epi16(low, 14), _mm_set1_epi16(1));
    return _mm_add_epi16(_mm_add_epi16(high, _mm_srli_epi16(low, 15)), half);
#endif
}
#endif

static void blend_fixed(const std::int16_t *__restrict a, const std::int16_t *__restrict b, std::int16_t weight,
                        int count, std::int16_t *__restrict out) {
    int k = 0;
#if SIAMFAST_ISA_BYTES == 64
    const __m512i w = _mm512_set1_epi16(weight);
    for (; k + 32 <= count; k += 32) {
        const __m512i from = _mm512_loadu_si512(a + k), by = _mm512_sub_epi16(_mm512_loadu_si512(b + k), from);
        _mm512_storeu_si512(out + k, _mm512_add_epi16(from, _mm512_mulhrs_epi16(by, w)));
    }
#elif SIAMFAST_ISA_BYTES == 32
    const __m256i w = _mm256_set1_epi16(weight);
    for (; k + 16 <= count; k += 16) {
        const __m256i from = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(a + k));
        const __m256i by = _mm256_sub_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(b + k)), from);
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + k), _mm256_add_epi16(from, _mm256_mulhrs_epi16(by, w)));
    }
#elif defined(__SSE2__)
    const __m128i w = _mm_set1_epi16(weight);
    for (; k + 8 <= count; k += 8) {
        const __m128i from = _mm_loadu_si128(reinterpret_cast<const __m128i *>(a + k));
        const __m128i by = _mm_sub_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(b + k)), from);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out + k), _mm_add_epi16(from, product_fixed(by, w)));
    }
#endif
    for (; k < count; ++k) out[k] = mix_fixed(a[k], b[k], weight);
}

#if defined(__SSE2__)
static inline __m128i two_pixels(const std::int16_t *first, const std::int16_t *second) {
    const __m128 low = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(first)));
    return _mm_castps_si128(_mm_loadh_pi(low, reinterpret_cast<const __m64 *>(second)));
}

// Pixels by fours of numbers, two at once; the fourth of three channels is overwritten by the next pixel.
template <int CHANNELS>
static void lerp_pixels_fixed(const std::int16_t *row, const int *place, const std::int16_t *weight, int count,
                              std::int16_t *out) {
    int i = 0;
    for (; i + 2 <= count; i += 2) {
        const std::int16_t *one = row + place[i], *two = row + place[i + 1];
        const __m128i from = two_pixels(one, two), by = _mm_sub_epi16(two_pixels(one + CHANNELS, two + CHANNELS), from);
        const __m128i w = _mm_loadu_si128(reinterpret_cast<const __m128i *>(weight + i * kCopies));
        const __m128i mixed = _mm_add_epi16(from, product_fixed(by, w));
        _mm_storel_epi64(reinterpret_cast<__m128i *>(out + i * CHANNELS), mixed);
        _mm_storeh_pi(reinterpret_cast<__m64 *>(out + (i + 1) * CHANNELS), _mm_castsi128_ps(mixed));
    }
    for (; i < count; ++i)
        for (int c = 0; c < CHANNELS; ++c)
            out[i * CHANNELS + c] = mix_fixed(row[place[i] + c], row[place[i] + CHANNELS + c], weight[i * kCopies]);
}
#endif

static void lerp_columns_fixed(const std::int16_t *row, const int *place, const std::int16_t *weight, int count,
                               int channels, std::int16_t *out) {
#if defined(__SSE2__)
    if (channels == 3) return lerp_pixels_fixed<3>(row, place, weight, count, out);
    if (channels == 4) return lerp_pixels_fixed<4>(row, place, weight, count, out);
#endif
    for (int i = 0; i < count; ++i)
        for (int c = 0; c < channels; ++c)
            out[i * channels + c] = mix_fixed(row[place[i] + c], row[place[i] + channels + c], weight[i * kCopies]);
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
static void lerp_pixels(const float *row, const int *place, const float *weight, int count, float *out) {
    for (int i = 0; i < count; ++i) {
        const float *at = row + place[i];
        const Pixel a = pixel_at(at), b = pixel_at(at + CHANNELS);
        const Pixel mixed = a + (b - a) * weight[i * kCopies];
        __builtin_memcpy(out + i * CHANNELS, &mixed, 16);
    }
}

static void lerp_columns(const float *row, const int *place, const float *weight, int count, int channels, float *out) {
    if (channels == 3) return lerp_pixels<3>(row, place, weight, count, out);
    if (channels == 4) return lerp_pixels<4>(row, place, weight, count, out);
    for (int i = 0; i < count; ++i)
        for (int c = 0; c < channels; ++c) {
            const float a = row[place[i] + c], b = row[place[i] + channels + c];
            out[i * channels + c] = a + (b - a) * weight[i * kCopies];
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
    constexpr int size = SIAMFAST_ISA_BYTES, block = 3 * size,
                  half = size / 2;  // whole pixels of 1, 2, 3 or 4 channels
    const std::int64_t blocks = static_cast<std::int64_t>(count) * CHANNELS / block;
    for (std::int64_t first = 0; first < blocks; first += 256) {  // 256 bytes of 255 fit 16 bits
        const std::int64_t last = first + 256 < blocks ? first + 256 : blocks;
        Pairs even[3] = {}, odd[3] = {};
        for (std::int64_t k = first; k < last; ++k)
            for (int part = 0; part < 3; ++part) {
                Pairs bytes;
                const std::uint8_t *from = source + k * block + part * size;
                __builtin_prefetch(from + 2048);  // from memory 1.1 x as fast
                __builtin_memcpy(&bytes, from, sizeof(bytes));
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

static const RowKernels kernels = {
    {load, load_columns, blend, lerp_columns, store},
    {load_fixed, load_columns_fixed, blend_fixed, lerp_columns_fixed, store_fixed},
    filter_columns,
    accumulate,
    add_bytes,
};
