#include "nerfad/freq_encode.h"

#include "nerfad/isa.h"

namespace nerfad {

#if defined(__x86_64__)
void freq_encode_rows_avx2(const FreqEncodeFwd<float>&, int64_t begin, int64_t end);
void freq_encode_rows_avx512(const FreqEncodeFwd<float>&, int64_t begin, int64_t end);
#endif

namespace {

constexpr int64_t kRowsPerTask = 512;

template <class T>
void freq_encode_rows_portable(const FreqEncodeFwd<T>& p, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    for (int d = 0; d < p.n_dims; ++d) freq_encode_fwd_element(p, i, d);
  }
}

}  // namespace

template <>
void freq_encode_fwd_cpu(const FreqEncodeFwd<double>& p, const ParallelFor& parallel_for) {
  parallel_for(p.n, kRowsPerTask,
               [&](int64_t begin, int64_t end) { freq_encode_rows_portable(p, begin, end); });
}

template <>
void freq_encode_fwd_cpu(const FreqEncodeFwd<float>& p, const ParallelFor& parallel_for) {
  auto* rows = &freq_encode_rows_portable<float>;
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) {
    rows = &freq_encode_rows_avx512;
  } else if (current_isa() >= Isa::kAvx2) {
    rows = &freq_encode_rows_avx2;
  }
#endif
  parallel_for(p.n, kRowsPerTask, [&](int64_t begin, int64_t end) { rows(p, begin, end); });
}

template <class T>
void freq_encode_bwd_cpu(const FreqEncodeBwd<T>& p, const ParallelFor& parallel_for) {
  parallel_for(p.fwd.n, kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int d = 0; d < p.fwd.n_dims; ++d) freq_encode_bwd_element(p, i, d);
    }
  });
}

template void freq_encode_bwd_cpu(const FreqEncodeBwd<float>&, const ParallelFor&);
template void freq_encode_bwd_cpu(const FreqEncodeBwd<double>&, const ParallelFor&);

}  // namespace nerfad
