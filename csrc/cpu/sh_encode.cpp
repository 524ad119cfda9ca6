#include "nerfad/sh_encode.h"

namespace nerfad {

namespace {
constexpr int64_t kPointsPerTask = 2048;
}

template <class T>
void sh_encode_fwd_cpu(const ShEncodeFwd<T>& p, const ParallelFor& parallel_for) {
  sh_dispatch(p.degree, [&](auto degree) {
    parallel_for(p.n, kPointsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sh_encode_fwd_point<T, decltype(degree)::value>(p, i);
    });
  });
}

template <class T>
void sh_encode_bwd_cpu(const ShEncodeBwd<T>& p, const ParallelFor& parallel_for) {
  sh_dispatch(p.fwd.degree, [&](auto degree) {
    parallel_for(p.fwd.n, kPointsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) sh_encode_bwd_point<T, decltype(degree)::value>(p, i);
    });
  });
}

template void sh_encode_fwd_cpu(const ShEncodeFwd<float>&, const ParallelFor&);
template void sh_encode_fwd_cpu(const ShEncodeFwd<double>&, const ParallelFor&);
template void sh_encode_bwd_cpu(const ShEncodeBwd<float>&, const ParallelFor&);
template void sh_encode_bwd_cpu(const ShEncodeBwd<double>&, const ParallelFor&);

}  // namespace nerfad
