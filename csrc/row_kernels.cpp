// The row loops compiled for each instruction set, and the choice between them at run time.
#include "row_kernels.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace siamfast {

namespace baseline {
#define SIAMFAST_ISA_NAME "baseline"
#define SIAMFAST_ISA_BYTES 16
#include "row_kernels.inl"
#undef SIAMFAST_ISA_BYTES
#undef SIAMFAST_ISA_NAME
}  // namespace baseline

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define SIAMFAST_X86 1

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define SIAMFAST_ISA_NAME "avx2"
#define SIAMFAST_ISA_BYTES 32
#include "row_kernels.inl"
#undef SIAMFAST_ISA_BYTES
#undef SIAMFAST_ISA_NAME
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
#define SIAMFAST_ISA_NAME "avx512"
#define SIAMFAST_ISA_BYTES 64
#include "row_kernels.inl"
#undef SIAMFAST_ISA_BYTES
#undef SIAMFAST_ISA_NAME
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // x86

namespace {

const RowKernels *find(const char *name) {
#ifdef SIAMFAST_X86
    if (std::strcmp(name, "avx512") == 0) {
        const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
        return has ? &avx512::kernels : nullptr;
    }
    if (std::strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &avx2::kernels : nullptr;
#endif
    return std::strcmp(name, "baseline") == 0 ? &baseline::kernels : nullptr;
}

const RowKernels &widest() {
    for (const char *name : {"avx512", "avx2"})
        if (const RowKernels *found = find(name)) return *found;
    return baseline::kernels;
}

}  // namespace

const RowKernels &row_kernels() {
    static const RowKernels &best = widest();
    const char *asked = std::getenv("SIAMFAST_CPU");
    if (asked == nullptr || *asked == '\0') return best;
    if (const RowKernels *found = find(asked)) return *found;
    throw std::invalid_argument(std::string("SIAMFAST_CPU: got '") + asked +
                                "', expected baseline, avx2 or avx512, and a CPU that has it");
}

}  // namespace siamfast
