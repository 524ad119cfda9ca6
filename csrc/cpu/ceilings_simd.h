// The loops of one instruction set, compiled with the flags of the including unit.
#pragma once
#include <initializer_list>

#include "nerfad/ceilings.h"
#include "simd.h"

namespace nerfad {
namespace {

// Independent chains hide the latency of the multiply-add: as many as there are registers, less three.
template <class S, int kChains>
double fma_loop(const CeilingBuffer& buffer, int64_t iterations) {
  typename S::V sums[kChains];
  for (auto& sum : sums) sum = S::load(buffer.data);
  const auto factor = S::broadcast(0.5f), addend = S::load(buffer.data + 64);
  for (int64_t i = 0; i < iterations; ++i) {
#pragma GCC unroll 32
    for (int c = 0; c < kChains; ++c) sums[c] = S::multiply_add(sums[c], factor, addend);
  }
  auto total = S::zero();
  for (auto sum : sums) total = S::add(total, sum);
  S::store(buffer.data, total);
  return 2.0 * kChains * S::kWidth * static_cast<double>(iterations);
}

// Reads the whole buffer `iterations` times.
template <class S>
double read_loop(const CeilingBuffer& buffer, int64_t iterations) {
  constexpr int kChains = 8;
  typename S::V sums[kChains] = {S::zero(), S::zero(), S::zero(), S::zero(),
                                 S::zero(), S::zero(), S::zero(), S::zero()};
  for (int64_t i = 0; i < iterations; ++i) {
    for (int64_t k = 0; k + kChains * S::kWidth <= buffer.n; k += kChains * S::kWidth) {
#pragma GCC unroll 8
      for (int c = 0; c < kChains; ++c) sums[c] = S::add(sums[c], S::load(buffer.data + k + c * S::kWidth));
    }
  }
  auto total = S::zero();
  for (auto sum : sums) total = S::add(total, sum);
  S::store(buffer.data, total);
  return 4.0 * static_cast<double>(buffer.n) * static_cast<double>(iterations);
}

// The steps of a Weyl sequence, scrambled: places that no prefetcher can guess, at two operations each.
constexpr uint32_t kWeyl = 2654435769u;

}  // namespace
}  // namespace nerfad
