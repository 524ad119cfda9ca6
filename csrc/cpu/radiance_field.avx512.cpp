#include "radiance_field_tiles.h"  // first: it silences gcc 12 about its own intrinsics

#include "radiance_field_encode_simd.h"

namespace nerfad {

const FieldKernels<float>& field_kernels_avx512() { return field_kernels<Avx512Simd, VectorEncode>(); }

const FieldKernels<float>& field_kernels_rounded_avx512() {
  return field_kernels<Bf16Rounded<Avx512Simd>, VectorEncode, Avx512Simd>();
}

}  // namespace nerfad
