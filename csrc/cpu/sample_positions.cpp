#include "nerfad/sample_positions.h"

namespace nerfad {

namespace {
constexpr int64_t kRaysPerTask = 256;
}

template <class T>
void sample_positions_fwd_cpu(const SamplePositionsFwd<T>& p, const ParallelFor& parallel_for) {
  parallel_for(p.n_rays, kRaysPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) sample_positions_fwd_ray(p, ray);
  });
}

template <class T>
void sample_positions_bwd_cpu(const SamplePositionsBwd<T>& p, const ParallelFor& parallel_for) {
  parallel_for(p.fwd.n_rays, kRaysPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t ray = begin; ray < end; ++ray) sample_positions_bwd_ray(p, ray);
  });
}

template void sample_positions_fwd_cpu(const SamplePositionsFwd<float>&, const ParallelFor&);
template void sample_positions_fwd_cpu(const SamplePositionsFwd<double>&, const ParallelFor&);
template void sample_positions_bwd_cpu(const SamplePositionsBwd<float>&, const ParallelFor&);
template void sample_positions_bwd_cpu(const SamplePositionsBwd<double>&, const ParallelFor&);

}  // namespace nerfad
