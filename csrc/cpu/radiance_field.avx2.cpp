#include "radiance_field_tiles.h"  // first: it silences gcc 12 about its own intrinsics

#include "radiance_field_encode_simd.h"

namespace nerfad {

const FieldKernels<float>& field_kernels_avx2() { return field_kernels<Avx2Simd, VectorEncode>(); }

const FieldKernels<float>& field_kernels_rounded_avx2() {
  return field_kernels<Bf16Rounded<Avx2Simd>, VectorEncode, Avx2Simd>();
}

}  // namespace nerfad
