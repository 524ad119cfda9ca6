// Vectors as wide as the instruction set of the including unit, in the compiler's own notation; compiled once
// per instruction set, hence the anonymous namespace.
#pragma once
#include <cstdint>
#include <cstring>

namespace nerfad {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#else
constexpr int kLanes = 8;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));  // also masks: -1 is true
typedef uint32_t Uints __attribute__((vector_size(4 * kLanes)));

// From and to any address.
inline Floats load(const float* from) {
  Floats v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
inline void store(float* to, const Floats& v) { std::memcpy(to, &v, sizeof(v)); }

// Component `axis` of kLanes points that lie one after another: element 3 i + axis of three vectors.
template <int kAxis>
inline Floats component(const float* points) {
  Ints of_two, of_all;
  for (int i = 0; i < kLanes; ++i) {
    const int element = 3 * i + kAxis, behind = element - 2 * kLanes;
    of_two[i] = behind < 0 ? element : 0;
    of_all[i] = behind < 0 ? i : kLanes + behind;
  }
  const Floats first_two = __builtin_shuffle(load(points), load(points + kLanes), of_two);
  return __builtin_shuffle(first_two, load(points + 2 * kLanes), of_all);
}

}  // namespace
}  // namespace nerfad
