// The loops of the warp, included once for each instruction set inside its own namespace.
#include "common/lanes.inl"

// After lanes.inl, which it uses.
#include "common/exponential.inl"

// --------------------------------------------------------------------------------------------------------- products
constexpr int kTogether = 2;  // panels whose sums fit the registers beside one another
// Of a tile, at once: AVX-512 and NEON have 32 registers, the others 16.
#if SIAMFAST_ISA_BYTES == 64 || defined(__aarch64__)
constexpr int kRows = kTile;
#else
constexpr int kRows = kTile / 2;
#endif

// out[m * out_step + p * out_panel + lane] (+)= sum_r a[m * TILE_STEP + r * STEP] * b[r * b_step + p * b_panel + lane],
// for kTile m and PANELS p. r < length goes on for `times` a, a_next apart.
template <int PANELS, int TILE_STEP, int STEP, bool ADD>
static void product(const float *a, const float *b, std::ptrdiff_t b_step, std::ptrdiff_t b_panel, int length,
                    float *out, std::ptrdiff_t out_step, std::ptrdiff_t out_panel, int times = 1,
                    std::ptrdiff_t a_next = 0) {
    for (int first = 0; first < kTile; first += kRows, a += kRows * TILE_STEP, out += kRows * out_step) {
        Registers<kRows * PANELS> sums = {};
        if (ADD)
            for (int m = 0; m < kRows; ++m)
                for (int p = 0; p < PANELS; ++p) sums[m * PANELS + p] = load_lanes(out + m * out_step + p * out_panel);
        const float *left = a, *right = b;
        for (int time = 0; time < times; ++time, left += a_next)
            for (int r = 0; r < length; ++r, right += b_step) {
                Registers<PANELS> row;
                for (int p = 0; p < PANELS; ++p) row[p] = load_lanes(right + p * b_panel);
#pragma GCC unroll 12
                for (int m = 0; m < kRows; ++m) {
                    const Lanes factor = splat(left[m * TILE_STEP + r * STEP]);
                    for (int p = 0; p < PANELS; ++p)
                        sums[m * PANELS + p] = multiply_add(factor, row[p], sums[m * PANELS + p]);
                }
            }
        for (int m = 0; m < kRows; ++m)
            for (int p = 0; p < PANELS; ++p) store_lanes(out + m * out_step + p * out_panel, sums[m * PANELS + p]);
    }
}

// Logits of a tile before bias and window: [kTile][step].
static void scores(const WarpKeys &keys, const float *queries, const WarpRun &run, float *out, std::ptrdiff_t step) {
    for (int p = 0; p < run.count;) {
        const float *panel = keys.panels + (run.panel + p) * keys.size;
        if (p + kTogether <= run.count) {
            product<kTogether, 1, kTile, false>(queries, panel, LANES, keys.size, keys.channels, out + p * LANES, step,
                                                LANES);
            p += kTogether;
        } else {
            product<1, 1, kTile, false>(queries, panel, LANES, keys.size, keys.channels, out + p * LANES, step, LANES);
            ++p;
        }
    }
}

static void to_queries(const WarpKeys &keys, const WarpRun &run, const float *turned, int used, float *dq) {
    const float *panels = keys.panels + run.panel * keys.size;
    for (int c = 0; c < keys.channels; c += kTile)
        for (int q = 0; q < used; q += LANES * kTogether) {
            float *const to = dq + c * kQueries + q;
            if (q + LANES < used)
                product<kTogether, LANES, 1, true>(panels + c * LANES, turned + q, kQueries, LANES, LANES, to, kQueries,
                                                   LANES, run.count, keys.size);
            else
                product<1, LANES, 1, true>(panels + c * LANES, turned + q, kQueries, LANES, LANES, to, kQueries, LANES,
                                           run.count, keys.size);
        }
}

// turned [key][kQueries] of slopes [query][step], for `used` queries filled up to whole registers.
static void turn(const float *slopes, std::ptrdiff_t step, int used, int count, float *turned) {
    for (int q = 0; q < used; q += LANES)
        for (int key = 0; key < count; key += LANES) {
            Registers<LANES> tile;
            for (int l = 0; l < LANES; ++l) tile[l] = load_lanes(slopes + (q + l) * step + key);
            transpose(tile);
            for (int l = 0; l < LANES; ++l) store_lanes(turned + (key + l) * kQueries + q, tile[l]);
        }
}

static void to_keys(const WarpKeys &keys, const WarpRun &run, const float *queries, const float *slopes,
                    std::ptrdiff_t step, int used, float *dk) {
    for (int p = 0; p < run.count;) {
        float *panel = dk + (run.panel + p) * keys.size;
        const int together = p + kTogether <= run.count ? kTogether : 1;
        for (int c = 0; c < keys.channels; c += kTile) {
            const float *from = queries + c * kQueries;
            if (together == kTogether)
                product<kTogether, kQueries, 1, true>(from, slopes + p * LANES, step, LANES, used, panel + c * LANES,
                                                      LANES, keys.size);
            else
                product<1, kQueries, 1, true>(from, slopes + p * LANES, step, LANES, used, panel + c * LANES, LANES,
                                              keys.size);
        }
        p += together;
    }
}

constexpr float kShortest = 1e-12f;  // F.normalize's: shorter vectors are divided by it

static void normalize(float *panel, int channels, float *factors) {
    Lanes squares = {};
    for (int c = 0; c < channels; ++c) {
        const Lanes value = load_lanes(panel + c * LANES);
        squares = multiply_add(value, value, squares);
    }
    Lanes factor;
    for (int l = 0; l < LANES; ++l) {
        const float length = __builtin_sqrtf(squares[l]);
        factor[l] = 1.0f / (length < kShortest ? kShortest : length);
    }
    for (int c = 0; c < channels; ++c) store_lanes(panel + c * LANES, load_lanes(panel + c * LANES) * factor);
    store_lanes(factors, factor);
}

static void denormalize(const float *panel, int channels, const float *factors, float *slopes) {
    Lanes along = {}, length = {};
    for (int c = 0; c < channels; ++c) {
        const Lanes unit = load_lanes(panel + c * LANES);
        along = multiply_add(unit, load_lanes(slopes + c * LANES), along);
        length = multiply_add(unit, unit, length);
    }
    along = length > 0.5f ? along : splat(0.0f);  // what was too short to get length 1 was only multiplied
    const Lanes factor = load_lanes(factors);
    for (int c = 0; c < channels; ++c) {
        const Lanes across = load_lanes(slopes + c * LANES) - load_lanes(panel + c * LANES) * along;
        store_lanes(slopes + c * LANES, across * factor);
    }
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
static inline Places numbered_lanes() {
    Places lane;
    for (int l = 0; l < LANES; ++l) lane[l] = l;
    return lane;
}

// Logits with their bias; `seen`: by query m.
static inline Lanes logit_at(const WarpKeys &keys, const WarpRun &run, int m, int i, const float *logits, Places lane,
                             Places *seen) {
    Lanes logit = load_lanes(logits + i);
    if (keys.bias != nullptr) logit += load_lanes(keys.bias + run.panel * LANES + i);
    const Places place = lane + (run.begin + i);
    *seen = (place >= run.first[m]) & (place <= run.last[m]);
    return logit;
}

static void attend(const WarpKeys &keys, const float *queries, int used, const WarpRun &run, const WarpState &state,
                   float *room) {
    const int count = run.count * LANES;
    const Places lane = numbered_lanes();
    scores(keys, queries, run, room, count);
    for (int m = 0; m < used; ++m) {
        float *logits = room + static_cast<std::ptrdiff_t>(m) * count;
        Lanes most = splat(kMinus);
        Places none = {}, seen;
        for (int i = 0; i < count; i += LANES) {
            Lanes logit = logit_at(keys, run, m, i, logits, lane, &seen);
            none |= (logit != logit) & seen;
            logit = seen ? logit : splat(kMinus);
            most = logit > most ? logit : most;
            store_lanes(logits + i, logit);
        }
        for (int l = 0; l < LANES; ++l) state.nan[m] |= none[l] != 0;
        const float found = largest_lane(most);
        if (!(found > kMinus) || state.nan[m]) continue;
        if (state.top > 0) add_top(state, m, logits, count, run.key);
        if (state.softmax) add_softmax(keys, state, m, logits, count, run.panel * LANES, found);
    }
}

static void slopes(const WarpKeys &keys, const float *queries, int used, const WarpRun &run, const WarpSlopes &of,
                   float *out, std::ptrdiff_t step) {
    const Places lane = numbered_lanes();
    scores(keys, queries, run, out, step);
    for (int i = 0; i < run.count * LANES; i += LANES) {
        const std::ptrdiff_t key = run.panel * LANES + i;
        Registers<kTile> weights;
        Lanes sum = {};
        for (int m = 0; m < used; ++m) {
            Places seen;
            float *row = out + m * step;
            const Lanes level = logit_at(keys, run, m, i, row, lane, &seen) - of.lse[m];
            const Lanes weight = seen ? weight_of(splat(0.0f) - level) : splat(0.0f);
            Lanes slope = splat(-of.base[m]);
            for (int k = 0; k < keys.value_channels; ++k)
                slope = multiply_add(splat(of.by_values[k * kTile + m]),
                                     load_lanes(keys.values + k * keys.padded + key), slope);
            if (of.any_entropy) slope -= of.by_entropy[m] * (level + of.entropy[m]);
            slope = weight != 0.0f ? weight * slope : splat(0.0f);
            store_lanes(row + i, slope);
            weights[m] = weight;
            sum += slope;
        }
        for (int m = used; m < kTile; ++m) store_lanes(out + m * step + i, Lanes{});
        store_lanes(of.bias + key, load_lanes(of.bias + key) + sum);
        for (int k = 0; k < keys.value_channels; ++k) {
            Lanes total = load_lanes(of.values + k * keys.padded + key);
            for (int m = 0; m < used; ++m) total = multiply_add(splat(of.by_values[k * kTile + m]), weights[m], total);
            store_lanes(of.values + k * keys.padded + key, total);
        }
    }
}

static float dot(const float *a, const float *b, int count) {
    Lanes one = {}, other = {};  // two chains: a sum waits for the one before it
    int k = 0;
    for (; k + 2 * LANES <= count; k += 2 * LANES) {
        one = multiply_add(load_lanes(a + k), load_lanes(b + k), one);
        other = multiply_add(load_lanes(a + k + LANES), load_lanes(b + k + LANES), other);
    }
    if (k < count) one = multiply_add(load_lanes(a + k), load_lanes(b + k), one);
    float lanes[LANES];
    store_lanes(lanes, one + other);
    return sum_of_lanes(lanes);
}

static void add_scaled(const float *a, float factor, int count, float *to) {
    const Lanes by = splat(factor);
    for (int k = 0; k < count; k += LANES) store_lanes(to + k, multiply_add(by, load_lanes(a + k), load_lanes(to + k)));
}

static const WarpKernels kernels = {LANES, normalize,  denormalize, attend, sum_of_lanes, slopes,
                                    turn,  to_queries, to_keys,     dot,    add_scaled};
