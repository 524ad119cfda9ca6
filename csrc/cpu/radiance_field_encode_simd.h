// The grid's features for the fused radiance field, with vectors.
#pragma once
#include "grid_encode_tile_simd.h"
#include "nerfad/radiance_field.h"

namespace nerfad {
namespace {

struct VectorEncode {
  static void run(const RadianceFieldFwd<float>& p, const float* const* axes, int n, float* features,
                  int stride) {
    grid_encode_tile(p.grid, p.table_type, p.table, {}, axes, n, features, stride);
  }
};

}  // namespace
}  // namespace nerfad
