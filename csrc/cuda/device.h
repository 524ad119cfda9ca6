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

// ---- What launchers ask of the device. They ask once: the answers do not change, and launchers shall cost
// little on the host.

constexpr int kMostDevices = 64;

inline int current_device() {
  int device = 0;
  return cudaGetDevice(&device) == cudaSuccess && device < kMostDevices ? device : 0;
}

template <cudaDeviceAttr kAttribute>
int device_attribute() {
  static std::atomic<int> known[kMostDevices];  // plus one
  const int device = current_device();
  int value = known[device].load(std::memory_order_relaxed) - 1;
  if (value >= 0) return value;
  if (cudaDeviceGetAttribute(&value, kAttribute, device) != cudaSuccess) return 0;
  known[device].store(value + 1, std::memory_order_relaxed);
  return value;
}

// Lets a kernel have `bytes` of dynamic shared memory.
template <auto kKernel>
cudaError_t allow_shared(int bytes) {
  static std::atomic<int> allowed[kMostDevices];
  std::atomic<int>& mine = allowed[current_device()];
  if (bytes <= mine.load(std::memory_order_relaxed)) return cudaSuccess;
  const cudaError_t error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (error == cudaSuccess) mine.store(bytes, std::memory_order_relaxed);
  return error;
}

}  // namespace nerfad
