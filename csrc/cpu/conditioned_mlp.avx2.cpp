#include "conditioned_mlp_tiles.h"

namespace nerfad {

const MlpKernels<float>& mlp_kernels_avx2() { return mlp_kernels<Avx2Simd>(); }

const MlpKernels<float>& mlp_kernels_rounded_avx2() { return mlp_kernels<Bf16Rounded<Avx2Simd>, Avx2Simd>(); }

}  // namespace nerfad
