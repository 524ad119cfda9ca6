#include "ceilings_simd.h"

namespace nerfad {

namespace {

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

}  // namespace

// Four accumulator tiles, two tiles each of rows and columns: 16 x 16 results of 32 products a tile.
double ceiling_dot_amx(const CeilingBuffer& buffer, int64_t iterations) {
  const TileConfig config;
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, buffer.data, 64);
  _tile_loadd(5, buffer.data + 256, 64);
  _tile_loadd(6, buffer.data + 512, 64);
  _tile_loadd(7, buffer.data + 768, 64);
  for (int64_t i = 0; i < iterations; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, buffer.data, 64);
  _tile_stored(1, buffer.data, 64);
  _tile_stored(2, buffer.data, 64);
  _tile_stored(3, buffer.data, 64);
  _tile_release();
  return 4.0 * 2 * 16 * 16 * 32 * static_cast<double>(iterations);
}

}  // namespace nerfad
