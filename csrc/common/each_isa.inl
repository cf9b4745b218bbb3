// Compiles SIAMFAST_KERNELS, a file that defines `static const TABLE kernels`, once for each instruction set, and
// defines `kernels_of(isa)`. Included inside namespace siamfast { namespace { ... } } by one source file a table.
namespace baseline {
#define SIAMFAST_ISA_BYTES 16
#include SIAMFAST_KERNELS
#undef SIAMFAST_ISA_BYTES
}  // namespace baseline

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define SIAMFAST_ISA_BYTES 32
#include SIAMFAST_KERNELS
#undef SIAMFAST_ISA_BYTES
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif
namespace avx512 {
#define SIAMFAST_ISA_BYTES 64
#include SIAMFAST_KERNELS
#undef SIAMFAST_ISA_BYTES
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

static inline const auto &kernels_of(Isa isa) {
    return isa == Isa::avx512 ? avx512::kernels : isa == Isa::avx2 ? avx2::kernels : baseline::kernels;
}
#else
static inline const auto &kernels_of(Isa) { return baseline::kernels; }
#endif
