// A grid's table and its expanded levels as they come from Python, checked.
#pragma once
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "check.h"
#include "nerfad/grid_encode.h"

namespace nerfad {

inline GridShape check_grid(const Check& check, const Tensor& table, int64_t n_dims,
                            const std::vector<int64_t>& resolutions, int64_t log2_table_size, int64_t kind,
                            bool smoothstep) {
  const int64_t n_levels = static_cast<int64_t>(resolutions.size());
  check.shape(table, "table", {kAny, kAny});
  const int64_t n_features = table.size(1);
  check.that(n_features == 1 || n_features == 2 || n_features == 4 || n_features == 8,
             "table must have 1, 2, 4 or 8 columns, got " + std::to_string(n_features));
  check.that(n_levels >= 1 && n_levels <= kMaxGridLevels, "there must be 1 to 32 levels");
  check.that(log2_table_size >= 3 && log2_table_size <= 24 && kind >= 0 && kind <= 2,
             "log2_table_size must be in 3..24 and kind in 0..2");
  for (int64_t r : resolutions) {
    const int64_t n_cells = std::abs(r);
    check.that(n_cells >= 1 && n_cells <= (1 << 20), "resolutions must be in 1..2^20");
    if (r > 0 && static_cast<GridKind>(kind) != GridKind::kDense) continue;
    check.that(std::pow(static_cast<double>(n_cells + 1), n_dims) < (1 << 28), "a dense level is too large");
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

// How many of the first levels, none of them hashed, have so many entries together; -1 if there is no such
// number.
inline int levels_with_cells(const GridShape& shape, int64_t n_cells) {
  for (int n = 0; n <= shape.n_levels; ++n) {
    const int64_t entries = n < shape.n_levels ? shape.levels[n].offset : shape.n_entries();
    if (entries == n_cells) return n;
    if (n < shape.n_levels && shape.levels[n].hashed) break;
  }
  return -1;
}

inline GridCells check_cells(const Check& check, const std::optional<Tensor>& cells, const Tensor& table,
                             const GridShape& shape) {
  if (!cells) return {};
  check.shape(*cells, "cells", {kAny, int64_t{1} << shape.n_dims, shape.n_features})
      .dtype(*cells, "cells", table.scalar_type())
      .that(reinterpret_cast<uintptr_t>(cells->data_ptr()) % 16 == 0,
            "cells must start at a multiple of 16 bytes; call .clone() on it");
  const int n_levels = levels_with_cells(shape, cells->size(0));
  check.that(n_levels >= 0,
             "cells must come from expand_cells with the same grid, of which no first levels have " +
                 std::to_string(cells->size(0)) + " cells");
  return {cells->data_ptr(), n_levels};
}

}  // namespace nerfad
