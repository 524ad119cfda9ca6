// A thread per read and run of W channels: neighbouring threads touch neighbouring channels, so that loads
// and stores coalesce whatever n_channels is. Positions take a warp per read, which sums over the channels.
#include "nerfad/gather_features.h"

#include "device.h"

namespace nerfad {

constexpr int kWarp = 32;

template <int W>
struct alignas(W * sizeof(float)) Run {
  float value[W];
};

template <int W>
__device__ __forceinline__ Run<W> load_run(const float* from) {
  return *reinterpret_cast<const Run<W>*>(from);
}

// float32 sums, four at a time where the hardware has it (sm_90 and later).
template <int W>
__device__ __forceinline__ void add_run(float* to, float weight, const Run<W>& run) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (W == 4) {
    atomicAdd(reinterpret_cast<float4*>(to), make_float4(weight * run.value[0], weight * run.value[1],
                                                         weight * run.value[2], weight * run.value[3]));
    return;
  }
#endif
  for (int w = 0; w < W; ++w) atomicAdd(to + w, weight * run.value[w]);
}

template <int W>
__global__ void gather_features_fwd_kernel(const GatherFeaturesFwd<float> p) {
  const int64_t n_runs = p.n_channels / W, i = thread_index() / n_runs;
  if (i >= p.n_reads()) return;
  const int64_t channel = thread_index() % n_runs * W;
  const PixelCell<float> cell = pixel_cell(p, i);
  Run<W> sum{};
  for (int k = 0; k < kCorners; ++k) {
    const Run<W> corner = load_run<W>(p.maps + cell.corner[k] + channel);
    for (int w = 0; w < W; ++w) sum.value[w] += cell.weight[k] * corner.value[w];
  }
  *reinterpret_cast<Run<W>*>(p.features + i * p.n_channels + channel) = sum;
}

template <int W>
__global__ void gather_features_bwd_maps_kernel(const GatherFeaturesBwd<float> p) {
  const int64_t n_runs = p.fwd.n_channels / W, i = thread_index() / n_runs;
  if (i >= p.fwd.n_reads()) return;
  const int64_t channel = thread_index() % n_runs * W;
  const Run<W> grad = load_run<W>(p.grad_features + i * p.fwd.n_channels + channel);
  const PixelCell<float> cell = pixel_cell(p.fwd, i);
  for (int k = 0; k < kCorners; ++k) add_run<W>(p.grad_maps + cell.corner[k] + channel, cell.weight[k], grad);
}

__global__ void gather_features_bwd_pixels_kernel(const GatherFeaturesBwd<float> p) {
  const int64_t i = thread_index() / kWarp;
  if (i >= p.fwd.n_reads()) return;  // a whole warp
  const int lane = threadIdx.x % kWarp;
  const PixelCell<float> cell = pixel_cell(p.fwd, i);
  float products[kCorners] = {};
  for (int64_t c = lane; c < p.fwd.n_channels; c += kWarp) {
    const float grad = p.grad_features[i * p.fwd.n_channels + c];
    for (int k = 0; k < kCorners; ++k) products[k] += grad * p.fwd.maps[cell.corner[k] + c];
  }
  for (int k = 0; k < kCorners; ++k) {
    for (int step = kWarp / 2; step > 0; step /= 2) {
      products[k] += __shfl_down_sync(~0u, products[k], step);
    }
  }
  if (lane == 0) write_pixel_gradient(p, cell, i, products);
}

inline bool aligned_to_runs(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_gather_features_fwd(const nerfad::GatherFeaturesFwd<float>* p, void* stream) {
  if (p->n_reads() * p->n_channels == 0) return cudaSuccess;
  const bool by_four = p->n_channels % 4 == 0 && nerfad::aligned_to_runs(p->maps);
  const auto kernel =
      by_four ? &nerfad::gather_features_fwd_kernel<4> : &nerfad::gather_features_fwd_kernel<1>;
  const dim3 grid = nerfad::blocks_for(p->n_reads() * (p->n_channels / (by_four ? 4 : 1)));
  return NERFAD_LAUNCH(kernel, grid, dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
}

NERFAD_EXPORT int nerfad_cuda_gather_features_bwd(const nerfad::GatherFeaturesBwd<float>* p, void* stream) {
  const int64_t n_reads = p->fwd.n_reads(), n_channels = p->fwd.n_channels;
  if (n_reads == 0) return cudaSuccess;
  const auto on = static_cast<cudaStream_t>(stream);
  cudaError_t error = cudaSuccess;
  if (p->grad_pixels) {
    error = NERFAD_LAUNCH(nerfad::gather_features_bwd_pixels_kernel,
                          nerfad::blocks_for(n_reads * nerfad::kWarp), dim3(nerfad::kBlock), 0, on, *p);
  }
  if (p->grad_maps && n_channels > 0 && error == cudaSuccess) {
    const bool by_four = n_channels % 4 == 0 && nerfad::aligned_to_runs(p->grad_features);
    const auto kernel =
        by_four ? &nerfad::gather_features_bwd_maps_kernel<4> : &nerfad::gather_features_bwd_maps_kernel<1>;
    error = NERFAD_LAUNCH(kernel, nerfad::blocks_for(n_reads * (n_channels / (by_four ? 4 : 1))),
                          dim3(nerfad::kBlock), 0, on, *p);
  }
  return error;
}
