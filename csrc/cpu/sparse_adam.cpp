#include "nerfad/sparse_adam.h"

#include "nerfad/isa.h"

namespace nerfad {

#if defined(__x86_64__)
void sparse_adam_range_avx2(const SparseAdam<float>&, int64_t begin, int64_t end);
void sparse_adam_range_avx512(const SparseAdam<float>&, int64_t begin, int64_t end);
#endif

namespace {

constexpr int64_t kElementsPerTask = 1 << 15;

template <class T>
void sparse_adam_range_portable(const SparseAdam<T>& p, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) sparse_adam_element(p, i);
}

}  // namespace

template <>
void sparse_adam_cpu(const SparseAdam<double>& p, const ParallelFor& parallel_for) {
  parallel_for(p.n, kElementsPerTask,
               [&](int64_t begin, int64_t end) { sparse_adam_range_portable(p, begin, end); });
}

template <>
void sparse_adam_cpu(const SparseAdam<float>& p, const ParallelFor& parallel_for) {
  auto* range = &sparse_adam_range_portable<float>;
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) {
    range = &sparse_adam_range_avx512;
  } else if (current_isa() >= Isa::kAvx2) {
    range = &sparse_adam_range_avx2;
  }
#endif
  parallel_for(p.n, kElementsPerTask, [&](int64_t begin, int64_t end) { range(p, begin, end); });
}

}  // namespace nerfad
