// The loops of the warp compiled for each instruction set, and the choice between them at run time.
#include "correspondence_warp/kernels.h"

#include <cmath>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "common/isa.h"

namespace siamfast {
namespace {
constexpr float kMinus = -std::numeric_limits<float>::infinity();
#define SIAMFAST_KERNELS "correspondence_warp/kernels.inl"
#include "common/each_isa.inl"
}  // namespace

const WarpKernels &warp_kernels() { return kernels_of(chosen_isa()); }

}  // namespace siamfast
