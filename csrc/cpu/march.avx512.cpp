#include "march_simd.h"

namespace nerfad {

MarchUnit march_avx512() { return {count, write, inference}; }

}  // namespace nerfad
