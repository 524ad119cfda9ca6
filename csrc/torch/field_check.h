// The parts of a radiance field as they come from Python, checked: a grid as numbers (resolutions of the
// levels, log2 of the table size, kind, smoothstep) and networks as numbers (d_in, d_cond, d_hidden,
// n_hidden, d_out, sigmoid).
#pragma once
#include <string>
#include <vector>

#include "check.h"
#include "grid_check.h"
#include "nerfad/conditioned_mlp.h"

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
  check.that(v.size() >= 4, "the grid must have 1 to 32 levels");
  const auto behind_levels = v.end() - 3;
  return check_grid(check, table, 3, {v.begin(), behind_levels}, behind_levels[0], behind_levels[1],
                    behind_levels[2] != 0);
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
