// The loops of the logistic loss compiled for each instruction set, and the choice between them at run time.
#include "loss_kernels.h"

#include <cmath>
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "isa.h"

namespace siamfast {
namespace {
#define SIAMFAST_KERNELS "loss_kernels.inl"
#include "each_isa.inl"
}  // namespace

const LossKernels &loss_kernels() { return kernels_of(chosen_isa()); }

}  // namespace siamfast
