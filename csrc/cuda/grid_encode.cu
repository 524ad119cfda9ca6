// Blocks of samples times levels: the samples of a block share a level, whose coarse tables then live in L1.
#include "nerfad/grid_encode.h"

#include "device.h"

namespace nerfad {

template <class S, int D, int F>
__global__ void grid_encode_fwd_kernel(const GridEncodeFwd<float> p) {
  const int64_t i = thread_index();
  if (i < p.n) grid_encode_fwd_point<float, S, D, F>(p, i, static_cast<int>(blockIdx.y));
}

// float32 sums; two or four at a time where the hardware has it (sm_90 and later).
template <int F>
__device__ __forceinline__ void add_to_entry(float* entry, const float (&values)[F]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  constexpr bool kVectors = true;
#else
  constexpr bool kVectors = false;
#endif
  if constexpr (kVectors && F % 4 == 0) {
    for (int f = 0; f < F; f += 4) {
      atomicAdd(reinterpret_cast<float4*>(entry + f),
                make_float4(values[f], values[f + 1], values[f + 2], values[f + 3]));
    }
  } else if constexpr (kVectors && F == 2) {
    atomicAdd(reinterpret_cast<float2*>(entry), make_float2(values[0], values[1]));
  } else {
    for (int f = 0; f < F; ++f) atomicAdd(entry + f, values[f]);
  }
}

template <int D, int F>
__global__ void grid_encode_bwd_table_kernel(const GridEncodeBwd<float> p) {
  const int64_t i = thread_index();
  if (i >= p.fwd.n) return;
  const int level = static_cast<int>(blockIdx.y);
  const float* grad = p.grad_features + (i * p.fwd.shape.n_levels + level) * F;
  bool touched = false;
  for (int f = 0; f < F; ++f) touched |= grad[f] != 0.0f;
  if (!touched) return;  // behind the early stop
  grid_encode_bwd_table_point<float, D, F>(p, i, level, [&](uint32_t entry, const float (&values)[F]) {
    add_to_entry<F>(p.grad_table + static_cast<int64_t>(entry) * F, values);
  });
}

template <class S, int D, int F>
__global__ void grid_encode_bwd_position_kernel(const GridEncodeBwd<float> p) {
  const int64_t i = thread_index();
  if (i < p.fwd.n) grid_encode_bwd_position_point<float, S, D, F>(p, i);
}

}  // namespace nerfad

NERFAD_EXPORT int nerfad_cuda_grid_encode_fwd(const nerfad::GridEncodeFwd<float>* p, void* stream) {
  if (p->n == 0) return cudaSuccess;
  dim3 grid = nerfad::blocks_for(p->n);
  grid.y = static_cast<unsigned>(p->shape.n_levels);
  cudaError_t error = cudaSuccess;
  nerfad::grid_dispatch_float32(p->table_type, p->shape, [&](auto s, auto d, auto f) {
    const auto kernel = &nerfad::grid_encode_fwd_kernel<decltype(s), decltype(d)::value, decltype(f)::value>;
    error = NERFAD_LAUNCH(kernel, grid, dim3(nerfad::kBlock), 0, static_cast<cudaStream_t>(stream), *p);
  });
  return error;
}

NERFAD_EXPORT int nerfad_cuda_grid_encode_bwd(const nerfad::GridEncodeBwd<float>* p, void* stream) {
  if (p->fwd.n == 0) return cudaSuccess;
  const nerfad::GridShape& shape = p->fwd.shape;
  const dim3 points = nerfad::blocks_for(p->fwd.n);
  const auto on = static_cast<cudaStream_t>(stream);
  cudaError_t error = cudaSuccess;
  if (p->grad_positions) {
    nerfad::grid_dispatch_float32(p->fwd.table_type, shape, [&](auto s, auto d, auto f) {
      const auto kernel =
          &nerfad::grid_encode_bwd_position_kernel<decltype(s), decltype(d)::value, decltype(f)::value>;
      error = NERFAD_LAUNCH(kernel, points, dim3(nerfad::kBlock), 0, on, *p);
    });
  }
  if (p->grad_table && error == cudaSuccess) {
    const dim3 grid(points.x, static_cast<unsigned>(shape.n_levels));
    nerfad::grid_dispatch_shape<float>(shape, [&](auto, auto d, auto f) {
      const auto kernel = &nerfad::grid_encode_bwd_table_kernel<decltype(d)::value, decltype(f)::value>;
      error = NERFAD_LAUNCH(kernel, grid, dim3(nerfad::kBlock), 0, on, *p);
    });
  }
  return error;
}
