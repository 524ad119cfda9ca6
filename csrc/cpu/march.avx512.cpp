#include "march_count_simd.h"  // first: it silences gcc 12 about its own intrinsics

#include "march_slots_simd.h"

namespace nerfad {

MarchUnit march_avx512() { return {count, write, inference, start_slots, next_in_slots}; }

}  // namespace nerfad
