// Loops over reads and channels in vectors S; compiled once per instruction set.
#pragma once
#include "gather_features_ranges.h"
#include "simd.h"

namespace nerfad {
namespace {

template <class S>
void gather_features_reads(const GatherFeaturesFwd<typename S::T>& p, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const auto cell = pixel_cell(p, i);
    auto* out = p.features + i * p.n_channels;
    int64_t c = 0;
    for (; c + S::kWidth <= p.n_channels; c += S::kWidth) {
      auto sum = S::zero();
      for (int k = 0; k < kCorners; ++k) {
        sum = S::multiply_add(S::broadcast(cell.weight[k]), S::load(p.maps + cell.corner[k] + c), sum);
      }
      S::store(out + c, sum);
    }
    for (; c < p.n_channels; ++c) out[c] = gather_features_channel(p, cell, c);
  }
}

template <class S>
void gather_features_pixel_gradients(const GatherFeaturesBwd<typename S::T>& p, int64_t begin, int64_t end) {
  using T = typename S::T;
  const int64_t n_channels = p.fwd.n_channels;
  for (int64_t i = begin; i < end; ++i) {
    const auto cell = pixel_cell(p.fwd, i);
    const T* grad = p.grad_features + i * n_channels;
    typename S::V sums[kCorners] = {S::zero(), S::zero(), S::zero(), S::zero()};
    int64_t c = 0;
    for (; c + S::kWidth <= n_channels; c += S::kWidth) {
      for (int k = 0; k < kCorners; ++k) {
        sums[k] = S::multiply_add(S::load(grad + c), S::load(p.fwd.maps + cell.corner[k] + c), sums[k]);
      }
    }
    T products[kCorners];
    for (int k = 0; k < kCorners; ++k) {
      T lanes[S::kWidth];
      S::store(lanes, sums[k]);
      products[k] = 0;
      for (int lane = 0; lane < S::kWidth; ++lane) products[k] += lanes[lane];
      for (int64_t rest = c; rest < n_channels; ++rest) {
        products[k] += grad[rest] * p.fwd.maps[cell.corner[k] + rest];
      }
    }
    write_pixel_gradient(p, cell, i, products);
  }
}

template <class S>
void gather_features_map_slice(const GatherFeaturesBwd<typename S::T>& p, int64_t view, int64_t first_channel,
                               int64_t end_channel) {
  for (int64_t i = view * p.fwd.n_points; i < (view + 1) * p.fwd.n_points; ++i) {
    const auto cell = pixel_cell(p.fwd, i);
    const auto* grad = p.grad_features + i * p.fwd.n_channels;
    for (int k = 0; k < kCorners; ++k) {
      auto* out = p.grad_maps + cell.corner[k];
      int64_t c = first_channel;
      for (; c + S::kWidth <= end_channel; c += S::kWidth) {
        S::store(out + c, S::multiply_add(S::broadcast(cell.weight[k]), S::load(grad + c), S::load(out + c)));
      }
      for (; c < end_channel; ++c) out[c] += cell.weight[k] * grad[c];
    }
  }
}

template <class S>
constexpr GatherFeaturesRanges<typename S::T> gather_features_ranges() {
  return {&gather_features_reads<S>, &gather_features_pixel_gradients<S>, &gather_features_map_slice<S>};
}

}  // namespace
}  // namespace nerfad
