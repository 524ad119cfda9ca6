#include "conditioned_mlp_tiles.h"

namespace nerfad {

const MlpKernels<float>& mlp_kernels_avx512() { return mlp_kernels<Avx512Simd>(); }

const MlpKernels<float>& mlp_kernels_rounded_avx512() {
  return mlp_kernels<Bf16Rounded<Avx512Simd>, Avx512Simd>();
}

}  // namespace nerfad
