#include "amx_tiles.h"
#include "conditioned_mlp_tiles.h"

namespace nerfad {

const MlpKernels<float, BFloat16>& mlp_kernels_amx() { return mlp_kernels<AmxBf16, Avx512Simd>(); }

}  // namespace nerfad
