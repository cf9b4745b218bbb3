// The loops of the logistic loss compiled for each instruction set, and the choice between them at run time.
#include "balanced_logistic_loss/kernels.h"

#include <cmath>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "common/isa.h"

namespace siamfast {
namespace {
#define SIAMFAST_KERNELS "balanced_logistic_loss/kernels.inl"
#include "common/each_isa.inl"
}  // namespace

const LossKernels &loss_kernels() { return kernels_of(chosen_isa()); }

}  // namespace siamfast
