#include "radiance_field_tiles.h"  // first: it silences gcc 12 about its own intrinsics

#include "radiance_field_encode_simd.h"

namespace nerfad {

const FieldKernels<float, BFloat16>& field_kernels_avx512bf16() {
  return field_kernels<Avx512Bf16, VectorEncode, Avx512Simd>();
}

}  // namespace nerfad
