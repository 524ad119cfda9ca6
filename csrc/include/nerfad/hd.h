// What every kernel header needs: the host/device marker and nothing else.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define NERFAD_HD __host__ __device__ __forceinline__
#else
// Always inlined: units compiled for different instruction sets must not share one copy.
#define NERFAD_HD inline __attribute__((always_inline))
#endif
