// The parts of a radiance field as they come from Python, checked: a grid as numbers (resolutions of the
// levels, log2 of the table size, kind, smoothstep) and networks as numbers (d_in, d_cond, d_hidden,
// n_hidden, d_out, sigmoid).
#pragma once
#include <string>
#include <vector>

#include "check.h"
#include "nerfad/conditioned_mlp.h"
#include "nerfad/grid_encode.h"

namespace nerfad {

inline TableType field_table_type(const Check& check, const Tensor& table, bool is_float64) {
  const ScalarType type = table.scalar_type();
  if (is_float64) {
    check.dtype(table, "table", ScalarType::Double);
    return TableType::kFloat64;
  }
  if (type == ScalarType::Float) return TableType::kFloat32;
  if (type == ScalarType::Half) return TableType::kFloat16;
  check.that(type == ScalarType::BFloat16,
             std::string("table must be float32, float16 or bfloat16, got ") + dtype_name(type));
  return TableType::kBFloat16;
}

inline GridShape field_grid(const Check& check, const Tensor& table, const std::vector<int64_t>& v) {
  check.that(v.size() >= 4 && v.size() - 3 <= kMaxGridLevels, "the grid must have 1 to 32 levels");
  const size_t n_levels = v.size() - 3;
  const GridShape grid = make_grid_shape(3, static_cast<int>(table.size(1)), v.data(),
                                         static_cast<int>(n_levels), static_cast<int>(v[n_levels]),
                                         static_cast<GridKind>(v[n_levels + 1]), v[n_levels + 2] != 0);
  check.shape(table, "table", {grid.n_entries(), kAny});
  const int f = grid.n_features;
  check.that(f == 1 || f == 2 || f == 4 || f == 8,
             "table must have 1, 2, 4 or 8 columns, got " + std::to_string(f));
  return grid;
}

inline MlpShape field_mlp(const Check& check, const std::vector<int64_t>& v, const Tensor& params,
                          const char* name) {
  check.that(v.size() == 6 && v[0] >= 1 && v[1] >= 0 && v[2] >= 16 && v[2] <= 128 && v[3] >= 1 &&
                 v[3] <= 16 && v[4] >= 1,
             std::string(name) + " has an impossible shape");
  const MlpShape s{static_cast<int>(v[0]), static_cast<int>(v[1]), static_cast<int>(v[2]),
                   static_cast<int>(v[3]), static_cast<int>(v[4]), v[5] != 0};
  check.shape(params, name, {s.n_params()}).same_dtype(params, name);
  return s;
}

}  // namespace nerfad
