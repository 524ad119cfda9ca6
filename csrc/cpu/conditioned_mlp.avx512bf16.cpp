#include "conditioned_mlp_tiles.h"

namespace nerfad {

const MlpKernels<float, BFloat16>& mlp_kernels_avx512bf16() { return mlp_kernels<Avx512Bf16, Avx512Simd>(); }

}  // namespace nerfad
