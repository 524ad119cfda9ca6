// Grid features of one position, as the renderer's kernels need them.
#pragma once
#include "device.h"
#include "grid_entry.cuh"
#include "nerfad/render_rays_fused.h"

namespace nerfad {

namespace {

template <class S, int F, class Put>
__device__ __forceinline__ void encode_levels(const RenderRays& p, const float* position, const Put& put) {
  for (int l = 0; l < p.grid.n_levels; ++l) {
    float sum[F];
    encode_level<S, 3, F>(p.grid, p.table, p.cells, l, position, sum);
#pragma unroll
    for (int f = 0; f < F; ++f) put(l * F + f, sum[f]);
  }
}

template <class S, class Put>
__device__ __forceinline__ void encode_by_features(const RenderRays& p, const float* position,
                                                   const Put& put) {
  if (p.grid.n_features == 1) encode_levels<S, 1>(p, position, put);
  if (p.grid.n_features == 2) encode_levels<S, 2>(p, position, put);
  if (p.grid.n_features == 4) encode_levels<S, 4>(p, position, put);
  if (p.grid.n_features == 8) encode_levels<S, 8>(p, position, put);
}

// Calls put(feature, value) for all features of a position. All threads take the same branches.
template <class Put>
__device__ __forceinline__ void encode_position(const RenderRays& p, const float* position, const Put& put) {
  if (p.table_type == TableType::kFloat32) encode_by_features<float>(p, position, put);
  if (p.table_type == TableType::kFloat16) encode_by_features<Half>(p, position, put);
  if (p.table_type == TableType::kBFloat16) encode_by_features<BFloat16>(p, position, put);
}

}  // namespace

}  // namespace nerfad
