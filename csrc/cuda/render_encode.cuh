// Grid features of one position, as the renderer's kernels need them.
#pragma once
#include "device.h"
#include "grid_entry.cuh"
#include "nerfad/render_rays_fused.h"

namespace nerfad {

namespace {

// A position's features in one level. The corners are loaded before any is used.
template <class S, int F>
__device__ __forceinline__ void encode_level(const GridShape& shape, const void* table, int l,
                                             const float* position, float (&sum)[F]) {
  const GridLevel& level = shape.levels[l];
  const GridCell<float, 3> cell = grid_cell<float, 3>(level, shape.smoothstep, position);
  GridEntry<S, F> entries[8];
#pragma unroll
  for (int corner = 0; corner < 8; ++corner) {
    load_entry(static_cast<const GridEntry<S, F>*>(table) + grid_entry<3>(level, cell.vertex, corner),
               entries[corner]);
  }
#pragma unroll
  for (int f = 0; f < F; ++f) sum[f] = 0;
#pragma unroll
  for (int corner = 0; corner < 8; ++corner) {
    float w = 1;
    for (int a = 0; a < 3; ++a) w *= corner >> a & 1 ? cell.weight[a] : 1.0f - cell.weight[a];
#pragma unroll
    for (int f = 0; f < F; ++f) sum[f] += w * widen(entries[corner].v[f]);
  }
}

template <class S, int F, class Put>
__device__ __forceinline__ void encode_levels(const GridShape& shape, const void* table,
                                              const float* position, const Put& put) {
  for (int l = 0; l < shape.n_levels; ++l) {
    float sum[F];
    encode_level<S, F>(shape, table, l, position, sum);
#pragma unroll
    for (int f = 0; f < F; ++f) put(l * F + f, sum[f]);
  }
}

template <class S, class Put>
__device__ __forceinline__ void encode_by_features(const GridShape& shape, const void* table,
                                                   const float* position, const Put& put) {
  if (shape.n_features == 1) encode_levels<S, 1>(shape, table, position, put);
  if (shape.n_features == 2) encode_levels<S, 2>(shape, table, position, put);
  if (shape.n_features == 4) encode_levels<S, 4>(shape, table, position, put);
  if (shape.n_features == 8) encode_levels<S, 8>(shape, table, position, put);
}

// Calls put(feature, value) for all features of a position. All threads take the same branches.
template <class Put>
__device__ __forceinline__ void encode_position(const GridShape& shape, TableType type, const void* table,
                                                const float* position, const Put& put) {
  if (type == TableType::kFloat32) encode_by_features<float>(shape, table, position, put);
  if (type == TableType::kFloat16) encode_by_features<Half>(shape, table, position, put);
  if (type == TableType::kBFloat16) encode_by_features<BFloat16>(shape, table, position, put);
}

}  // namespace

}  // namespace nerfad
