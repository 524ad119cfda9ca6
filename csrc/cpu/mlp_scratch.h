// Pieces of the caller's scratch memory.
#pragma once
#include <cstdint>

namespace nerfad {

constexpr int64_t kScratchAlign = 64;  // elements

template <class T>
T* align_scratch(T* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return reinterpret_cast<T*>((address + kScratchAlign - 1) / kScratchAlign * kScratchAlign);
}

constexpr int64_t aligned_count(int64_t n) { return (n + kScratchAlign - 1) / kScratchAlign * kScratchAlign; }

// Hands out pieces of scratch memory; with a null start it only counts.
template <class T>
class Scratch {
 public:
  explicit Scratch(T* start) : start_(start ? align_scratch(start) : nullptr) {}
  T* take(int64_t n) {
    T* here = start_ ? start_ + used_ : nullptr;
    used_ += aligned_count(n);
    return here;
  }
  // Space for n objects of another type.
  template <class Other>
  Other* take_as(int64_t n) {
    constexpr int64_t kSize = sizeof(T), kOther = sizeof(Other);
    return reinterpret_cast<Other*>(take((n * kOther + kSize - 1) / kSize));
  }
  int64_t needed() const { return used_ + kScratchAlign; }

 private:
  T* start_;
  int64_t used_ = 0;
};

}  // namespace nerfad
