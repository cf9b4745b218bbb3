// The loops of the logistic loss, included once for each instruction set inside its own namespace.
#include "common/lanes.inl"

// After lanes.inl, which it uses.
#include "common/exponential.inl"

static inline Lanes square_root(Lanes value) {
#if SIAMFAST_ISA_BYTES == 64
    return reinterpret_cast<Lanes>(_mm512_maskz_sqrt_ps(0xffff, value));  // the plain one warns in GCC 12
#elif SIAMFAST_ISA_BYTES == 32
    return reinterpret_cast<Lanes>(_mm256_sqrt_ps(value));
#else
    for (int l = 0; l < LANES; ++l) value[l] = std::sqrt(value[l]);
    return value;
#endif
}

// log(1 + t + low) for t in [0, 1] within 2 ulp, given 1 / (1 + t): t - t^2 / 2 + t^3 R(t), so that the polynomial's
// roundings weigh little; R as P above, 1e-9.
static inline Lanes log_of_1_plus(Lanes t, Lanes low, Lanes slope) {
    Lanes r = splat(0.0022777667f);
    r = multiply_add(r, t, splat(-0.0146890557f));
    r = multiply_add(r, t, splat(0.0443127330f));
    r = multiply_add(r, t, splat(-0.0859351974f));
    r = multiply_add(r, t, splat(0.1268075553f));
    r = multiply_add(r, t, splat(-0.1622889022f));
    r = multiply_add(r, t, splat(0.1992646231f));
    r = multiply_add(r, t, splat(-0.2499332773f));
    r = multiply_add(r, t, splat(0.3333309359f));
    const Lanes tail = multiply_add(t * t * t, r, t * t * -0.5f);
    return multiply_add(low, slope, tail) + t;
}

static void labels(const LabelRule &rule, float center_y, float center_x, int height, int width, float *out) {
    Lanes steps;
    for (int l = 0; l < LANES; ++l) steps[l] = static_cast<float>(l);
    // The same operations in the same order as the reference's, so that no cell falls on another side of a radius.
    for (int y = 0; y < height; ++y) {
        const Lanes dy = splat(static_cast<float>(y) - center_y);
        for (int x = 0; x < width; x += LANES) {
            const Lanes dx = (steps + static_cast<float>(x)) - center_x;
            const Lanes away = rule.l2 ? square_root(dx * dx + dy * dy) : magnitude(dx) + magnitude(dy);
            const Lanes distance = away * rule.stride;
            Lanes label = distance <= rule.r_far ? splat(rule.between) : splat(0.0f);
            label = distance <= rule.r_pos ? splat(1.0f) : label;
            float found[LANES];
            store_lanes(found, label);
            const int used = width - x < LANES ? width - x : LANES;
            __builtin_memcpy(out + y * width + x, found, sizeof(float) * static_cast<std::size_t>(used));
        }
    }
}

static void count(const float *given, int cells, int *positives, int *negatives) {
    int ones = 0, zeros = 0;
    for (int k = 0; k < cells; ++k) {
        ones += given[k] == 1.0f;
        zeros += given[k] == 0.0f;
    }
    *positives = ones;
    *negatives = zeros;
}

static inline Lanes cell_run(Lanes s, Lanes y, const CellWeights &weights, Lanes *slope) {
    Lanes w = (y > 0.0f) & (y < 1.0f) ? splat(weights.neutral) : splat(0.0f);
    w = y == 1.0f ? splat(weights.positive) : w;
    w = y == 0.0f ? splat(weights.negative) : w;
    Lanes low;
    const Lanes e = exp_of_minus(magnitude(s), &low), r = 1.0f / (1.0f + e);
    // max(s, 0) - s * y, and sigmoid(s) - y, without the difference of numbers near one another.
    const Lanes wrong = s > 0.0f ? 1.0f - y : splat(0.0f) - y;
    const Lanes loss = wrong * s + log_of_1_plus(e, low, r);
    const Lanes d = s > 0.0f ? wrong - e * r : wrong + e * r;
    *slope = w != 0.0f ? w * d : splat(0.0f);
    return w != 0.0f ? w * loss : splat(0.0f);
}

static float cells(const float *scores, const float *given, int count, const CellWeights &weights, float *slope) {
    Lanes sum = splat(0.0f), d;
    int k = 0;
    for (; k + LANES <= count; k += LANES) {
        sum += cell_run(load_lanes(scores + k), load_lanes(given + k), weights, &d);
        store_lanes(slope + k, d);
    }
    if (k < count) {
        const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(count - k);
        float s[LANES] = {}, y[LANES], found[LANES];
        for (int l = 0; l < LANES; ++l) y[l] = -1.0f;  // weighs nothing
        __builtin_memcpy(s, scores + k, bytes);
        __builtin_memcpy(y, given + k, bytes);
        sum += cell_run(load_lanes(s), load_lanes(y), weights, &d);
        store_lanes(found, d);
        __builtin_memcpy(slope + k, found, bytes);
    }
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) sum[l] += sum[l + half];
    return sum[0];
}

static const LossKernels kernels = {labels, count, cells};
