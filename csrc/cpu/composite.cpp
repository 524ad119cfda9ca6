#include "nerfad/composite.h"

namespace nerfad {

namespace {
constexpr int64_t kRaysPerTask = 256;
}

template <class T>
void composite_fwd_cpu(const CompositeFwd<T>& p, const ParallelFor& parallel_for) {
  parallel_for(p.n_rays, kRaysPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) composite_fwd_ray(p, ray);
  });
}

template <class T>
void composite_bwd_cpu(const CompositeBwd<T>& p, const ParallelFor& parallel_for) {
  parallel_for(p.fwd.n_rays, kRaysPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) composite_bwd_ray(p, ray);
  });
}

template void composite_fwd_cpu(const CompositeFwd<float>&, const ParallelFor&);
template void composite_fwd_cpu(const CompositeFwd<double>&, const ParallelFor&);
template void composite_bwd_cpu(const CompositeBwd<float>&, const ParallelFor&);
template void composite_bwd_cpu(const CompositeBwd<double>&, const ParallelFor&);

}  // namespace nerfad
