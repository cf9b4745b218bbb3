// The loops of augment compiled for each instruction set, and the choice between them at run time.
#include "augment/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "common/isa.h"

namespace siamfast {
namespace {
#define SIAMFAST_KERNELS "augment/kernels.inl"
#include "common/each_isa.inl"
}  // namespace

const AugmentKernels &augment_kernels() { return kernels_of(chosen_isa()); }

}  // namespace siamfast
