// The grid's features for the fused radiance field, with vectors.
#pragma once
#include "grid_encode_tile_simd.h"
#include "grid_split_levels_simd.h"
#include "nerfad/radiance_field.h"

namespace nerfad {
namespace {

struct VectorEncode {
  static constexpr bool kSplits = true;
  static void run(const RadianceFieldFwd<float>& p, const float* const* axes, int n, float* features,
                  int stride) {
    grid_encode_tile(p.grid, p.table_type, p.table, {}, axes, n, features, stride);
  }
  static void split(const GridShape& grid, const float* grad, int n, float* levels, int64_t level_stride) {
    const auto run = [&](auto f) {
      split_levels<decltype(f)::value>(grad, grid.n_levels, n, levels, level_stride);
    };
    if (grid.n_features == 1) return run(std::integral_constant<int, 1>{});
    if (grid.n_features == 2) return run(std::integral_constant<int, 2>{});
    if (grid.n_features == 4) return run(std::integral_constant<int, 4>{});
    run(std::integral_constant<int, 8>{});
  }
};

}  // namespace
}  // namespace nerfad
