// Multi-resolution grid encoding (instant-ngp): positions in [0, 1]^D to interpolated features of every
// level. The geometry is that of nerfad/ops/grid_spec.py: vertex (x, y, z) of a dense level is entry x +
// stride * (y + stride * z); a level that does not fit is hashed or tiled into a power of two of entries.
#pragma once
#include <cmath>
#include <cstdlib>

#include "nerfad/half.h"
#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

constexpr int kMaxGridLevels = 32;

enum class TableType : int32_t { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2, kFloat64 = 3 };
enum class GridKind : int32_t { kHash = 0, kTiled = 1, kDense = 2 };

struct GridLevel {
  uint32_t resolution;  // cells per axis
  uint32_t offset;      // first entry in the table
  uint32_t size;        // entries
  uint32_t mask;        // size - 1 where indices wrap (hashed, tiled), else all ones
  bool hashed;
};

struct GridShape {
  GridLevel levels[kMaxGridLevels];
  int32_t n_levels;
  int32_t n_dims;      // 2 or 3
  int32_t n_features;  // per level: 1, 2, 4 or 8
  bool smoothstep;

  int32_t n_outputs() const { return n_levels * n_features; }
  int64_t n_entries() const { return int64_t(levels[n_levels - 1].offset) + levels[n_levels - 1].size; }
};

// The first levels of a table, none of which is hashed, with the corners of each cell behind one another: the
// cell whose lowest corner is entry i of the table is row i (expand_cells.h).
struct GridCells {
  const void* corners = nullptr;  // [entries of these levels, 2^n_dims, n_features] of the table's type
  int32_t n_levels = 0;
};

template <class T>
struct GridEncodeFwd {
  const T* positions;  // [n, n_dims], clamped to [0, 1]
  const void* table;   // [n_entries, n_features] of table_type
  T* features;         // out [n, n_levels * n_features]; null: they stay in scratch (vectors, GridScratch)
  T* scratch;          // CPU: grid_encode_fwd_scratch() elements; unused on CUDA
  int64_t n;
  TableType table_type;
  GridShape shape;
  GridCells cells{};  // read instead of the table; their values are the same
};

template <class T>
struct GridEncodeBwd {
  GridEncodeFwd<T> fwd;    // inputs of the forward pass; its outputs are not read, its scratch is not used
  const T* grad_features;  // [n, n_levels * n_features]
  T* grad_table;           // in and out [n_entries, n_features]: added to; or null
  T* grad_positions;       // out [n, n_dims] or null
  T* scratch;              // CPU: grid_encode_bwd_scratch() elements; CUDA: grid_encode_bwd_fixed_scratch()
  bool deterministic;      // CUDA: the table's gradient is the same in every run; the CPU's always is
  bool fresh_table;       // CPU: grad_table is to be zeroed first, level by level while they are in the cache
  bool is_split = false;  // CPU, vectors: positions and gradients are in scratch already (GridScratch)
};

// ---- Geometry

// Resolutions are those of the levels; negative ones are of levels that are dense whatever their size.
inline GridShape make_grid_shape(int n_dims, int n_features, const int64_t* resolutions, int n_levels,
                                 int log2_table_size, GridKind kind, bool smoothstep) {
  GridShape shape{};
  shape.n_levels = n_levels;
  shape.n_dims = n_dims;
  shape.n_features = n_features;
  shape.smoothstep = smoothstep;
  const double capacity = std::ldexp(1.0, log2_table_size);
  uint32_t offset = 0;
  for (int l = 0; l < n_levels; ++l) {
    const int64_t resolution = std::abs(resolutions[l]);
    const double vertices = std::pow(static_cast<double>(resolution + 1), n_dims);
    const bool dense = kind == GridKind::kDense || resolutions[l] < 0 || vertices <= capacity;
    GridLevel& level = shape.levels[l];
    level.resolution = static_cast<uint32_t>(resolution);
    level.offset = offset;
    level.size = dense ? (static_cast<uint32_t>(vertices) + 7) / 8 * 8 : 1u << log2_table_size;
    level.mask = dense ? ~0u : level.size - 1;
    level.hashed = !dense && kind == GridKind::kHash;
    offset += level.size;
  }
  return shape;
}

// The cell of a position in a level. Both passes, and the gradients of both inputs, get it from here.
template <class T, int D>
struct GridCell {
  uint32_t vertex[D];  // the corner with the smallest coordinates
  T weight[D];         // of the upper corner along each axis
  T slope[D];          // derivative of weight by the position
};

template <class T, int D>
NERFAD_HD GridCell<T, D> grid_cell(const GridLevel& level, bool smoothstep, const T* position) {
  GridCell<T, D> cell;
  const T resolution = static_cast<T>(level.resolution);
  for (int a = 0; a < D; ++a) {
    const T x = position[a];
    const bool inside = x >= T(0) && x <= T(1);
    const T scaled = (x > T(0) ? (x < T(1) ? x : T(1)) : T(0)) * resolution;  // NaN becomes 0
    const uint32_t last = level.resolution - 1;
    uint32_t vertex = static_cast<uint32_t>(scaled);
    vertex = vertex < last ? vertex : last;
    const T f = scaled - static_cast<T>(vertex);
    cell.vertex[a] = vertex;
    cell.weight[a] = smoothstep ? f * f * (T(3) - T(2) * f) : f;
    cell.slope[a] = inside ? resolution * (smoothstep ? T(6) * f * (T(1) - f) : T(1)) : T(0);
  }
  return cell;
}

// The table entry of a corner; bit a of `corner` selects the upper vertex along axis a.
template <int D>
NERFAD_HD uint32_t grid_entry(const GridLevel& level, const uint32_t* vertex, int corner) {
  const uint32_t x = vertex[0] + (corner & 1), y = vertex[1] + (corner >> 1 & 1);
  const uint32_t z = D == 3 ? vertex[D - 1] + (corner >> 2 & 1) : 0;
  uint32_t index;
  if (level.hashed) {
    index = x ^ (y * 2654435761u) ^ (z * 805459861u);
  } else {
    const uint32_t stride = level.resolution + 1;
    index = x + stride * (y + stride * z);
  }
  return level.offset + (index & level.mask);
}

template <class T, int D>
NERFAD_HD T grid_corner_weight(const GridCell<T, D>& cell, int corner) {
  T w = 1;
  for (int a = 0; a < D; ++a) w *= corner >> a & 1 ? cell.weight[a] : T(1) - cell.weight[a];
  return w;
}

// ---- Per-element maths. S is the table's storage type, F the features per level.

template <class S, int F>
struct alignas(sizeof(S) * F <= 16 ? sizeof(S) * F : 16) GridEntry {
  S v[F];
};

// The corners of a cell of an expanded level.
template <class S, int D, int F>
NERFAD_HD const GridEntry<S, F>* grid_cell_corners(const GridCells& cells, const GridLevel& level,
                                                   const uint32_t* vertex) {
  return static_cast<const GridEntry<S, F>*>(cells.corners) +
         (static_cast<int64_t>(grid_entry<D>(level, vertex, 0)) << D);
}

// A position's features in level l.
template <class T, class S, int D, int F>
NERFAD_HD void grid_interpolate(const GridShape& shape, const void* entries, const T* position, int l,
                                T* features, const GridCells& cells = {}) {
  const GridLevel& level = shape.levels[l];
  const GridCell<T, D> cell = grid_cell<T, D>(level, shape.smoothstep, position);
  const auto* table = static_cast<const GridEntry<S, F>*>(entries);
  const bool expanded = l < cells.n_levels;
  const auto* corners = expanded ? grid_cell_corners<S, D, F>(cells, level, cell.vertex) : nullptr;
  T sum[F] = {};
  for (int corner = 0; corner < (1 << D); ++corner) {
    const T w = grid_corner_weight(cell, corner);
    const GridEntry<S, F> entry =
        expanded ? corners[corner] : table[grid_entry<D>(level, cell.vertex, corner)];
    for (int f = 0; f < F; ++f) sum[f] += w * widen(entry.v[f]);
  }
  for (int f = 0; f < F; ++f) features[f] = sum[f];
}

template <class T, class S, int D, int F>
NERFAD_HD void grid_encode_fwd_point(const GridEncodeFwd<T>& p, int64_t i, int l) {
  grid_interpolate<T, S, D, F>(p.shape, p.table, p.positions + i * D, l,
                               p.features + (i * p.shape.n_levels + l) * F, p.cells);
}

// Calls add(entry, values[F]) for every corner.
template <class T, int D, int F, class Add>
NERFAD_HD void grid_encode_bwd_table_point(const GridEncodeBwd<T>& p, int64_t i, int l, const Add& add) {
  const GridShape& shape = p.fwd.shape;
  const T* grad = p.grad_features + (i * shape.n_levels + l) * F;
  const GridLevel& level = shape.levels[l];
  const GridCell<T, D> cell = grid_cell<T, D>(level, shape.smoothstep, p.fwd.positions + i * D);
  for (int corner = 0; corner < (1 << D); ++corner) {
    const T w = grid_corner_weight(cell, corner);
    T values[F];
    for (int f = 0; f < F; ++f) values[f] = w * grad[f];
    add(grid_entry<D>(level, cell.vertex, corner), values);
  }
}

template <class T, class S, int D, int F>
NERFAD_HD void grid_encode_bwd_position_point(const GridEncodeBwd<T>& p, int64_t i) {
  const GridShape& shape = p.fwd.shape;
  const auto* table = static_cast<const GridEntry<S, F>*>(p.fwd.table);
  T grad_position[D] = {};
  for (int l = 0; l < shape.n_levels; ++l) {
    const T* grad = p.grad_features + (i * shape.n_levels + l) * F;
    const GridLevel& level = shape.levels[l];
    const GridCell<T, D> cell = grid_cell<T, D>(level, shape.smoothstep, p.fwd.positions + i * D);
    for (int corner = 0; corner < (1 << D); ++corner) {
      const GridEntry<S, F> entry = table[grid_entry<D>(level, cell.vertex, corner)];
      T dot = 0;
      for (int f = 0; f < F; ++f) dot += grad[f] * widen(entry.v[f]);
      for (int a = 0; a < D; ++a) {
        T w = corner >> a & 1 ? cell.slope[a] : -cell.slope[a];
        for (int b = 0; b < D; ++b) {
          if (b != a) w *= corner >> b & 1 ? cell.weight[b] : T(1) - cell.weight[b];
        }
        grad_position[a] += w * dot;
      }
    }
  }
  for (int a = 0; a < D; ++a) p.grad_positions[i * D + a] = grad_position[a];
}

// ---- CPU launchers. The gradient of the table is summed in the order of the samples, whatever the threads.

int64_t grid_encode_fwd_scratch(const GridShape& shape, int64_t n);
int64_t grid_encode_bwd_scratch(const GridShape& shape, int64_t n);

// CUDA, if deterministic: floats of scratch, aligned to 8 bytes. A 64-bit sum for each value, and one more.
inline int64_t grid_encode_bwd_fixed_scratch(const GridShape& shape) {
  return 2 * (shape.n_entries() * shape.n_features + 1);
}
template <class T>
void grid_encode_fwd_cpu(const GridEncodeFwd<T>& p, const ParallelFor& parallel_for);
template <class T>
void grid_encode_bwd_cpu(const GridEncodeBwd<T>& p, const ParallelFor& parallel_for);

// Calls fn(S{}, D, F) with the storage type and integral constants that belong to the run-time values.
template <int N>
struct GridConstant {
  static constexpr int value = N;
};
template <class S, int D, class Fn>
void grid_dispatch_features(int n_features, const Fn& fn) {
  if (n_features == 1) fn(S{}, GridConstant<D>{}, GridConstant<1>{});
  if (n_features == 2) fn(S{}, GridConstant<D>{}, GridConstant<2>{});
  if (n_features == 4) fn(S{}, GridConstant<D>{}, GridConstant<4>{});
  if (n_features == 8) fn(S{}, GridConstant<D>{}, GridConstant<8>{});
}
template <class S, class Fn>
void grid_dispatch_shape(const GridShape& shape, const Fn& fn) {
  if (shape.n_dims == 2) grid_dispatch_features<S, 2>(shape.n_features, fn);
  if (shape.n_dims == 3) grid_dispatch_features<S, 3>(shape.n_features, fn);
}
template <class Fn>
void grid_dispatch_float32(TableType type, const GridShape& shape, const Fn& fn) {
  if (type == TableType::kFloat32) grid_dispatch_shape<float>(shape, fn);
  if (type == TableType::kFloat16) grid_dispatch_shape<Half>(shape, fn);
  if (type == TableType::kBFloat16) grid_dispatch_shape<BFloat16>(shape, fn);
}

}  // namespace nerfad
