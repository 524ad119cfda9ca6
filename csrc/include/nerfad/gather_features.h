// Bilinear reads of feature maps at positions in pixels. Channels are the last axis, so that a read is four
// runs of consecutive values instead of four times n_channels scattered ones.
#pragma once
#include "nerfad/hd.h"
#include "nerfad/parallel.h"

namespace nerfad {

template <class T>
struct GatherFeaturesFwd {
  const T* maps;    // [n_views, height, width, n_channels]
  const T* pixels;  // [n_views, n_points, 2] column and row; integers are centres of pixels
  T* features;      // out [n_views, n_points, n_channels]
  int64_t n_views;
  int64_t n_points;
  int64_t height;
  int64_t width;
  int64_t n_channels;

  NERFAD_HD int64_t n_reads() const { return n_views * n_points; }
};

template <class T>
struct GatherFeaturesBwd {
  GatherFeaturesFwd<T> fwd;  // inputs of the forward pass; its output is not read
  const T* grad_features;    // [n_views, n_points, n_channels]
  T* grad_maps;              // out [n_views, height, width, n_channels], zero beforehand; or null
  T* grad_pixels;            // out [n_views, n_points, 2]; or null
};

// The two pixels about a coordinate, which is clamped to the map; NaN counts as 0.
template <class T>
struct PixelPair {
  int64_t low;
  int64_t high;
  T fraction;   // of the way from low to high
  bool inside;  // false where the coordinate was clamped and has no gradient
};

template <class T>
NERFAD_HD PixelPair<T> pixel_pair(T coordinate, int64_t size) {
  const T limit = static_cast<T>(size - 1);
  const T clamped = coordinate > T(0) ? (coordinate < limit ? coordinate : limit) : T(0);
  int64_t low = static_cast<int64_t>(clamped);
  if (low > size - 2) low = size > 1 ? size - 2 : 0;
  return {low, low + 1 < size ? low + 1 : low, clamped - static_cast<T>(low),
          coordinate >= T(0) && coordinate <= limit};
}

constexpr int kCorners = 4;

// Corners in the order (low row, low column), (low row, high column), (high row, low column), (high, high).
template <class T>
struct PixelCell {
  int64_t corner[kCorners];  // index of each corner's first channel in `maps`
  T weight[kCorners];
  PixelPair<T> column;
  PixelPair<T> row;
};

// The cell of read i, counted over views and points.
template <class T>
NERFAD_HD PixelCell<T> pixel_cell(const GatherFeaturesFwd<T>& p, int64_t i) {
  PixelCell<T> cell;
  cell.column = pixel_pair(p.pixels[2 * i], p.width);
  cell.row = pixel_pair(p.pixels[2 * i + 1], p.height);
  const int64_t first_row = i / p.n_points * p.height;
  for (int k = 0; k < kCorners; ++k) {
    const int64_t row = k & 2 ? cell.row.high : cell.row.low;
    const int64_t column = k & 1 ? cell.column.high : cell.column.low;
    const T row_weight = k & 2 ? cell.row.fraction : T(1) - cell.row.fraction;
    const T column_weight = k & 1 ? cell.column.fraction : T(1) - cell.column.fraction;
    cell.corner[k] = ((first_row + row) * p.width + column) * p.n_channels;
    cell.weight[k] = row_weight * column_weight;
  }
  return cell;
}

template <class T>
NERFAD_HD T gather_features_channel(const GatherFeaturesFwd<T>& p, const PixelCell<T>& cell,
                                    int64_t channel) {
  T value = 0;
  for (int k = 0; k < kCorners; ++k) value += cell.weight[k] * p.maps[cell.corner[k] + channel];
  return value;
}

// The gradient of read i's position, given the products of its gradient with each corner's features.
template <class T>
NERFAD_HD void write_pixel_gradient(const GatherFeaturesBwd<T>& p, const PixelCell<T>& cell, int64_t i,
                                    const T (&products)[kCorners]) {
  const T x = cell.column.fraction, y = cell.row.fraction;
  const T along_row = (products[1] - products[0]) * (T(1) - y) + (products[3] - products[2]) * y;
  const T along_column = (products[2] - products[0]) * (T(1) - x) + (products[3] - products[1]) * x;
  p.grad_pixels[2 * i] = cell.column.inside ? along_row : T(0);
  p.grad_pixels[2 * i + 1] = cell.row.inside ? along_column : T(0);
}

template <class T>
void gather_features_fwd_cpu(const GatherFeaturesFwd<T>& p, const ParallelFor& parallel_for);
template <class T>
void gather_features_bwd_cpu(const GatherFeaturesBwd<T>& p, const ParallelFor& parallel_for);

}  // namespace nerfad
