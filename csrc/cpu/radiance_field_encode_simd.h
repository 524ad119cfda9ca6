// The grid's features for the fused radiance field, with vectors.
#pragma once
#include "grid_encode_simd.h"
#include "nerfad/radiance_field.h"

namespace nerfad {
namespace {

struct VectorEncode {
  static void run(const RadianceFieldFwd<float>& p, const float* const* axes, int64_t n, float* features,
                  int64_t level_stride) {
    grid_encode_tile(p.grid, p.table_type, p.table, axes, n, features, p.grid.n_features, level_stride);
  }
};

}  // namespace
}  // namespace nerfad
