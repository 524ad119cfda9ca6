#include "nerfad/grid_encode.h"

#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>
#include <vector>

#include "check.h"
#include "dispatch.h"
#include "grid_check.h"
#include "scratch.h"

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
  const int64_t n_dims = positions.size(1);
  check.that(n_dims == 2 || n_dims == 3, "positions must have 2 or 3 columns, got " + std::to_string(n_dims));
  return check_grid(check, table, n_dims, resolutions, log2_table_size, kind, smoothstep);
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
Scratch make_scratch(const Tensor& like, int64_t size) {
  const bool needed = !like.is_cuda() && !emulating() && !is_float64(like);
  return Scratch(like, needed ? size * static_cast<int64_t>(sizeof(float)) : 0);
}

Tensor grid_encode_fwd(const Tensor& positions, const Tensor& table, std::vector<int64_t> resolutions,
                       int64_t log2_table_size, int64_t kind, bool smoothstep, std::optional<Tensor> cells) {
  const GridShape shape = check_inputs(positions, table, resolutions, log2_table_size, kind, smoothstep);
  const GridCells expanded = check_cells(Check(kOp, positions), cells, table, shape);
  const int64_t n = positions.size(0);
  Tensor features = torch::stable::new_empty(positions, {n, shape.n_outputs()});
  const Scratch scratch = make_scratch(positions, grid_encode_fwd_scratch(shape, n));
  by_dtype(kOp, positions, [&](auto zero) {
    using T = decltype(zero);
    GridEncodeFwd<T> p = inputs<T>(positions, table, shape);
    p.cells = expanded;
    p.features = features.mutable_data_ptr<T>();
    p.scratch = scratch.as<T>();
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
  const bool on_cuda = positions.is_cuda() || emulating();
  const std::initializer_list<int64_t> table_size{needs_table ? shape.n_entries() : 0, shape.n_features};
  Tensor grad_table = on_cuda ? torch::stable::new_zeros(positions, table_size)
                              : torch::stable::new_empty(positions, table_size);
  const bool fixed = deterministic && needs_table && on_cuda;
  const Scratch scratch =
      fixed ? Scratch(positions, grid_encode_bwd_fixed_scratch(shape) * positions.element_size())
            : make_scratch(positions, grid_encode_bwd_scratch(shape, n));
  by_dtype(kOp, positions, [&](auto zero) {
    using T = decltype(zero);
    GridEncodeBwd<T> p{};
    p.deterministic = fixed;
    p.fresh_table = true;
    p.fwd = inputs<T>(positions, table, shape);
    p.grad_features = grad_features.const_data_ptr<T>();
    p.grad_table = needs_table ? grad_table.mutable_data_ptr<T>() : nullptr;
    p.grad_positions = needs_positions ? grad_positions.mutable_data_ptr<T>() : nullptr;
    p.scratch = scratch.as<T>();
    dispatch<GridEncodeBwd<T>>(kOp, "grid_encode_bwd", p, positions, &grid_encode_bwd_cpu<T>);
  });
  return {grad_positions, grad_table};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(nerfad, m) {
  m.def(
      "grid_encode_fwd(Tensor positions, Tensor table, int[] resolutions, int log2_table_size, int kind, "
      "bool smoothstep, Tensor? cells=None) -> Tensor");
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
