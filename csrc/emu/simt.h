// Runs CUDA kernel sources on the CPU: compile a .cu file with g++ -std=c++20 -x c++ -DNERFAD_EMULATED and
// NVIDIA's headers on the include path. It models threads, warps, blocks, shared memory, barriers, warp
// functions, atomics and tensor-core products; it does not model speed, weak memory ordering, wgmma or TMA.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#undef __shared__
#define __shared__ static thread_local  // a block runs on one OS thread
#undef __launch_bounds__
#define __launch_bounds__(...)

#include "block.h"
#include "intrinsics.h"
#include "runtime_api.h"
#include "tensor_core.h"
#include "warp.h"

namespace simt {
SIMT_HIDDEN inline uint3 thread_index() { return g_thread->index; }
SIMT_HIDDEN inline uint3 block_index() { return g_block->index; }
SIMT_HIDDEN inline dim3 block_size() { return g_block->block_size; }
SIMT_HIDDEN inline dim3 grid_size() { return g_block->grid_size; }
SIMT_HIDDEN inline void* dyn() { return g_block->dynamic_shared; }
}  // namespace simt

#define threadIdx (::simt::thread_index())
#define blockIdx (::simt::block_index())
#define blockDim (::simt::block_size())
#define gridDim (::simt::grid_size())
#define warpSize 32

inline void __syncthreads() { simt::barrier(false); }
inline int __syncthreads_or(int predicate) { return simt::barrier(predicate != 0).any; }
inline int __syncthreads_and(int predicate) { return simt::barrier(predicate != 0).all; }
inline int __syncthreads_count(int predicate) { return simt::barrier(predicate != 0).count; }
