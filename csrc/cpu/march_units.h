// The marching passes over a range of rays, once per instruction set.
#pragma once
#include "nerfad/march.h"

namespace nerfad {

struct MarchUnit {
  void (*count)(const MarchCount&, int64_t begin, int64_t end);
  void (*write)(const MarchWrite&, int64_t begin, int64_t end);
  void (*inference)(const MarchInference&, int64_t begin, int64_t end);
};

MarchUnit march_avx2();
MarchUnit march_avx512();

}  // namespace nerfad
