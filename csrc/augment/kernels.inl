// The loops of augment, included once for each instruction set inside its own namespace.
#include "common/lanes.inl"

typedef std::uint8_t Bytes __attribute__((vector_size(LANES)));
typedef std::uint32_t Words __attribute__((vector_size(SIAMFAST_ISA_BYTES)));

static inline Lanes levels(const std::uint8_t *from) {
    Bytes bytes;
    __builtin_memcpy(&bytes, from, sizeof(bytes));
    return __builtin_convertvector(bytes, Lanes);
}

static void mix_rows(const std::uint8_t *const *rows, const float *weights, int taps, int count, float *out) {
    int k = 0;
    for (; k + LANES <= count; k += LANES) {
        Lanes sum = splat(0.0f);
        for (int t = 0; t < taps; ++t) sum = multiply_add(splat(weights[t]), levels(rows[t] + k), sum);
        store_lanes(out + k, sum);
    }
    for (; k < count; ++k) {
        float sum = 0;
        for (int t = 0; t < taps; ++t) sum += weights[t] * static_cast<float>(rows[t][k]);
        out[k] = sum;
    }
}

static inline Lanes gather(const float *line, Places places) {
#if SIAMFAST_ISA_BYTES == 64
    return reinterpret_cast<Lanes>(
        _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, reinterpret_cast<__m512i>(places), line, 4));
#elif SIAMFAST_ISA_BYTES == 32
    return reinterpret_cast<Lanes>(_mm256_i32gather_ps(line, reinterpret_cast<__m256i>(places), 4));
#else
    Lanes value;
    for (int l = 0; l < LANES; ++l) value[l] = line[places[l]];
    return value;
#endif
}

static void mix_pixels(const float *line, const std::int32_t *first, const float *weights, int taps, int stride,
                       int step, int count, float *out) {
    for (int j = 0; j < count; j += LANES) {
        Places places;
        __builtin_memcpy(&places, first + j, sizeof(places));
        places *= step;
        Lanes sum = splat(0.0f);
        for (int t = 0; t < taps; ++t, places += step)
            sum = multiply_add(load_lanes(weights + t * stride + j), gather(line, places), sum);
        store_lanes(out + j, sum);
    }
}

// The sum of the four bytes of the hash of a place, less its mean.
static inline Lanes drawn(Words bits) {
    bits = (bits ^ (bits >> 16)) * 0x85EBCA6Bu;
    bits = (bits ^ (bits >> 13)) * 0xC2B2AE35u;
    bits ^= bits >> 16;
    const Words total = (bits & 255u) + ((bits >> 8) & 255u) + ((bits >> 16) & 255u) + (bits >> 24);
    return __builtin_convertvector(reinterpret_cast<Places>(total), Lanes) - 510.0f;
}

static inline Lanes limited(Lanes value) {
    value = value > 0.0f ? value : splat(0.0f);
    return value < 255.0f ? value : splat(255.0f);
}

static void finish(float *const *channels, int count, const RowFinish &what) {
    for (int c = 0; c < 3; ++c)
        for (int j = what.cut_begin; j < what.cut_end; ++j) channels[c][j] = what.mean[c];
    Words steps;
    for (int l = 0; l < LANES; ++l) steps[l] = static_cast<std::uint32_t>(l);
    for (int j = 0; j < count; j += LANES) {
        Lanes value[3];
        for (int c = 0; c < 3; ++c) value[c] = load_lanes(channels[c] + j);
        const Lanes gray = value[0] * 0.299f + value[1] * 0.587f + value[2] * 0.114f;
        for (int c = 0; c < 3; ++c) {
            Lanes level = (gray + (value[c] - gray) * what.saturation) * what.gain + what.pivot;
            if (what.noise > 0) {
                const std::uint32_t place = what.place + static_cast<std::uint32_t>(c) * what.plane;
                level += drawn(steps + (place + static_cast<std::uint32_t>(j))) * what.noise;
            }
            store_lanes(channels[c] + j, limited(level) * what.rate[c] + what.offset[c]);
        }
    }
}

static void interleave(const float *const *channels, int count, float *out) {
    // Lane l of the p-th register of three is number 3 * LANES ... of the pixels: first red and green fall into place,
    // then blue.
    Places two[3], three[3];
    for (int p = 0; p < 3; ++p)
        for (int l = 0; l < LANES; ++l) {
            const int pixel = (p * LANES + l) / 3, channel = (p * LANES + l) % 3;
            two[p][l] = channel == 1 ? LANES + pixel : pixel;
            three[p][l] = channel == 2 ? LANES + pixel : l;
        }
    for (int j = 0; j < count; j += LANES) {
        const Lanes r = load_lanes(channels[0] + j), g = load_lanes(channels[1] + j), b = load_lanes(channels[2] + j);
        for (int p = 0; p < 3; ++p)
            store_lanes(out + 3 * j + p * LANES, pick_lanes(pick_lanes(r, g, two[p]), b, three[p]));
    }
}

typedef std::uint16_t Halves __attribute__((vector_size(SIAMFAST_ISA_BYTES / 2)));

static void round_bfloat(const float *row, int count, std::uint16_t *out) {
    int k = 0;
    for (; k + LANES <= count; k += LANES) {
        const Words bits = reinterpret_cast<Words>(load_lanes(row + k));
        const Halves rounded = __builtin_convertvector((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16, Halves);
        __builtin_memcpy(out + k, &rounded, sizeof(rounded));
    }
    for (; k < count; ++k) {
        std::uint32_t bits;
        __builtin_memcpy(&bits, row + k, sizeof(bits));
        out[k] = static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }
}

static const AugmentKernels kernels = {mix_rows, mix_pixels, finish, interleave, round_bfloat};
