// One SIMD register of floats and what the kernels do with it; included for each instruction set inside its namespace.

constexpr int LANES = SIAMFAST_ISA_BYTES / 4;
typedef float Lanes __attribute__((vector_size(SIAMFAST_ISA_BYTES)));
typedef std::int32_t Places __attribute__((vector_size(SIAMFAST_ISA_BYTES)));

template <int N>
using Registers = Lanes[static_cast<std::size_t>(N)];

static inline Lanes load_lanes(const float *from) {
    Lanes value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
}

static inline void store_lanes(float *to, Lanes value) { __builtin_memcpy(to, &value, sizeof(value)); }

static inline Lanes splat(float value) { return value - Lanes{}; }  // not `+`: -0 + 0 is 0

// a * b + c. Fused where the instruction set has it: the build keeps the compiler from fusing on its own.
static inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
#if SIAMFAST_ISA_BYTES == 64
    return reinterpret_cast<Lanes>(_mm512_fmadd_ps(a, b, c));
#elif SIAMFAST_ISA_BYTES == 32
    return reinterpret_cast<Lanes>(_mm256_fmadd_ps(a, b, c));
#elif defined(__aarch64__)
    return reinterpret_cast<Lanes>(vfmaq_f32(reinterpret_cast<float32x4_t>(c), reinterpret_cast<float32x4_t>(a),
                                             reinterpret_cast<float32x4_t>(b)));
#else
    return a * b + c;
#endif
}

// Lane l of the result: lane places[l] of a, or places[l] - LANES of b.
static inline Lanes pick_lanes(Lanes a, Lanes b, Places places) {
#if defined(__clang__)
    Lanes chosen;
    for (int l = 0; l < LANES; ++l) chosen[l] = places[l] < LANES ? a[places[l]] : b[places[l] - LANES];
    return chosen;
#else
    return __builtin_shuffle(a, b, places);
#endif
}

// rows[r][l] <-> rows[l][r]: at step s, blocks of s x s off the diagonal change places.
static inline void transpose(Lanes *rows) {
#pragma GCC unroll 8
    for (int step = 1; step < LANES; step *= 2) {
        Places low{}, high{};
#pragma GCC unroll 16
        for (int l = 0; l < LANES; ++l) {
            low[l] = l & step ? LANES + (l - step) : l;
            high[l] = l & step ? LANES + l : l + step;
        }
#pragma GCC unroll 16
        for (int r = 0; r < LANES; ++r) {
            if (r & step) continue;
            const Lanes a = rows[r], b = rows[r + step];
            rows[r] = pick_lanes(a, b, low);
            rows[r + step] = pick_lanes(a, b, high);
        }
    }
}
