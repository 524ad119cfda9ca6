#include "gather_features_simd.h"
#include "nerfad/isa.h"

namespace nerfad {

#if defined(__x86_64__)
GatherFeaturesRanges<float> gather_features_ranges_avx2();
GatherFeaturesRanges<float> gather_features_ranges_avx512();
#endif

namespace {

constexpr int64_t kReadsPerTask = 256;
constexpr int64_t kChannelsPerSlice = 64;  // four cache lines of float32

template <class T>
GatherFeaturesRanges<T> current_ranges() {
#if defined(__x86_64__)
  if constexpr (sizeof(T) == sizeof(float)) {
    if (current_isa() >= Isa::kAvx512) return gather_features_ranges_avx512();
    if (current_isa() >= Isa::kAvx2) return gather_features_ranges_avx2();
  }
#endif
  return gather_features_ranges<PortableSimd<T>>();
}

}  // namespace

template <class T>
void gather_features_fwd_cpu(const GatherFeaturesFwd<T>& p, const ParallelFor& parallel_for) {
  const GatherFeaturesRanges<T> ranges = current_ranges<T>();
  parallel_for(p.n_reads(), kReadsPerTask, [&](int64_t begin, int64_t end) { ranges.reads(p, begin, end); });
}

template <class T>
void gather_features_bwd_cpu(const GatherFeaturesBwd<T>& p, const ParallelFor& parallel_for) {
  const GatherFeaturesRanges<T> ranges = current_ranges<T>();
  if (p.grad_pixels) {
    parallel_for(p.fwd.n_reads(), kReadsPerTask,
                 [&](int64_t begin, int64_t end) { ranges.pixel_gradients(p, begin, end); });
  }
  if (!p.grad_maps) return;
  const int64_t n_channels = p.fwd.n_channels;
  const int64_t n_slices = (n_channels + kChannelsPerSlice - 1) / kChannelsPerSlice;
  parallel_for(p.fwd.n_views * n_slices, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task % n_slices * kChannelsPerSlice, past = first + kChannelsPerSlice;
      ranges.map_slice(p, task / n_slices, first, past < n_channels ? past : n_channels);
    }
  });
}

template void gather_features_fwd_cpu(const GatherFeaturesFwd<float>&, const ParallelFor&);
template void gather_features_fwd_cpu(const GatherFeaturesFwd<double>&, const ParallelFor&);
template void gather_features_bwd_cpu(const GatherFeaturesBwd<float>&, const ParallelFor&);
template void gather_features_bwd_cpu(const GatherFeaturesBwd<double>&, const ParallelFor&);

}  // namespace nerfad
