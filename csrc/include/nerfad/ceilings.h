// What a core can do at best: tight loops that the benchmark measures its roofs with. Each runs for some time
// on the calling thread and returns the work that it did: floating-point operations, bytes or gathers.
#pragma once
#include <cstdint>

namespace nerfad {

struct CeilingBuffer {
  float* data;  // a power of two of floats, at least 1024
  int64_t n;
};

using CeilingLoop = double (*)(const CeilingBuffer& buffer, int64_t iterations);

struct Ceiling {
  const char* name;  // "fma avx2", "dot avx512bf16", "read avx2", "gather avx512", ...
  CeilingLoop loop;
};

// The n-th loop that this machine can run; its loop is null behind the last one.
Ceiling ceiling(int n);

}  // namespace nerfad
