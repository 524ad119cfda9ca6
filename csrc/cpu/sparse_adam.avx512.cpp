#include "sparse_adam_simd.h"

namespace nerfad {

void sparse_adam_range_avx512(const SparseAdam<float>& p, int64_t begin, int64_t end) {
  sparse_adam_range(p, begin, end);
}

}  // namespace nerfad
