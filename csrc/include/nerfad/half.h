// 16-bit floating-point storage, read and widened to float32, and rounding to bfloat16.
#pragma once
#include <cstring>

#include "nerfad/hd.h"
#if defined(__CUDACC__)
#include <cuda_fp16.h>
#endif

namespace nerfad {

struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

NERFAD_HD float float_from_bits(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
#endif
}

// To nearest, ties to even; a NaN stays one. Host only.
inline BFloat16 round_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (value != value) return {static_cast<uint16_t>(bits >> 16 | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

NERFAD_HD float widen(float value) { return value; }
NERFAD_HD double widen(double value) { return value; }
NERFAD_HD float widen(BFloat16 value) { return float_from_bits(static_cast<uint32_t>(value.bits) << 16); }

NERFAD_HD float widen(Half value) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(value.bits));
#else
  constexpr uint32_t kExponent = 0x0f800000;  // float16's exponent, moved to float32's place
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
  uint32_t bits = static_cast<uint32_t>(value.bits & 0x7fff) << 13;
  const uint32_t exponent = bits & kExponent;
  bits += (127 - 15) << 23;
  if (exponent == kExponent) {  // infinity, NaN
    bits += (128 - 16) << 23;
  } else if (exponent == 0) {  // subnormal: let float arithmetic normalise it
    const float normalised = float_from_bits(bits + (1u << 23)) - float_from_bits(113u << 23);
    std::memcpy(&bits, &normalised, sizeof(bits));
  }
  return float_from_bits(bits | sign);
#endif
}

}  // namespace nerfad
