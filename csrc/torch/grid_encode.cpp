#include "nerfad/grid_encode.h"

#include <torch/csrc/stable/library.h>

#include <tuple>
#include <vector>

#include "check.h"
#include "dispatch.h"

namespace nerfad {

namespace {

constexpr const char* kOp = "grid_encode";

bool is_float64(const Tensor& t) { return t.scalar_type() == ScalarType::Double; }

TableType check_table_type(const Tensor& positions, const Tensor& table) {
  switch (table.scalar_type()) {
    case ScalarType::Float:
      if (!is_float64(positions)) return TableType::kFloat32;
      break;
    case ScalarType::Half:
      if (!is_float64(positions)) return TableType::kFloat16;
      break;
    case ScalarType::BFloat16:
      if (!is_float64(positions)) return TableType::kBFloat16;
      break;
    case ScalarType::Double:
      if (is_float64(positions)) return TableType::kFloat64;
      break;
    default:
      break;
  }
  refuse(kOp, ": table must be float32, float16 or bfloat16 (float64 with float64 positions), got ",
         dtype_name(table.scalar_type()), " with positions of ", dtype_name(positions.scalar_type()));
}

GridShape check_inputs(const Tensor& positions, const Tensor& table, const std::vector<int64_t>& resolutions,
                       int64_t log2_table_size, int64_t kind, bool smoothstep) {
  check_float_or_double(kOp, positions, "positions");
  const Check check(kOp, positions);
  check.shape(positions, "positions", {kAny, kAny});
  const int64_t n_dims = positions.size(1), n_levels = static_cast<int64_t>(resolutions.size());
  check.that(n_dims == 2 || n_dims == 3, "positions must have 2 or 3 columns, got " + std::to_string(n_dims));
  check.shape(table, "table", {kAny, kAny});
  const int64_t n_features = table.size(1);
  check.that(n_features == 1 || n_features == 2 || n_features == 4 || n_features == 8,
             "table must have 1, 2, 4 or 8 columns, got " + std::to_string(n_features));
  check.that(n_levels >= 1 && n_levels <= kMaxGridLevels, "there must be 1 to 32 levels");
  check.that(log2_table_size >= 3 && log2_table_size <= 24 && kind >= 0 && kind <= 2,
             "log2_table_size must be in 3..24 and kind in 0..2");
  for (int64_t r : resolutions) check.that(r >= 1 && r <= (1 << 20), "resolutions must be in 1..2^20");
  if (static_cast<GridKind>(kind) == GridKind::kDense) {
    for (int64_t r : resolutions) {
      check.that(std::pow(static_cast<double>(r + 1), n_dims) < (1 << 28), "a dense level is too large");
    }
  }
  const GridShape shape = make_grid_shape(
      static_cast<int>(n_dims), static_cast<int>(n_features), resolutions.data(), static_cast<int>(n_levels),
      static_cast<int>(log2_table_size), static_cast<GridKind>(kind), smoothstep);
  check.shape(table, "table", {shape.n_entries(), n_features});
  const auto address = reinterpret_cast<uintptr_t>(table.data_ptr());
  check.that(table.size(0) == 0 || address % 16 == 0 || address % (n_features * table.element_size()) == 0,
             "table must start at a multiple of its row size; call .clone() on it");
  return shape;
}

template <class T>
GridEncodeFwd<T> inputs(const Tensor& positions, const Tensor& table, const GridShape& shape) {
  GridEncodeFwd<T> p{};
  p.positions = positions.const_data_ptr<T>();
  p.table = table.data_ptr();
  p.n = positions.size(0);
  p.table_type = check_table_type(positions, table);
  p.shape = shape;
  return p;
}

// CPU launchers need scratch memory; only their float32 versions use it.
Tensor make_scratch(const Tensor& like, int64_t size) {
  const bool needed = !like.is_cuda() && !emulating() && !is_float64(like);
  return torch::stable::new_empty(like, {needed ? size : 0});
}

Tensor grid_encode_fwd(const Tensor& positions, const Tensor& table, std::vector<int64_t> resolutions,
                       int64_t log2_table_size, int64_t kind, bool smoothstep) {
  const GridShape shape = check_inputs(positions, table, resolutions, log2_table_size, kind, smoothstep);
  const int64_t n = positions.size(0);
  Tensor features = torch::stable::new_empty(positions, {n, shape.n_outputs()});
  const Tensor scratch = make_scratch(positions, grid_encode_fwd_scratch(shape, n));
  by_dtype(kOp, positions, [&](auto zero) {
    using T = decltype(zero);
    GridEncodeFwd<T> p = inputs<T>(positions, table, shape);
    p.features = features.mutable_data_ptr<T>();
    p.scratch = scratch.mutable_data_ptr<T>();
    dispatch<GridEncodeFwd<T>>(kOp, "grid_encode_fwd", p, positions, &grid_encode_fwd_cpu<T>);
  });
  return features;
}

std::tuple<Tensor, Tensor> grid_encode_bwd(const Tensor& positions, const Tensor& table,
                                           std::vector<int64_t> resolutions, int64_t log2_table_size,
                                           int64_t kind, bool smoothstep, const Tensor& grad_features,
                                           bool needs_positions, bool needs_table, bool deterministic) {
  const GridShape shape = check_inputs(positions, table, resolutions, log2_table_size, kind, smoothstep);
  const int64_t n = positions.size(0);
  Check(kOp, positions)
      .shape(grad_features, "grad_features", {n, shape.n_outputs()})
      .same_dtype(grad_features, "grad_features");
  Tensor grad_positions = torch::stable::new_empty(positions, {needs_positions ? n : 0, shape.n_dims});
  Tensor grad_table =
      torch::stable::new_zeros(positions, {needs_table ? shape.n_entries() : 0, shape.n_features});
  const bool fixed = deterministic && needs_table && (positions.is_cuda() || emulating());
  const Tensor scratch = fixed ? torch::stable::new_empty(positions, {grid_encode_bwd_fixed_scratch(shape)})
                               : make_scratch(positions, grid_encode_bwd_scratch(shape, n));
  by_dtype(kOp, positions, [&](auto zero) {
    using T = decltype(zero);
    GridEncodeBwd<T> p{};
    p.deterministic = fixed;
    p.fwd = inputs<T>(positions, table, shape);
    p.grad_features = grad_features.const_data_ptr<T>();
    p.grad_table = needs_table ? grad_table.mutable_data_ptr<T>() : nullptr;
    p.grad_positions = needs_positions ? grad_positions.mutable_data_ptr<T>() : nullptr;
    p.scratch = scratch.mutable_data_ptr<T>();
    dispatch<GridEncodeBwd<T>>(kOp, "grid_encode_bwd", p, positions, &grid_encode_bwd_cpu<T>);
  });
  return {grad_positions, grad_table};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "grid_encode_fwd(Tensor positions, Tensor table, int[] resolutions, int log2_table_size, int kind, "
      "bool smoothstep) -> Tensor");
  m.def(
      "grid_encode_bwd(Tensor positions, Tensor table, int[] resolutions, int log2_table_size, int kind, "
      "bool smoothstep, Tensor grad_features, bool needs_positions, bool needs_table, bool deterministic) -> "
      "(Tensor, Tensor)");
}

NERFAD_IMPL_CPU_AND_CUDA(m) {
  m.impl("grid_encode_fwd", TORCH_BOX(&grid_encode_fwd));
  m.impl("grid_encode_bwd", TORCH_BOX(&grid_encode_bwd));
}

}  // namespace nerfad
