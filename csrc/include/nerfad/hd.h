// What every kernel header needs: the host/device marker and nothing else.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define NERFAD_HD __host__ __device__ __forceinline__
#else
#define NERFAD_HD inline
#endif
