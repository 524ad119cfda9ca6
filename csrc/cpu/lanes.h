// Vectors as wide as the instruction set of the including unit, in the compiler's own notation; compiled once
// per instruction set, hence the anonymous namespace.
#pragma once
#include <cstdint>

namespace nerfad {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes), aligned(4)));  // also masks: -1 is true

// Component `axis` of kLanes points that lie one after another: element 3 i + axis of three vectors.
template <int kAxis>
inline Floats component(const float* points) {
  const Floats* v = reinterpret_cast<const Floats*>(points);
  Ints of_two, of_all;
  for (int i = 0; i < kLanes; ++i) {
    const int element = 3 * i + kAxis, behind = element - 2 * kLanes;
    of_two[i] = behind < 0 ? element : 0;
    of_all[i] = behind < 0 ? i : kLanes + behind;
  }
  return __builtin_shuffle(__builtin_shuffle(v[0], v[1], of_two), v[2], of_all);
}

}  // namespace
}  // namespace nerfad
