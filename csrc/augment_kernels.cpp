// The loops of augment compiled for each instruction set, and the choice between them at run time.
#include "augment_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "isa.h"

namespace siamfast {
namespace {
#define SIAMFAST_KERNELS "augment_kernels.inl"
#include "each_isa.inl"
}  // namespace

const AugmentKernels &augment_kernels() { return kernels_of(chosen_isa()); }

}  // namespace siamfast
