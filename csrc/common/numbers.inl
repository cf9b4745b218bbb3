// Reading and writing the element types as float, included once for each instruction set inside its own namespace.
// Nothing of the standard library is called here: a template instantiated under AVX flags could be the copy that the
// linker keeps for every CPU.

static inline float from_bits(std::uint32_t bits) {
    float value;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}

static inline std::uint32_t to_bits(float value) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    return bits;
}

static inline float half_to_float(std::uint16_t half) {
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    const std::uint32_t rest = half & 0x7fffu;
    if (rest >= 0x7c00u) return from_bits(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));  // inf, nan
    // Shifted into place the exponent is 112 too small; the product also puts subnormals right.
    return from_bits(sign | to_bits(from_bits(rest << 13) * from_bits(0x77800000u)));  // 2^112
}

static inline std::uint16_t float_to_half(float value) {
    const std::uint32_t bits = to_bits(value), sign = (bits >> 16) & 0x8000u;
    const std::uint32_t size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // nan
    if (size >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to infinity
    if (size < 0x38800000u) {                                                    // subnormal: steps of 2^-24
        const float aligned = from_bits(size) + 0.5f;                            // the addition rounds to even
        return static_cast<std::uint16_t>(sign | (to_bits(aligned) - 0x3f000000u));
    }
    const std::uint32_t rounded = size + 0xfffu + ((size >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

static inline std::uint16_t float_to_bfloat(float value) {
    const std::uint32_t bits = to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
    return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

struct U8 {
    using type = std::uint8_t;
    static inline float read(type v) { return static_cast<float>(v); }
    static inline type write(float v) {
        v = v > 0.0f ? v : 0.0f;  // also takes nan to 0
        v = v < 255.0f ? v : 255.0f;
        return static_cast<type>(static_cast<int>(v + 0.5f));
    }
};
struct F32 {
    using type = float;
    static inline float read(type v) { return v; }
    static inline type write(float v) { return v; }
};
struct Bf16 {
    using type = std::uint16_t;
    static inline float read(type v) { return from_bits(static_cast<std::uint32_t>(v) << 16); }
    static inline type write(float v) { return float_to_bfloat(v); }
};
struct F16 {
    using type = std::uint16_t;
    static inline float read(type v) { return half_to_float(v); }
    static inline type write(float v) { return float_to_half(v); }
};

template <class T>
static inline typename T::type fetch(const char *from) {
    typename T::type value;
    __builtin_memcpy(&value, from, sizeof(value));
    return value;
}

template <class T>
static inline void put(char *to, typename T::type value) {
    __builtin_memcpy(to, &value, sizeof(value));
}
