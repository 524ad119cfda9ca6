#include "conditioned_mlp_tiles.h"

namespace nerfad {

const MlpKernels<float>& mlp_kernels_avx2() {
  static const MlpKernels<float> kernels{mlp_forward_task<Avx2Simd>, mlp_backward_task<Avx2Simd>};
  return kernels;
}

}  // namespace nerfad
