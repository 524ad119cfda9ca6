// The marching passes over a range of rays, once per instruction set.
#pragma once
#include "march_slots.h"

namespace nerfad {

struct MarchUnit {
  void (*count)(const MarchCount&, int64_t begin, int64_t end);
  void (*write)(const MarchWrite&, int64_t begin, int64_t end);
  void (*inference)(const MarchInference&, int64_t begin, int64_t end);
  int (*start_slots)(const MarchRays&, int64_t first, int n, MarchSlots& slots, int32_t* which);
  void (*next_in_slots)(const MarchGrid&, MarchSlots& slots, int n, int32_t* going);
};

MarchUnit march_unit();  // for this machine

MarchUnit march_avx2();
MarchUnit march_avx512();

}  // namespace nerfad
