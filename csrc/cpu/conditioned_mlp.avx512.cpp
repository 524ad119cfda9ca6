#include "conditioned_mlp_tiles.h"

namespace nerfad {

const MlpKernels<float>& mlp_kernels_avx512() {
  static const MlpKernels<float> kernels{mlp_forward_task<Avx512Simd>, mlp_backward_task<Avx512Simd>};
  return kernels;
}

}  // namespace nerfad
