// The loops of the warp compiled for each instruction set, and the choice between them at run time.
#include "warp_kernels.h"

#include <cmath>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "isa.h"

namespace siamfast {
namespace {
constexpr float kMinus = -std::numeric_limits<float>::infinity();
#define SIAMFAST_KERNELS "warp_kernels.inl"
#include "each_isa.inl"
}  // namespace

const WarpKernels &warp_kernels() { return kernels_of(chosen_isa()); }

}  // namespace siamfast
