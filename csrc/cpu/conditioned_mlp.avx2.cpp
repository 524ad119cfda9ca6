#include "conditioned_mlp_tiles.h"

namespace nerfad {

const MlpKernels<float>& mlp_kernels_avx2() { return mlp_kernels<Avx2Simd>(); }

}  // namespace nerfad
