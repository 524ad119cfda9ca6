#include "march_simd.h"

namespace nerfad {

MarchUnit march_avx2() { return {count, write, inference}; }

}  // namespace nerfad
