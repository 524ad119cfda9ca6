// Which kernels of the fused radiance field run on this machine.
#pragma once
#include "nerfad/isa.h"
#include "radiance_field_task.h"

namespace nerfad {
namespace {

template <class T>
const FieldKernels<T>& exact_field_kernels() {
#if defined(__x86_64__)
  if constexpr (sizeof(T) == sizeof(float)) {
    if (current_isa() >= Isa::kAvx512) return field_kernels_avx512();
    if (current_isa() >= Isa::kAvx2) return field_kernels_avx2();
  }
#endif
  return field_kernels_portable<T>();
}

inline const FieldKernels<float>& rounded_field_kernels() {
#if defined(__x86_64__)
  if (current_isa() >= Isa::kAvx512) return field_kernels_rounded_avx512();
  if (current_isa() >= Isa::kAvx2) return field_kernels_rounded_avx2();
#endif
  return field_kernels_rounded_portable();
}

// Calls run(kernels) with those for the precision.
template <class T, class Run>
auto with_field_kernels(MlpPrecision precision, const Run& run) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (precision == MlpPrecision::kBFloat16) {
#if defined(__x86_64__)
      if (current_isa() >= Isa::kAmx) return run(field_kernels_amx());
      if (current_isa() >= Isa::kAvx512Bf16) return run(field_kernels_avx512bf16());
#endif
      return run(rounded_field_kernels());
    }
  }
  return run(exact_field_kernels<T>());
}

}  // namespace
}  // namespace nerfad
