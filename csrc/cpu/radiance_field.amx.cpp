#include "amx_tiles.h"
#include "radiance_field_tiles.h"  // first: it silences gcc 12 about its own intrinsics

#include "radiance_field_encode_simd.h"

namespace nerfad {

const FieldKernels<float, BFloat16>& field_kernels_amx() {
  return field_kernels<AmxBf16, VectorEncode, Avx512Simd>();
}

}  // namespace nerfad
