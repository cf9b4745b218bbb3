// Which instruction set the kernels use: the widest that this CPU has, or the one that SIAMFAST_CPU names.
#pragma once

namespace siamfast {

enum class Isa : int { baseline = 0, avx2 = 1, avx512 = 2 };

// Reads SIAMFAST_CPU ("baseline", "avx2", "avx512") at every call, so that a test can walk through them. Throws
// std::invalid_argument for a name that this CPU or this build does not have.
Isa chosen_isa();

const char *isa_name(Isa isa);

}  // namespace siamfast
