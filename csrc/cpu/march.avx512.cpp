#include "march_slots_simd.h"

namespace nerfad {

MarchUnit march_avx512() { return {count, write, inference, start_slots, next_in_slots}; }

}  // namespace nerfad
