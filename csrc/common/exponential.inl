// exp(-a) of one register; included after lanes.inl, for each instruction set inside its namespace.

static inline Lanes bits_as_lanes(Places bits) { return reinterpret_cast<Lanes>(bits); }
static inline Places lanes_as_bits(Lanes value) { return reinterpret_cast<Places>(value); }

static inline Lanes magnitude(Lanes value) { return bits_as_lanes(lanes_as_bits(value) & 0x7fffffff); }

// exp(-a) for a >= 0 within an ulp, subnormal results too; nan stays. *low: what rounding took from it.
// exp(r) = 1 + r + r^2 P(r) on half a binade about 1; P by weighted least squares towards the least largest relative
// error, 3e-9.
static inline Lanes exp_of_minus(Lanes a, Lanes *low) {
    a = a > 104.0f ? splat(104.0f) : a;   // 2^-150 and less is 0
    constexpr float magic = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
    const Lanes shifted = a * splat(-1.44269504f) + magic, whole = shifted - magic;
    // ln 2 in two parts, the first with so few bits that its products are exact.
    const Lanes minus = splat(0.0f) - whole;
    Lanes r = multiply_add(minus, splat(0.693359375f), splat(0.0f) - a);
    r = multiply_add(minus, splat(-2.12194440e-4f), r);
    Lanes p = splat(0.0013813143f);
    p = multiply_add(p, r, splat(0.0083694190f));
    p = multiply_add(p, r, splat(0.0416684568f));
    p = multiply_add(p, r, splat(0.1666651479f));
    p = multiply_add(p, r, splat(0.4999999305f));
    p = multiply_add(p, r * r, r);
    const Lanes sum = p + 1.0f;
    // 2^n as two factors, for n goes down to -150; only the second product rounds.
    const Places n = lanes_as_bits(shifted) - 0x4b400000, half = n >> 1;
    const Lanes one = bits_as_lanes((half + 127) << 23), other = bits_as_lanes((n - half + 127) << 23);
    *low = (p - (sum - 1.0f)) * one * other;
    return sum * one * other;
}
