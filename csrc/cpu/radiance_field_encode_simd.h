// The grid's features for the fused radiance field, with vectors.
#pragma once
#include "grid_encode_tile_simd.h"
#include "grid_join_levels_simd.h"
#include "grid_split_levels_simd.h"
#include "grid_transpose_simd.h"
#include "nerfad/radiance_field.h"

namespace nerfad {
namespace {

struct VectorEncode {
  static constexpr bool kSplits = true;
  static void run(const RadianceFieldFwd<float>& p, const float* const* axes, int n, float* features,
                  int stride) {
    grid_encode_tile(p.grid, p.table_type, p.table, {}, axes, n, features, stride);
  }
  template <class S>
  static MlpOperands<S> join(const GridShape& grid, const float* levels, int64_t level_stride, int n,
                             int rows, float* memory, MlpOperand<S>* to) {
    const int width = grid.n_outputs();
    if constexpr (kRoundedRows<MlpOperand<S>>) {
      if (grid.n_features == 2) {
        const int stride = operand_padded<BFloat16>(width);
        join_pairs<S>(levels, level_stride, grid.n_levels, n, rows, to, stride);
        return {to, stride};
      }
    }
    with_features(grid, [&](auto f) {
      join_levels<decltype(f)::value>(levels, level_stride, grid.n_levels, n, memory);
    });
    return tile_operands<S>(memory, width, n, width, Padding::kWanted, to, rows);
  }
  static void split(const GridShape& grid, const float* grad, int n, float* levels, int64_t level_stride) {
    with_features(grid, [&](auto f) {
      split_levels<decltype(f)::value>(grad, grid.n_levels, n, levels, level_stride);
    });
  }

 private:
  // Calls run(integral constant) with the number of features of a level.
  template <class Run>
  static void with_features(const GridShape& grid, const Run& run) {
    if (grid.n_features == 1) return run(std::integral_constant<int, 1>{});
    if (grid.n_features == 2) return run(std::integral_constant<int, 2>{});
    if (grid.n_features == 4) return run(std::integral_constant<int, 4>{});
    run(std::integral_constant<int, 8>{});
  }
};

}  // namespace
}  // namespace nerfad
