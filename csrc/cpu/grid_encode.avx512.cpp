#include "grid_encode_simd_launch.h"

namespace nerfad {

void grid_encode_fwd_avx512(const GridEncodeFwd<float>& p, const ParallelFor& parallel_for) {
  encode_fwd(p, parallel_for);
}

void grid_encode_bwd_avx512(const GridEncodeBwd<float>& p, const ParallelFor& parallel_for) {
  encode_bwd(p, parallel_for);
}

void grid_encode_trial_avx512(bool gathered, const GridLevel& level, const float* table,
                              const float* const* positions, int64_t n, float* features) {
  encode_level_block<float, 3, 2>(level, false, table, nullptr, gathered, positions, n, features);
}

}  // namespace nerfad
