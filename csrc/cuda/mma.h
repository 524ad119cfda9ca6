// The tensor-core instructions in use, as functions: inline PTX on the device, the emulator's functions in
// tests. Registers as in PTX's mma.m16n8k16: with g = lane / 4 and q = 2 * (lane % 4),
//   a[0] = A[g][q..q+1], a[1] = A[g+8][q..], a[2] = A[g][q+8..], a[3] = A[g+8][q+8..]      A [16, 16] by rows
//   b[0] = B[q..q+1][g], b[1] = B[q+8..][g]                                                B [16, 8]
//   d[0..1] = D[g][q..q+1], d[2..3] = D[g+8][q..q+1]                                       D [16, 8] += A B
#pragma once
#include <cstdint>

#include "device.h"

namespace nerfad {

#ifdef NERFAD_EMULATED

inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  simt::mma_m16n8k16<__half>(d, a, b);
}

inline void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  simt::mma_m16n8k16<__nv_bfloat16>(d, a, b);
}

inline void ldmatrix_x4(uint32_t (&out)[4], const void* shared_row) {
  simt::ldmatrix_x4(out, shared_row, false);
}

inline void ldmatrix_x4_trans(uint32_t (&out)[4], const void* shared_row) {
  simt::ldmatrix_x4(out, shared_row, true);
}

#else

__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4],
                                                  const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8x8 matrices of 16-bit values from shared memory: lane l passes the 16-byte-aligned address of row l %
// 8 of matrix l / 8; register i holds two values of matrix i, as mma_m16n8k16 wants them.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&out)[4], const void* shared_row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&out)[4], const void* shared_row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared_row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

#endif

}  // namespace nerfad
