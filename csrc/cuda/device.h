// The only include of a .cu file beside its op's header. The same sources compile with nvcc and, for tests on
// machines without a GPU, with g++ over the SIMT emulator (csrc/emu/simt.h): kernels are launched through
// NERFAD_LAUNCH, dynamic shared memory is named by NERFAD_DYN_SMEM, and inline PTX stays inside wrappers.
#pragma once
#ifdef NERFAD_EMULATED
#include "simt.h"
#define NERFAD_LAUNCH(kernel, grid, block, smem, stream, ...) \
  ((void)(stream), ::simt::launch(grid, block, smem, [&] { kernel(__VA_ARGS__); }))
#define NERFAD_DYN_SMEM(T, name) T* name = reinterpret_cast<T*>(::simt::dyn())
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define NERFAD_LAUNCH(kernel, grid, block, smem, stream, ...) \
  (kernel<<<grid, block, smem, stream>>>(__VA_ARGS__), cudaGetLastError())
#define NERFAD_DYN_SMEM(T, name)                               \
  extern __shared__ __align__(128) unsigned char name##_raw[]; \
  T* name = reinterpret_cast<T*>(name##_raw)
#endif
#include <atomic>
#include <cstdint>

#define NERFAD_EXPORT extern "C" __attribute__((visibility("default")))

namespace nerfad {

constexpr int kBlock = 128;

inline dim3 blocks_for(int64_t n, int block = kBlock) {
  return dim3(static_cast<unsigned>((n + block - 1) / block));
}

__device__ __forceinline__ int64_t thread_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// The same value, of which the compiler no longer knows that it never changes: what is computed from it stays
// where it is needed, instead of in a register from the beginning of the kernel on.
__device__ __forceinline__ int computed_here(int value) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+r"(value));
#endif
  return value;
}

// ---- What launchers ask of the device.

// Asked once for each device: the answer does not change, and launchers shall cost little on the host.
inline int device_attribute(cudaDeviceAttr attribute) {
  constexpr int kDevices = 64, kAttributes = 256;
  static std::atomic<int> known[kDevices][kAttributes];  // the value plus one
  int device = 0, value = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return 0;
  if (device >= kDevices || attribute >= kAttributes) {
    return cudaDeviceGetAttribute(&value, attribute, device) == cudaSuccess ? value : 0;
  }
  std::atomic<int>& slot = known[device][attribute];
  value = slot.load(std::memory_order_relaxed) - 1;
  if (value >= 0) return value;
  if (cudaDeviceGetAttribute(&value, attribute, device) != cudaSuccess) return 0;
  slot.store(value + 1, std::memory_order_relaxed);
  return value;
}

// Lets a kernel have `bytes` of dynamic shared memory.
template <class Kernel>
cudaError_t allow_shared(Kernel* kernel, int bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

}  // namespace nerfad
