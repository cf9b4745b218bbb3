// The row loops compiled for each instruction set, and the choice between them at run time.
#include "row_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "isa.h"

namespace siamfast {
namespace {
#define SIAMFAST_KERNELS "row_kernels.inl"
#include "each_isa.inl"
}  // namespace

const RowKernels &row_kernels() { return kernels_of(chosen_isa()); }

}  // namespace siamfast
