#include "nerfad/morton.h"

namespace nerfad {

namespace {
constexpr int64_t kPerTask = 16384;
}

void morton_encode_cpu(const MortonEncode& p, const ParallelFor& parallel_for) {
  parallel_for(p.n, kPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) morton_encode_point(p, i);
  });
}

void morton_decode_cpu(const MortonDecode& p, const ParallelFor& parallel_for) {
  parallel_for(p.n, kPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) morton_decode_code(p, i);
  });
}

}  // namespace nerfad
