// Blocks of samples times levels: the samples of a block share a level, whose coarse tables then live in L1.
#include "nerfad/grid_encode.h"

#include "device.h"
#include "grid_bwd.cuh"
#include "grid_entry.cuh"

namespace nerfad {

template <class S, int D, int F>
__global__ void grid_encode_fwd_kernel(const GridEncodeFwd<float> p) {
  const int64_t i = thread_index();
  if (i >= p.n) return;
  const int l = static_cast<int>(blockIdx.y);
  GridEntry<float, F> sum;
  encode_level<S, D, F>(p.shape, p.table, p.cells, l, p.positions + i * D, sum.v);
  *reinterpret_cast<GridEntry<float, F>*>(p.features + (i * p.shape.n_levels + l) * F) = sum;
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
  if (!p->grad_table || error != cudaSuccess) return error;
  const dim3 grid(points.x, static_cast<unsigned>(shape.n_levels));
  const nerfad::GridFixedSums fixed = nerfad::grid_fixed_sums(*p);
  if (p->deterministic) {
    error = nerfad::start_fixed_sums(*p, fixed, on);
    if (error != cudaSuccess) return error;
  }
  nerfad::grid_dispatch_shape<float>(shape, [&](auto, auto d, auto f) {
    constexpr int D = decltype(d)::value, F = decltype(f)::value;
    const auto kernel = p->deterministic ? &nerfad::grid_encode_bwd_fixed_kernel<D, F>
                                         : &nerfad::grid_encode_bwd_table_kernel<D, F>;
    error = NERFAD_LAUNCH(kernel, grid, dim3(nerfad::kBlock), 0, on, *p, fixed);
  });
  if (error != cudaSuccess || !p->deterministic) return error;
  return nerfad::finish_fixed_sums(*p, fixed, on);
}
