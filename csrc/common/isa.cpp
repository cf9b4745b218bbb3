// The instruction sets of this CPU and the choice between them.
#include "common/isa.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace siamfast {
namespace {

bool has(Isa isa) {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    if (isa == Isa::avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return isa == Isa::baseline;
}

Isa widest() {
    for (const Isa isa : {Isa::avx512, Isa::avx2})
        if (has(isa)) return isa;
    return Isa::baseline;
}

}  // namespace

const char *isa_name(Isa isa) { return isa == Isa::avx512 ? "avx512" : isa == Isa::avx2 ? "avx2" : "baseline"; }

Isa chosen_isa() {
    static const Isa best = widest();
    const char *asked = std::getenv("SIAMFAST_CPU");
    if (asked == nullptr || *asked == '\0') return best;
    for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512})
        if (std::strcmp(asked, isa_name(isa)) == 0 && has(isa)) return isa;
    throw std::invalid_argument(std::string("SIAMFAST_CPU: got '") + asked +
                                "', expected baseline, avx2 or avx512, and a CPU that has it");
}

}  // namespace siamfast
