// The loops of the warp, included once for each instruction set inside its own namespace.
#include "lanes.inl"
#include "exponential.inl"

// --------------------------------------------------------------------------------------------------------- products
// out[m * step + lane] = sum_c queries[c * kTile + m] * panel[c * LANES + lane], for PANELS panels side by side.
template <int PANELS>
static void score_panels(const float *queries, const float *panel, int channels, float *out, std::ptrdiff_t step) {
    Registers<kTile * PANELS> sums = {};
    const std::ptrdiff_t next = static_cast<std::ptrdiff_t>(channels) * LANES;
    for (int c = 0; c < channels; ++c) {
        Registers<PANELS> keys;
        for (int p = 0; p < PANELS; ++p) keys[p] = load_lanes(panel + p * next + c * LANES);
#pragma GCC unroll 12
        for (int m = 0; m < kTile; ++m) {
            const Lanes query = splat(queries[c * kTile + m]);
            for (int p = 0; p < PANELS; ++p) sums[m * PANELS + p] = multiply_add(query, keys[p], sums[m * PANELS + p]);
        }
    }
    for (int m = 0; m < kTile; ++m)
        for (int p = 0; p < PANELS; ++p) store_lanes(out + m * step + p * LANES, sums[m * PANELS + p]);
}

static void normalise(float *panel, int channels) {
    Lanes squares = {};
    for (int c = 0; c < channels; ++c) {
        const Lanes value = load_lanes(panel + c * LANES);
        squares = multiply_add(value, value, squares);
    }
    Lanes factor;
    for (int l = 0; l < LANES; ++l) {
        const float length = __builtin_sqrtf(squares[l]);
        factor[l] = 1.0f / (length > 1e-12f ? length : length != length ? length : 1e-12f);
    }
    for (int c = 0; c < channels; ++c) store_lanes(panel + c * LANES, load_lanes(panel + c * LANES) * factor);
}

// ---------------------------------------------------------------------------------------------------------- softmax
static float largest_lane(Lanes value) {
    float found = value[0];
    for (int l = 1; l < LANES; ++l) found = value[l] > found ? value[l] : found;
    return found;
}

static float sum_of_lanes(const float *from) {
    float lanes[LANES];
    __builtin_memcpy(lanes, from, sizeof(lanes));
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    return lanes[0];
}

// exp(-a), and 0 where that would be subnormal: sums do not see it, and subnormal factors take a hundred times as long.
static inline Lanes weight_of(Lanes a) {
    Lanes low;
    const Lanes found = exp_of_minus(a, &low);
    return a > 87.0f ? splat(0.0f) : found;
}

// Query m's logits into its sums, lane by lane, by the largest logit so far.
static void add_softmax(const WarpKeys &keys, const WarpState &state, int m, float *logits, int count,
                        std::ptrdiff_t key, float most) {
    Lanes sum = load_lanes(state.sum + m * LANES), mean = load_lanes(state.mean + m * LANES);
    float *values = state.values + static_cast<std::ptrdiff_t>(m) * keys.value_channels * LANES;
    if (most > state.largest[m]) {
        if (state.largest[m] > kMinus) {
            const Lanes up = splat(most - state.largest[m]), factor = weight_of(up);
            mean = factor * (mean - sum * up);
            sum = sum * factor;
            for (int k = 0; k < keys.value_channels; ++k)
                store_lanes(values + k * LANES, load_lanes(values + k * LANES) * factor);
        }
        state.largest[m] = most;
    }
    const Lanes top = splat(state.largest[m]);
    for (int i = 0; i < count; i += LANES) {
        const Lanes below = top - load_lanes(logits + i), weight = weight_of(below);
        sum += weight;
        mean -= weight > 0.0f ? weight * below : splat(0.0f);
        store_lanes(logits + i, weight);
    }
    store_lanes(state.sum + m * LANES, sum);
    store_lanes(state.mean + m * LANES, mean);
    for (int k = 0; k < keys.value_channels; ++k) {
        const float *from = keys.values + k * keys.padded + key;
        Lanes total = load_lanes(values + k * LANES);
        for (int i = 0; i < count; i += LANES)
            total = multiply_add(load_lanes(logits + i), load_lanes(from + i), total);
        store_lanes(values + k * LANES, total);
    }
}

// ------------------------------------------------------------------------------------------------------------ top k
// Bit l: whether lane l is more than `least`.
static inline unsigned lanes_above(Lanes value, float least) {
#if SIAMFAST_ISA_BYTES == 64
    return _mm512_cmp_ps_mask(value, splat(least), _CMP_GT_OQ);
#elif SIAMFAST_ISA_BYTES == 32
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(value, splat(least), _CMP_GT_OQ)));
#else
    unsigned found = 0;
    for (int l = 0; l < LANES; ++l) found |= static_cast<unsigned>(value[l] > least) << l;
    return found;
#endif
}

// Keys come in rising order and only a larger logit moves another: of equal ones the lower key stays.
static void add_top(const WarpState &state, int m, const float *logits, int count, std::int64_t key) {
    const int top = state.top;
    float *best = state.best + static_cast<std::ptrdiff_t>(m) * top;
    std::int64_t *where = state.where + static_cast<std::ptrdiff_t>(m) * top;
    for (int i = 0; i < count; i += LANES) {
        unsigned more = lanes_above(load_lanes(logits + i), best[top - 1]);
        while (more != 0) {
            const int lane = __builtin_ctz(more);
            more &= more - 1;
            const float logit = logits[i + lane];
            if (!(logit > best[top - 1])) continue;  // the last place has gone up meanwhile
            int place = top - 1;
            for (; place > 0 && logit > best[place - 1]; --place) {
                best[place] = best[place - 1];
                where[place] = where[place - 1];
            }
            best[place] = logit;
            where[place] = key + i + lane;
        }
    }
}

// -------------------------------------------------------------------------------------------------------------- all
static void attend(const WarpKeys &keys, const float *queries, int used, const WarpRun &run, const WarpState &state,
                   float *room) {
    constexpr int together = SIAMFAST_ISA_BYTES == 64 ? 2 : 1;  // the others have registers for one panel's sums
    const int count = run.count * LANES;
    const std::ptrdiff_t size = static_cast<std::ptrdiff_t>(keys.channels) * LANES, key = run.panel * LANES;
    for (int p = 0; p < run.count;) {
        const float *panel = keys.panels + (run.panel + p) * size;
        if (p + together <= run.count) {
            score_panels<together>(queries, panel, keys.channels, room + p * LANES, count);
            p += together;
        } else {
            score_panels<1>(queries, panel, keys.channels, room + p * LANES, count);
            ++p;
        }
    }
    Places lane;
    for (int l = 0; l < LANES; ++l) lane[l] = l;
    for (int m = 0; m < used; ++m) {
        float *logits = room + static_cast<std::ptrdiff_t>(m) * count;
        Lanes most = splat(kMinus);
        Places none = {};
        for (int i = 0; i < count; i += LANES) {
            Lanes logit = load_lanes(logits + i);
            if (keys.bias != nullptr) logit += load_lanes(keys.bias + key + i);
            const Places place = lane + (run.begin + i);
            const Places seen = (place >= run.first[m]) & (place <= run.last[m]);
            none |= (logit != logit) & seen;
            logit = seen ? logit : splat(kMinus);
            most = logit > most ? logit : most;
            store_lanes(logits + i, logit);
        }
        for (int l = 0; l < LANES; ++l) state.nan[m] |= none[l] != 0;
        const float found = largest_lane(most);
        if (!(found > kMinus) || state.nan[m]) continue;
        if (state.top > 0) add_top(state, m, logits, count, run.key);
        if (state.softmax) add_softmax(keys, state, m, logits, count, key, found);
    }
}

static const WarpKernels kernels = {LANES, normalise, attend, sum_of_lanes};
