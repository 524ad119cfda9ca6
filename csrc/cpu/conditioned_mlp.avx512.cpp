#include "conditioned_mlp_tiles.h"

namespace nerfad {

const MlpKernels<float>& mlp_kernels_avx512() { return mlp_kernels<Avx512Simd>(); }

}  // namespace nerfad
