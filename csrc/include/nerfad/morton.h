// Morton codes: bits of x, y, z interleaved, x lowest; up to 10 bits per axis.
#pragma once
#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

struct MortonEncode {
  const int32_t* coords;  // [n, 3]
  int32_t* codes;         // out [n]
  int64_t n;
};

struct MortonDecode {
  const int32_t* codes;  // [n]
  int32_t* coords;       // out [n, 3]
  int64_t n;
};

// Moves bit i to bit 3 i.
NERFAD_HD uint32_t spread_bits(uint32_t x) {
  x &= 0x3ff;
  x = (x | x << 16) & 0x030000ff;
  x = (x | x << 8) & 0x0300f00f;
  x = (x | x << 4) & 0x030c30c3;
  return (x | x << 2) & 0x09249249;
}

// Moves bit 3 i to bit i.
NERFAD_HD uint32_t gather_bits(uint32_t x) {
  x &= 0x09249249;
  x = (x | x >> 2) & 0x030c30c3;
  x = (x | x >> 4) & 0x0300f00f;
  x = (x | x >> 8) & 0x030000ff;
  return (x | x >> 16) & 0x3ff;
}

NERFAD_HD uint32_t morton_code(uint32_t x, uint32_t y, uint32_t z) {
  return spread_bits(x) | spread_bits(y) << 1 | spread_bits(z) << 2;
}

NERFAD_HD void morton_encode_point(const MortonEncode& p, int64_t i) {
  const int32_t* c = p.coords + 3 * i;
  p.codes[i] = static_cast<int32_t>(morton_code(c[0], c[1], c[2]));
}

NERFAD_HD void morton_decode_code(const MortonDecode& p, int64_t i) {
  const uint32_t code = static_cast<uint32_t>(p.codes[i]);
  for (int axis = 0; axis < 3; ++axis)
    p.coords[3 * i + axis] = static_cast<int32_t>(gather_bits(code >> axis));
}

void morton_encode_cpu(const MortonEncode& p, const ParallelFor& parallel_for);
void morton_decode_cpu(const MortonDecode& p, const ParallelFor& parallel_for);

}  // namespace nerfad
