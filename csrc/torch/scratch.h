// Memory that an op needs while it runs. Allocators give large blocks back to the system at once, which then
// clears every page of the next one: on the CPU each thread keeps its scratch from call to call.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdlib>
#include <optional>
#include <utility>

#include "require.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace nerfad {

using torch::stable::Tensor;

class KeptMemory {
 public:
  KeptMemory() = default;
  KeptMemory(const KeptMemory&) = delete;
  KeptMemory& operator=(const KeptMemory&) = delete;
  ~KeptMemory() { std::free(data_); }

  // At least so many bytes, their contents undefined; what an earlier call gave is gone.
  void* at_least(size_t bytes) {
    if (bytes <= size_) return data_;
    std::free(data_);
    size_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    data_ = std::aligned_alloc(kHugePage, size_);
    if (!data_) {
      const size_t wanted = std::exchange(size_, 0);
      refuse("out of memory: ", wanted, " bytes of scratch memory are needed");
    }
#if defined(__linux__)
    madvise(data_, size_, MADV_HUGEPAGE);  // a wish: fewer page faults and TLB misses
#endif
    return data_;
  }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  void* data_ = nullptr;
  size_t size_ = 0;
};

// Scratch of one call of an op: `bytes` on the device of `like`. On the CPU the calling thread's memory, of
// which one call at a time makes use; more than a thread should keep is allocated and given back.
class Scratch {
 public:
  Scratch(const Tensor& like, int64_t bytes) {
    constexpr int64_t kKept = int64_t{128} << 20;
    if (like.is_cuda() || bytes > kKept) {
      tensor_ = torch::stable::new_empty(like, {bytes}, torch::headeronly::ScalarType::Byte);
      data_ = tensor_->mutable_data_ptr();
    } else {
      static thread_local KeptMemory kept;
      data_ = kept.at_least(static_cast<size_t>(bytes));
    }
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  std::optional<Tensor> tensor_;
  void* data_;
};

}  // namespace nerfad
